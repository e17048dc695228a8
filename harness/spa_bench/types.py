"""The nouns that folders from `metrics/` and `models/` up to the command line share.

A sampler is a mixture of members; a member is an adapter (or none) and a decoding. A task turns problems into
requests, a model turns requests into completions, the task turns completions into grades, metrics turn grades and
texts into estimates. Nouns that fewer folders share stand with the first that needs them: the spec of a run in
`runs/spec.py`, a judge model's reply in `tasks/judgement.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:  # the command line starts without numpy
    import numpy as np
    from numpy.typing import NDArray

Messages = tuple[tuple[str, str], ...]
"""(role, text) of each turn, for chat models. When the last is the assistant's, it is how the answer begins."""

Finish = Literal["stop", "length", "skipped", "failed"]
"""How a completion ended; skipped: the prompt does not fit the context."""

Json: TypeAlias = dict[str, Any]
"""A JSON object, a run's spec among them: its values are of the types that the file has, which the reader knows or checks."""


class Verdict(StrEnum):
    """How one sample ended in its tests."""

    PASSED = "passed"
    WRONG = "wrong"  # ran, an assertion failed
    RAISED = "raised"  # another exception, a syntax error included
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASHED = "crashed"  # the process died or left before its tests were done
    REFUSED = "refused"  # not run: no text to run
    UNJUDGED = "unjudged"  # neither right nor wrong: the problem has no right answer


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How text is drawn from a model. Every knob that alters text is here."""

    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0  # nucleus, in (0, 1]
    top_k: int = 0  # 0: off
    min_p: float = 0.0  # 0: off
    max_new_tokens: int = 512
    stop: tuple[str, ...] = ()  # the text is cut before the first of these; a special token may be one
    typical_p: float = 1.0  # locally typical sampling, in (0, 1]; 1: off
    epsilon_cutoff: float = 0.0  # 0: off
    eta_cutoff: float = 0.0  # 0: off
    top_n_sigma: float = 0.0  # standard deviations of the logits; 0: off
    mirostat_tau: float = 0.0  # bits a token; 0: off
    mirostat_eta: float = 0.1  # mirostat's learning rate

    @property
    def rare(self) -> tuple[str, ...]:
        """The knobs in use that not every engine has, by name: those beside temperature, top-p, top-k and min-p."""
        return tuple(name for name in RARE if getattr(self, name) != getattr(Decoding, name))


RARE = ("typical_p", "epsilon_cutoff", "eta_cutoff", "top_n_sigma", "mirostat_tau")
"""The knobs of Decoding.rare."""


@dataclass(frozen=True)
class Member:
    """One voice of a sampler."""

    name: str
    adapter: Path | None  # folder in PEFT's format; None: the base model
    decoding: Decoding
    served: str = ""  # the name under which a server has this member; "": `adapter` says which it is


@dataclass(frozen=True, kw_only=True)
class CallSuite:
    """Tests that are data: arguments on which a program must return what the reference returns."""

    name: str  # "base" or "plus"
    inputs: Callable[[], Sequence[Sequence[object]]]  # one list of arguments a test; called when they are needed
    oracle: str = "equal"  # how results are compared: a name in spa_bench.grading.compare.ORACLES
    atol: float = 0.0  # absolute tolerance
    identity: str = ""  # names the inputs, as a hash of where they come from; "": they are hashed themselves


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem of a task."""

    id: str
    prompt: str  # what a base model continues
    reference: str = ""  # a right continuation; the context on which divergence is measured
    tests: str = ""  # for code: source that defines check(candidate)
    entry_point: str = ""  # for code: the function under test
    tags: tuple[str, ...] = ()
    suites: tuple[CallSuite, ...] = ()  # for code: tests that are data; they take the place of `tests`
    choices: int | None = None  # of a multiple-choice problem: how many there are to guess from
    right: int = 1  # how many of these are right


@dataclass(frozen=True)
class Asked:
    """A multiple-choice problem as a model is asked."""

    problem_id: str
    options: tuple[tuple[str, str], ...]  # (context, text): log p(text | context); contexts may differ (WinoGrande)
    choices: int  # how many options, the first ones, can be chosen; later ones are only scored (lm-eval's acc_mutual_info)
    cut: bool = False  # too long: cut the context on the left as lm-eval does, instead of an error


@dataclass(frozen=True)
class Example:
    """One training pair: an instruction or signature, and what should follow it."""

    prompt: str
    completion: str
    ending: str | None = None  # after a chat prompt: what the template puts behind an answer; None: no chat


class Key(NamedTuple):
    """What identifies a sample within a run: records, grades and caches are keyed by it."""

    problem: str
    member: int
    draw: int


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a model."""

    problem_id: str
    member: int
    draw: int
    kind: Literal["generate", "loglikelihood"]
    prompt: str
    decoding: Decoding
    seed: int  # 63 bits; see spa_bench.support.seeds.draw_seed
    continuation: str = ""  # for loglikelihood: the text that is scored after the prompt
    messages: Messages = ()  # for chat models, instead of the prompt
    apart: bool = False  # for loglikelihood: continuation and prompt are encoded apart, as a model's own text is

    @property
    def key(self) -> Key:
        """The sample this request asks for."""
        return Key(self.problem_id, self.member, self.draw)


@dataclass(frozen=True, kw_only=True)
class Completion:
    """A model's answer to one request; it depends on that request alone."""

    key: Key
    text: str  # what the model wrote, cut at a stop string
    tokens: int  # new tokens of the text, the end token included
    finish: Finish
    seed: int
    failure: str = ""  # why there is no answer; empty when there is one
    spent: int | None = None  # tokens drawn to get it, those thrown away included; None: `tokens`
    whole: bool = False  # the text is a whole program, not a continuation of the prompt
    choice: int | None = None  # of a multiple-choice problem: the option that was chosen, after which the text goes on
    note: str | None = None  # what went wrong on the way to an answer that is one all the same; metrics.json counts these
    reply: str | None = None  # of a failure: what the model wrote, in which no answer was found


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A line of records.jsonl: a completion and the text that is graded."""

    problem: str
    member: int
    draw: int
    raw: str
    graded: str  # after stop strings and sanitiser: what is executed and compared, without the prompt
    finish: Finish
    tokens: int
    seed: int
    whole: bool = False  # `graded` is a whole program, not a continuation of the prompt
    failure: str = ""  # why there is no answer; such a sample is wrong, and different from nothing
    spent: int | None = None  # tokens drawn to get it, those thrown away included; None: `tokens`
    # of a multiple-choice problem: the option that was chosen. Not written where there is none
    choice: int | None = field(default=None, metadata={"sparse": True})
    note: str | None = field(default=None, metadata={"sparse": True})  # of a completion. Not written where there is none
    reply: str | None = field(default=None, metadata={"sparse": True})  # likewise

    @staticmethod
    def of(completion: Completion, graded: str, *, whole: bool = False) -> Record:
        """The line for `completion`: `graded` is what is executed and compared of its text."""
        c = completion
        return Record(
            problem=c.key.problem,
            member=c.key.member,
            draw=c.key.draw,
            raw=c.text,
            graded=graded,
            finish=c.finish,
            tokens=c.tokens,
            seed=c.seed,
            whole=whole,
            failure=c.failure,
            spent=c.spent,
            choice=c.choice,
            note=c.note,
            reply=c.reply,
        )

    @property
    def key(self) -> Key:
        """The sample this record holds."""
        return Key(self.problem, self.member, self.draw)

    @property
    def completion(self) -> Completion:
        """The completion that `of` made this line of; whether it was a whole program is not known any more."""
        return Completion(
            key=self.key,
            text=self.raw,
            tokens=self.tokens,
            finish=self.finish,
            seed=self.seed,
            failure=self.failure,
            spent=self.spent,
            choice=self.choice,
            note=self.note,
            reply=self.reply,
        )


@dataclass(frozen=True, kw_only=True)
class Choices:
    """A line of choices.jsonl: what every member thinks of each option of one multiple-choice problem."""

    problem: str
    logprobs: list[list[float]]  # (K, O): log-probability in nats of each option's text after its context
    greedy: list[list[bool]]  # (K, O): whether that text is what greedy decoding writes there
    tokens: list[int]  # (O,): tokens of each option's text
    matrices: dict[str, list[list[float]]]  # kl and js, [choices] and [first]: (K, K), nats; see metrics.choices
    members: dict[str, list[float]]  # entropy[choices], entropy[first]: (K,), nats

    @property
    def key(self) -> str:
        """The problem."""
        return self.problem


@dataclass(frozen=True, kw_only=True, slots=True)
class Grade:
    """A line of grades.jsonl: the verdict on one sample."""

    problem: str
    member: int
    draw: int
    verdict: Verdict
    message: str = ""  # short, for a reader: the failing assertion or exception
    call: str = ""  # arguments of the first call that failed, shortened
    suite: str = ""  # for tests that are data: the suite that failed; those before it passed
    mark: str = ""  # "one process": tests and program ran together; "unproxied": they would have had to
    # of an answer that is neither right nor wrong: its judged quality, 1 to 10. Not written where there is none
    quality: float | None = field(default=None, metadata={"sparse": True})

    @property
    def key(self) -> Key:
        """The sample this grade judges."""
        return Key(self.problem, self.member, self.draw)


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """A line of divergence.jsonl: how far apart the members' distributions are on one problem's context."""

    problem: str
    tokens: int  # of the context, the end token included; 0: it does not fit the model, or no engine measures divergence
    matrices: dict[str, list[list[float]]]  # kl, js, tv, renyi[...]: (K, K), means over tokens, nats but for tv
    members: dict[str, list[float]]  # entropy, top-k entropy and mass, kl_to_base: (K,), means over tokens
    overall: dict[str, float]  # of all members together: js[all]; kl[noise] where the first member was read twice

    @property
    def key(self) -> str:
        """The problem."""
        return self.problem


@dataclass(frozen=True, eq=False, kw_only=True)
class DivergenceSums:
    """Sums over the T tokens of one continuation, from which all divergences between K members follow. float64, nats.

    p_i are the probabilities of member i; inner sums are over the vocabulary. See spa_bench.metrics.divergence.of_sums.
    """

    tokens: int  # T
    top_k: int  # the k of `top`
    cross: NDArray[np.float64]  # (K, K) sum p_i log p_j
    never: NDArray[np.float64]  # (K, K) probability that i gives to tokens to which j gives none
    tv: NDArray[np.float64]  # (K, K) sum |p_i - p_j|, i < j
    pairs: NDArray[np.float64]  # (K, K) sum (p_i + p_j) log(p_i + p_j), i < j
    renyi: dict[float, NDArray[np.float64]]  # order a -> (K, K) sum over tokens of log(affinity), sum p_i^a p_j^(1-a)
    amari: dict[float, NDArray[np.float64]]  # order a -> (K, K) sum over tokens of 1 - affinity
    top: NDArray[np.float64]  # (2, K) entropy and mass of the k likeliest tokens
    base: NDArray[np.float64] | None  # (2, K) sum p_i log p_base; probability given to tokens to which the base gives none
    mixture: float  # sum p log p of the mean of the members
    noise: float | None = None  # KL a token between the first member and itself in other company; None: not read again


@dataclass(frozen=True, kw_only=True, slots=True)
class Behaviour:
    """A line of behaviours.jsonl: what one program did on the probes of its problem, right or not."""

    problem: str
    member: int
    draw: int
    digest: str  # 16 hex digits, equal for programs that do the same on every probe; "": not known
    ran: bool  # it loaded, and on every probe returned a value, or raised where the reference raises
    right: int  # probes that it answered as the reference does
    probes: int  # inputs that it was called on; 0: the problem has none, or there was nothing to run

    @property
    def key(self) -> Key:
        """The sample this is the behaviour of."""
        return Key(self.problem, self.member, self.draw)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, or None with the reason why there is none. Never NaN."""

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0  # problems behind the value
    reason: str = ""  # why the value or the interval is missing

    @staticmethod
    def missing(reason: str) -> Estimate:
        """No value, and why."""
        return Estimate(value=None, low=None, high=None, n=0, reason=reason)


@dataclass(frozen=True)
class Begun:
    """An answer that is begun: the choice of a multiple-choice problem is made, and the model goes on writing after it."""

    text: str  # what the model goes on from: context and text of the chosen option
    choice: int


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What a task asks a model to continue."""

    problem_id: str
    text: str
    max_new_tokens: int
    stop: tuple[str, ...]
    messages: Messages = ()  # for chat models, instead of the text
    begun: Mapping[tuple[int, int], Begun] = field(default_factory=dict)  # (member, draw) -> where it goes on; else `text`
    program: bool = False  # an answer is a program, which `text` begins
