"""One run to do: its parts, the checks before anything is computed, and its spec."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace

from spa_bench.cards.guard import built, check_own_task, checked_by
from spa_bench.cards.objects import is_object
from spa_bench.cards.registry import is_ours
from spa_bench.cards.sampler import SamplerCard, said_decoding
from spa_bench.cards.source import code_of, hashes
from spa_bench.cards.task import Placed, TaskCard, load_task_card
from spa_bench.cards.training import DataCard
from spa_bench.errors import UsageError
from spa_bench.models.base import ChatModel, Model, PairEncoder, ServesMembers, takes_messages
from spa_bench.models.engine import check_decoding
from spa_bench.models.given import said
from spa_bench.models.learned import named_similarity
from spa_bench.runs.folder import TASK_FILE, RunFolder
from spa_bench.runs.noise_floor import MOST, problems_for
from spa_bench.runs.origins import check_apart
from spa_bench.runs.spec import RunSpec
from spa_bench.samplers.base import merging_of, sampler_kind
from spa_bench.samplers.mixture import decoding_of
from spa_bench.sandbox import NOT_NEEDED
from spa_bench.spa.data import bare_targets, named
from spa_bench.spa.training_data import TrainingData
from spa_bench.support import provenance
from spa_bench.tasks.base import Asking, Task, task_kind
from spa_bench.tasks.shuffled import shuffled
from spa_bench.types import Json, Messages

# of [data]: in a spec only where they are not as usual, so that earlier runs keep their hash
_SPARSE = ("decontaminate", "labels", "unusable")


def check_limit(limit: int | None, *, first: bool = False) -> None:
    """Raises UsageError for a limit that leaves no problem, and for `first` without a limit."""
    if limit is None and first:
        raise UsageError("--first says which problems --limit takes; give --limit L too")
    if limit is not None and limit < 1:
        raise UsageError(f"limit is {limit}; it must be at least 1")


def limited(card: TaskCard, limit: int | None, given: Mapping[str, object], *, first: bool) -> TaskCard:
    """`card` in the order of which `limit` problems are the first: one of a seed, with every tag in proportion.

    `first`: the order of the data. Without a limit, or where the card itself has a seed for the order, the card is as it is.
    `given`: the settings of the user, in which `shuffle` chooses another seed, and `stratify` whether tags count. Raises
    UsageError for `first` beside a `shuffle`.
    """
    if limit is None:
        return card
    if first:
        if "shuffle" in given:
            raise UsageError("--first takes the order of the data, and task.shuffle sets another; give one of them")
        return card
    if card.shuffle is not None and "shuffle" not in given:
        return card
    return replace(card, shuffle=card.shuffle or 0, stratify=card.stratify if "stratify" in given else True)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run to do."""

    sampler: SamplerCard
    task: TaskCard
    n: int
    seed: int
    limit: int | None = None
    sandbox: str = "bwrap"
    grading: str = "default"
    noise_floor: bool | int | None = None  # None: where numerics can move a text (Model.batch_free); a number of problems
    embedding: dict[str, object] = field(default_factory=dict)  # what Embedder.describe gives; empty: no embedding kernel
    metrics: tuple[str, ...] = ()  # of the user's own, package.module:METRIC
    engine: Json = field(default_factory=dict)  # beside hf, as Chosen.spec of runs.engines gives it
    files: DataCard | None = None  # the paths of the card's files of pairs on this machine; None: the card's own paths
    targets: str | None = None  # likewise of the targets of its synthesis

    @property
    def placed(self) -> SamplerCard:
        """The sampler's card with the paths of its files."""
        card = self.sampler if self.files is None else replace(self.sampler, data=self.files)
        return card if self.targets is None else replace(card, synthesize=replace(card.synthesize, targets=self.targets))


def load_task(card: TaskCard) -> Task:
    """The task of `card`, its problems loaded."""
    needs = [name for name in (*Task.__annotations__, *vars(Task)) if not name.startswith("_")]
    kind = task_kind(card.kind)
    task = built("task", card.kind, lambda: kind.build(card), needs)
    if not is_ours("task", card.kind):
        check_own_task(task, card.kind)
    return task if card.shuffle is None else shuffled(task, card.shuffle, stratify=card.stratify)


def by_rules(card: TaskCard, rules: str, given: Mapping[str, object]) -> TaskCard:
    """`card` as the rules of grading want it: evalplus' go with its sanitiser, unless the settings `given` name one."""
    if rules != "evalplus" or card.kind != "code" or card.sanitiser != "program" or "sanitiser" in given:
        return card
    return replace(card, sanitiser="evalplus")


def asked_card(name: str, settings: Mapping[str, object], *, limit: int | None, first: bool, rules: str) -> TaskCard:
    """The card of the task `name` as a command asks for it: in the order that the limit wants, by the rules of grading."""
    return by_rules(limited(load_task_card(name, settings), limit, settings, first=first), rules, settings)


def with_prompts(card: TaskCard, model: Model) -> TaskCard:
    """`card` with prompts of "auto" as `model` gets them: by its chat template where it has one, as evalplus asks."""
    if card.prompt != "auto":
        return card
    plain, chat = prompted(card)
    return chat if takes_messages(model) else plain


def prompted(card: TaskCard) -> tuple[TaskCard, ...]:
    """`card` as models may get it: with prompts of "auto" as texts, and by a chat template; else as it is."""
    if card.prompt != "auto":
        return (card,)
    return replace(card, prompt="completion"), replace(card, prompt="instruct")


def task_for(card: TaskCard, task: Task, model: Model) -> tuple[TaskCard, Task]:
    """`card`, whose task is loaded, as `model` is asked, and the task of that card."""
    settled = with_prompts(card, model)
    return settled, task if settled == card else load_task(settled)


def check_draws(card: SamplerCard, n: int) -> None:
    """Raises UsageError unless `n` is a positive multiple of the members and the card's kind allows it."""
    if n < 1:
        raise UsageError(f"n is {n}; it must be at least 1")
    if n % card.members:
        raise UsageError(f"n is {n}, but {card.name} has {card.members} members: n must be a multiple of {card.members}")
    checked_by("sampler", card.kind, "check_n()", lambda: sampler_kind(card.kind).check_n(card, n))


def check_task(card: SamplerCard, task: Task, model: Model, limit: int | None, *, kind: str) -> Asking:
    """The prompts and options of the first `limit` problems of a `kind` of task for `model`, checked before any training.

    Raises UsageError where the task refuses the model, no prompt or some options do not fit the context, the sampler's kind
    cannot continue after a choice, cannot answer the problems or lacks something else, or its similarity was learned on these
    problems. Raises ModelError where the kind refuses the model, the model cannot draw as the card wants, or messages need a
    chat template that it lacks.
    """
    sampler = sampler_kind(card.kind)
    asking = checked_by("task", kind, "asked_by()", lambda: task.asked_by(model, limit))
    check_apart(card, task, [p.problem_id for p in asking.prompts])
    _check_stages(card, asking, model)
    _check_served(card, model)
    check_decoding(f"model {model.name!r}", model, decoding_of(card))
    if asking.asked and not sampler.goes_on:
        raise UsageError(
            f"{task.name} is multiple choice, and {card.name} (kind {card.kind!r}) cannot continue after a choice: it draws "
            f'whole answers; use a sampler of kind "mixture", such as single, temperature or spa-influence'
        )
    if asking.asked:
        model.check_options(asking.asked)
    checked_by("sampler", card.kind, "check_model()", lambda: sampler.check_model(card, model))
    checked_by("sampler", card.kind, "check_prompts()", lambda: sampler.check_prompts(card, asking.prompts))
    if isinstance(model, ChatModel) and any(p.messages for p in asking.prompts):
        model.check_chat()
    _check_room(asking, task, model)
    return asking


def _check_stages(card: SamplerCard, asking: Asking, model: Model) -> None:
    """Raises UsageError where the run needs a stage that no engine of `model` can do."""
    if card.trains and (why := model.unable.get("train")):
        raise UsageError(f"{card.name} trains adapters, and {model.name} cannot be trained here: {why}; use a sampler without")
    if asking.asked and (why := model.unable.get("score")):
        raise UsageError(f"this task scores options, and {model.name} cannot do that here: {why}")


def _check_served(card: SamplerCard, model: Model) -> None:
    """Raises UsageError where the card's members are models of a server and `model` is none; ModelError where it lacks one."""
    if card.served and not isinstance(model, ServesMembers):
        raise UsageError(
            f"{card.name} draws from {', '.join(card.served)} on a server, and {model.name} is no server; use --engine openai"
        )
    if isinstance(model, ServesMembers):
        model.check_served(card.served)


def _check_room(asking: Asking, task: Task, model: Model) -> None:
    """Raises UsageError where all prompts without options are too long; it looks no further than the first that fits."""
    lengths = []
    for length in _prompt_tokens(asking, model):
        if length < model.context:
            return
        lengths.append(length)
    if lengths:
        raise UsageError(
            f"no prompt of {task.name} fits the context of {model.context} tokens: the shortest has {min(lengths)}, and an "
            f"answer needs one more; give a larger --context, or a model with a longer one"
        )


def _prompt_tokens(asking: Asking, model: Model) -> Iterator[int]:
    """The tokens of each prompt that has no options; none for a model whose tokenizer cannot be used."""
    if isinstance(model, PairEncoder):
        asked = {one.problem_id for one in asking.asked}
        yield from (len(model.encode_pair(p.messages or p.text, "")[0]) for p in asking.prompts if p.problem_id not in asked)


def crowded(asking: Asking, model: Model) -> list[str]:
    """A line of the plan where some prompts leave no room for an answer in the context; else no line."""
    lengths = list(_prompt_tokens(asking, model))
    over = sum(length >= model.context for length in lengths)
    return [
        f"context: {over} of {len(lengths)} prompts leave no room for an answer in {model.context} tokens; their answers fail"
    ] * bool(over)


def sampler_spec(card: SamplerCard) -> dict[str, object]:
    """The sampler in a spec: the card without its description and, where nothing is trained, without the training tables."""
    sampler: Json = {k: v for k, v in asdict(replace(card, data=named(card.data))).items() if k != "description"}
    sampler["decoding"] = said_decoding(card.decoding)
    if how := merging_of(card):
        sampler["options"]["given"] = [said(place) for place in how.given]
        if how.anchor not in {"all", "base", "none"}:
            sampler["options"]["anchor"] = said(how.anchor)
    if similarity := sampler_kind(card.kind).wants(card).similarity:
        sampler["options"]["similarity"] = named_similarity(similarity)
    for key in ("served", "sources"):  # so that cards without them keep their hash
        if not sampler[key]:
            del sampler[key]
    if not card.trains:
        return {k: v for k, v in sampler.items() if k not in {"lora", "attribution", "partition", "data", "synthesize"}}
    if not card.synthesizes:
        del sampler["synthesize"]
    else:
        sampler["synthesize"]["targets"] = bare_targets(card.synthesize.targets)
    usual = DataCard()
    sampler["data"] = {k: v for k, v in sampler["data"].items() if k not in _SPARSE or v != getattr(usual, k)}
    return sampler


def said_spec(job: Job, task: Task) -> RunSpec:
    """The part of a run's spec that is known before its model and data are loaded; the rest is empty."""
    return RunSpec(
        sampler=sampler_spec(job.sampler),
        task=described(task, job.task),
        model={},
        data={},
        n=job.n,
        seed=job.seed,
        limit=job.limit,
        numerics={},
        engine=job.engine,
        engines={},
        unable={},
        sandbox=job.sandbox if task.runs_code else NOT_NEEDED,
        grading=job.grading,
        versions=provenance.versions(),
        code=code_of(asdict(job.sampler), asdict(job.task), job.metrics, job.engine),
        noise_floor=False,
        embedding=job.embedding,
        metrics=hashes(job.metrics),
    )


def described(task: Task, card: TaskCard) -> dict[str, object]:
    """The task in a spec; one that was given as an object is named as that, whatever it says of itself."""
    return {**task.describe(), "kind": card.kind} if is_object(card.kind) else task.describe()


def make_spec(job: Job, task: Task, asking: Asking, model: Model, data: TrainingData) -> RunSpec:
    """Everything that can change a number of this run."""
    return replace(
        said_spec(job, task),
        model=model.describe(),
        data=data.describe(job.sampler) if data.examples else {},
        numerics=model.numerics(),
        engines=model.engines,
        unable={str(stage): why for stage, why in model.unable.items()},
        noise_floor=noise_problems(job, len(asking.prompts), lambda: model.batch_free(longest_texts(asking))),
    )


def noise_problems(job: Job, problems: int, batch_free: Callable[[], bool]) -> bool | int:
    """The problems of the noise floor; False where none is needed or wanted, 0 where too few answers would pay for it."""
    wanted = job.noise_floor
    if wanted is True:
        return min(MOST, problems)
    if wanted is None:
        return False if batch_free() else problems_for(problems, job.n)
    return wanted


def longest_texts(asking: Asking) -> list[tuple[str | Messages, int]]:
    """(the longest text before an answer to each prompt, new tokens): a prompt with options counts its longest option."""
    options = {one.problem_id: max(map("".join, one.options), key=len) for one in asking.asked}
    return [(options.get(p.problem_id) or p.messages or p.text, p.max_new_tokens) for p in asking.prompts]


def remember_places(folder: RunFolder, file: str, card: TaskCard | None) -> None:
    """Write where the task's problems lie on this machine: `file`, where it is not "", and the files in the card's options."""
    if file:
        folder.write_json(TASK_FILE, {"file": file})
    if card and isinstance(card.options, Placed) and (places := card.options.places()):
        folder.write_json(TASK_FILE, places)


def run_name(job: Job, task: Task) -> str:
    """The beginning of the name of a run's folder."""
    return f"{task.name}-{job.sampler.name}-s{job.seed}"
