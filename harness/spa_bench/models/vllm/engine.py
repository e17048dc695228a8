"""The vLLM engine: draws and scores by a backend, after a canary has shown that each adapter does what it should."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spa_bench.errors import ModelError
from spa_bench.models.engine import Draw, Drawn, LoraAdapter, Pair, Stage, Target, TargetScores
from spa_bench.models.vllm import canary
from spa_bench.models.vllm.asked import GOES_ON, Answer, Asked, Backend, Opened, drawing, scoring
from spa_bench.models.vllm.offline import Offline
from spa_bench.models.vllm.options import TESTED, ModelFacts, VllmOptions
from spa_bench.models.vllm.over_http import OverHttp
from spa_bench.types import DivergenceSums

Tell = Callable[[str], None]
Logprobs = NDArray[np.float64]


def vllm_engine(
    model: ModelFacts, options: VllmOptions, *, reference: canary.Score | None, tell: Tell = lambda line: None
) -> VllmEngine:
    """The engine that `options` name: over HTTP where they have a base_url, else a process of this machine.

    `reference` is Engine.score of transformers with the same model, None where it cannot be loaded; `tell` shows a line.
    """
    backend: Backend = OverHttp(model, options) if options.base_url else Offline(model, options)
    return VllmEngine(model, backend, reference=reference, tell=tell)


@dataclass(frozen=True)
class _Open:
    """vLLM, opened."""

    adapters: tuple[LoraAdapter, ...]  # that answers may be asked of
    vllm: Opened


class VllmEngine:
    """See spa_bench.models.engine.Engine and `vllm_engine`."""

    def __init__(self, model: ModelFacts, backend: Backend, *, reference: canary.Score | None, tell: Tell = lambda line: None):
        self.name = backend.name
        self._model, self._backend, self._reference, self._tell = model, backend, reference, tell
        self._facts: dict[str, object] | None = None
        self._open: _Open | None = None  # None: closed
        self._told: dict[str, Logprobs] = {}  # of the canary's row by transformers, by the adapter's name
        self.checked: dict[str, canary.Checked] = {}  # what the canary found, by the adapter's name

    @property
    def can(self) -> frozenset[Stage]:
        """See Engine.can: vLLM gives log-probabilities of single tokens, no distributions, and trains nothing."""
        return frozenset({"draw", "score"})

    @property
    def context(self) -> int | None:
        """See Engine.context: one token less than vLLM takes, as what is scored may be a token longer (see models.options)."""
        return min(self._model.context, self._backend.positions - 1)

    def fingerprint(self) -> dict[str, object]:
        """See Engine.fingerprint. It starts vLLM's process or asks the server, and loads no weights."""
        if self._facts is None:
            self._facts = self._backend.facts()
            version = str(self._facts["version"]).partition("+")[0]
            if version != TESTED:
                self._tell(f"vLLM {version} is installed, and {TESTED} is the version that was tested")
        return dict(self._facts)

    def open(self, adapters: Sequence[LoraAdapter]) -> None:
        """See Engine.open. Raises ModelError too where the settings are no longer those of `fingerprint`."""
        self._open = self._opened(adapters)

    def batch_free(self, columns: Sequence[int]) -> bool:
        """See Engine.batch_free: never, as rows of all lengths share vLLM's products. The noise floor says what that does."""
        return False

    def draw(self, draws: Sequence[Draw]) -> Iterator[Drawn]:
        """See Engine.draw. The longest prompts begin first, equal ones together, as they are read once."""
        order = sorted(draws, key=lambda d: (-len(d.prompt), d.adapter.name if d.adapter else "", d.prompt))
        asked = [drawing(d, self._model.ends(d.decoding.stop)) for d in order]
        vllm = self._ready([d.adapter for d in draws])
        for place, answer in self._answers(vllm, asked):
            draw = order[place]
            yield Drawn(key=draw.key, tokens=answer.tokens[: draw.limit], finish=_finish(answer))

    def score(self, targets: Sequence[Target]) -> Iterator[TargetScores]:
        """See Engine.score."""
        yield from self._score(self._ready([t.adapter for t in targets]), targets)

    def divergence(
        self,
        pairs: Sequence[Pair],
        adapters: Sequence[LoraAdapter | None],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums]:
        """See Engine.divergence. Raises ModelError: it is not among what this engine can do."""
        raise ModelError("engine vllm gives no distributions, from which divergences come; measure them with hf")

    def close(self) -> None:
        """See Engine.close."""
        self._open = None
        self._backend.close()

    # ------------------------------------------------------------------------------------------------------------

    def _ready(self, adapters: Collection[LoraAdapter | None]) -> Opened:
        """vLLM, which is opened for `adapters` where that is not so."""
        wanted = {a.name: a for a in adapters if a is not None}
        known = {a.name: a for a in self._open.adapters} if self._open else {}
        if self._open is None or not wanted.keys() <= known.keys():
            self._open = self._opened([*{**known, **wanted}.values()])
        return self._open.vllm

    def _opened(self, adapters: Sequence[LoraAdapter]) -> _Open:
        adapters = tuple({a.name: a for a in adapters}.values())
        before, self._open = self.fingerprint(), None
        wanted = canary.row(self._model.vocabulary, self.context or 1, self._model.ends(()))
        targets = canary.targets(adapters, wanted)
        told = self._by_transformers(targets)  # first: it says in its own words what is wrong with an adapter
        vllm = self._backend.open(adapters)
        if changed := [n for n, value in self._backend.facts().items() if before.get(n) != value]:
            name = changed[0]
            now = self._backend.facts()[name]
            raise ModelError(
                f"vLLM is not what this run began with: {name} is {now!r} and was {before.get(name)!r}; "
                f"start it as before, or begin another run"
            )
        if vllm.anew:
            self._sing(vllm, adapters, targets, wanted=wanted, told=told)
        return _Open(adapters, vllm)

    def _by_transformers(self, targets: Sequence[Target]) -> dict[str, Logprobs] | None:
        """The canary's row by transformers, read once for each adapter; None where it has no model."""
        if self._reference is None:
            return None
        if new := [t for t in targets if t.name not in self._told]:
            self._told |= canary.logprobs(self._reference, new)
        return {t.name: self._told[t.name] for t in targets}

    def _answers(self, vllm: Opened, asked: Sequence[Asked]) -> Iterator[tuple[int, Answer]]:
        try:
            yield from vllm.answers(asked)
        except ModelError:
            self._open = None  # what vLLM holds is gone, or not known
            raise

    def _score(self, vllm: Opened, targets: Sequence[Target]) -> Iterator[TargetScores]:
        asked = [scoring(t, self._backend.prompt) for t in targets]
        for place, answer in self._answers(vllm, asked):
            target = targets[place]
            read = (*answer.prompt, *answer.drawn) if "logprobs" in asked[place].sampling else answer.prompt
            count = len(target.tokens)
            if len(read) != len(target.context) + count - 1:
                raise ModelError(f"vLLM scored {len(read)} tokens, not {len(target.context) + count - 1}; {GOES_ON}")
            found = np.array(read[-count:], np.float64)
            yield TargetScores(name=target.name, logprobs=found[:, 0], ranks=found[:, 1].astype(np.int64))

    def _sing(
        self,
        vllm: Opened,
        adapters: Sequence[LoraAdapter],
        targets: Sequence[Target],
        *,
        wanted: tuple[tuple[int, ...], tuple[int, ...]],
        told: dict[str, Logprobs] | None,
    ) -> None:
        """The canary. Raises ModelError, and closes, where an adapter is not right."""
        try:
            seen = canary.logprobs(partial(self._score, vllm), [*targets] * canary.COPIES, near=told)
            if told is None:
                self._tell(
                    "vLLM's adapters are not compared with transformers, which has no model here: whether each has an effect "
                    "is all that is looked at"
                )
                told = seen
                dead = [a for a in adapters if np.abs(seen[a.name] - seen[""]).max() <= canary.LEAST]
                if dead:
                    raise ModelError(
                        f"the adapter in {dead[0].folder} changes nothing in vLLM, as adapters do whose modules it does not "
                        f"know by name; name its modules as the model does"
                    )
            self.checked = canary.check(adapters, wanted, hf=told, vllm=seen, dtype=self._coarsest())
        except ModelError:
            self.close()
            raise
        for name in [name for name, one in self.checked.items() if not one.measurable]:
            one = self.checked[name]
            self._tell(
                f"{name} changes log-probabilities of seeded tokens by {one.effect:.2g} nats, and noise between vLLM and "
                f"transformers allows {one.tolerance:.2g}: whether vLLM applies it cannot be told"
            )

    def _coarsest(self) -> str:
        """The dtype with the fewest digits, of the model's and vLLM's."""
        both = {self._model.dtype, str(self.fingerprint().get("dtype", self._model.dtype))}
        return max(both & canary.SAME_MODEL.keys(), key=lambda d: canary.SAME_MODEL[d], default="bfloat16")


def _finish(answer: Answer) -> Literal["stop", "length"]:
    if answer.finish == "stop":
        return "stop"
    if answer.finish == "length":
        return "length"
    raise ModelError(f"vLLM ended an answer with {answer.finish!r}, which is neither stop nor length; {GOES_ON}")
