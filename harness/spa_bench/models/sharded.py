"""One model in several workers: requests are spread over them in shards, and answers come as shards finish.

The driver keeps the tokenizer and no weights. All workers must have the same weights, numerics and code: what they answer is
what one process would answer, byte for byte where the model is batch-free, within the noise floor elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from spa_bench.errors import ModelError
from spa_bench.executors.base import Workers
from spa_bench.models.acts import (
    Facts,
    answers,
    beams,
    facts_of,
    is_batch_free,
    keep,
    keep_adapter,
    likelihoods,
    lora_note_of,
    options_of,
    other_software,
    peft_differs_of,
    rolling_of,
    software,
    sums_of,
)
from spa_bench.models.answers import Tokenized
from spa_bench.models.base import Batches, Beams, OptionScores
from spa_bench.models.beams import BeamSearch
from spa_bench.models.engine import Stage
from spa_bench.models.options import ROWS as _OPTION_ROWS
from spa_bench.models.options import TOKENS as _OPTION_TOKENS
from spa_bench.models.options import groups
from spa_bench.models.spread import Group, Station, own_name
from spa_bench.support import provenance
from spa_bench.types import Asked, Completion, Decoding, DivergenceSums, Member, Messages, Request

if TYPE_CHECKING:
    from torch import nn

    from spa_bench.models.hf.stacked_lora import StackedLinear

Result = TypeVar("Result")

# Requests in a shard, fewest and most. A shard is what a worker that dies loses, and its last rows end alone.
_REQUESTS = {"cpu": (16, 128), "cuda": (64, 2048)}
_SHARDS = 4  # for each worker, where there are enough requests: so that none waits long for another at the end


class ShardedModel(Tokenized):
    """See spa_bench.models.base.Model, StageModel and spa_bench.models.spread.SpreadModel.

    `sends` says whether adapters are sent to the workers, which may not see the driver's files; `cores` are those of each
    worker. Raises ModelError where two workers differ.
    """

    def __init__(self, workers: Workers[Station], *, sends: bool, cores: int = 1):
        self.workers, self._sends, self.cores = workers, sends, cores
        self._seen: list[tuple[str, Facts]] = []  # the first worker's
        workers.everywhere(facts_of, check=self._agree)
        [(_, facts)] = self._seen
        super().__init__(facts.codec, facts.context)
        self.name, self._facts = facts.name, facts
        self.notes = (*facts.notes, f"{workers.count} workers hold the model")
        self._sent: dict[Path, str] = {}  # adapter -> hash of the files that the workers have
        self._refused = self._together = 0
        self._kind = "cpu" if facts.training["device"] == "cpu" else "cuda"

    def _agree(self, worker: str, facts: Facts) -> None:
        if not self._seen:
            if difference := other_software(software(), facts.software):  # the spec has the versions of this process
                raise ModelError(
                    f"this process and {worker} differ ({difference}), so the spec would not say what made the answers: give "
                    "both the same versions"
                )
            self._seen.append((worker, facts))
        elif difference := self._seen[0][1].differs(facts):
            raise ModelError(
                f"{self._seen[0][0]} and {worker} differ ({difference}), so their answers are not those of one model: give "
                "workers of one kind"
            )

    # what it is ------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, object]:
        """See Model.describe."""
        return self._facts.about

    @property
    def commit(self) -> str | None:
        """See HubModel.commit: that of the first worker; the hashes of all are the same."""
        return self._facts.commit

    def numerics(self) -> dict[str, object]:
        """See Model.numerics: those of each worker."""
        return self._facts.numerics

    def training_numerics(self) -> dict[str, object]:
        """See StageModel.training_numerics."""
        return self._facts.training

    @property
    def engines(self) -> dict[str, str]:
        """See Model.engines."""
        return self._facts.engines

    @property
    def unable(self) -> Mapping[Stage, str]:
        """See Model.unable."""
        return self._facts.unable

    def batches(self) -> Batches:
        """See Model.batches: refusals in all answers so far, and the most rows that one worker decoded together."""
        return Batches(self._facts.rows, self._refused, self._together)

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """See Model.batch_free."""
        return self._one(partial(is_batch_free, prompts=list(prompts)))

    # workers ---------------------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """See SpreadModel.count."""
        return self.workers.count

    def spread(self, acts: Iterable[Callable[[Station], Result]]) -> Iterator[tuple[int, Result]]:
        """See SpreadModel.spread."""
        return self.workers.each(acts)

    def left(self, act: Callable[[Station], None], undo: Callable[[Station], None]) -> AbstractContextManager[None]:
        """See SpreadModel.left."""
        return self.workers.lasting(act, undo)

    def close(self) -> None:
        """See Model.close: the workers end, and with them a cluster of Ray that was started for them."""
        self.workers.close()

    def _one(self, act: Callable[[Station], Result]) -> Result:
        [(_, result)] = self.workers.each([act])
        return result

    def _send(self, members: Sequence[Member]) -> None:
        """Send the adapters of `members` that the workers lack."""
        for folder in dict.fromkeys(m.adapter for m in members if m.adapter is not None and self._sends):
            if self._sent.get(folder) != (name := provenance.hash_folder(folder)):
                files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
                self.workers.first(partial(keep_adapter, folder=folder, name=name, files=files))
                self._sent[folder] = name

    # acts ------------------------------------------------------------------------------------------------------

    def check_decoding(self, decoding: Decoding) -> None:
        """See ChecksDecoding: the workers draw by engine hf, which does them all."""

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. A shard has all draws of some problems, so that a prompt is read once, or some of one problem."""
        self._send(members)
        fewest, most = _REQUESTS[self._kind]
        parts = request_shards(requests, _size(len(requests), self.workers.count, fewest, most))
        acts = (partial(answers, requests=part, members=list(members)) for part in parts)
        for _, (completions, batches) in self.workers.each(acts):
            self._refused += batches.refused
            self._together = max(self._together, batches.together)
            yield from completions

    def diverse_beams(self, requests: Sequence[Request], member: Member, search: BeamSearch) -> Iterator[Beams]:
        """See BeamModel.diverse_beams."""
        self._send([member])
        parts = request_shards(requests, _size(len(requests), self.workers.count, 1, 64))
        for _, found in self.workers.each(partial(beams, requests=part, member=member, search=search) for part in parts):
            yield from found

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """See Model.divergence: one group, which one worker measures."""
        for sums in self.divergences([Group(list(contexts), again)], members, base=base, top=top):
            yield from sums

    def divergences(
        self, groups: Sequence[Group], members: Sequence[Member], *, base: bool, top: int
    ) -> Iterator[list[DivergenceSums | None]]:
        """See SpreadModel.divergences."""
        self._send(members)
        waiting: dict[int, list[DivergenceSums | None]] = {}
        following = 0
        acts = (partial(sums_of, group=group, members=list(members), base=base, top=top) for group in groups)
        for number, sums in self.workers.each(acts):
            waiting[number] = sums
            while following in waiting:
                yield waiting.pop(following)
                following += 1

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """See Model.option_scores. Problems are read in the groups of one process, so that the bytes are the same.

        A group that a shard cuts is read twice.
        """
        self._send(members)
        k = len(members)
        most = max(1, (self._facts.rows or _OPTION_ROWS[self._kind]) // k)
        together = groups(self.encoded(asked), most, max(1, _OPTION_TOKENS[self._kind] // k))
        missing = [names for group in together if (names := {p.problem for p in group}) - set(done)]
        shard = _size(len(missing), self.workers.count, 1, len(missing))
        parts = (set().union(*missing[i : i + shard]) - set(done) for i in range(0, len(missing), shard))
        # a group is read whole, whatever is wanted of it, and which group a problem is in depends on all of them
        name = own_name("options")
        with self.left(partial(keep, name=name, value=list(asked)), partial(keep, name=name, value=None)):
            acts = (partial(options_of, name=name, members=list(members), wanted=part) for part in parts)
            for _, scores in self.workers.each(acts):
                yield from scores

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """See Model.loglikelihood: what one member scores is a shard."""
        self._send(members)
        numbers = sorted({r.member for r in requests})
        parts = ([r for r in requests if r.member == number] for number in numbers)
        for _, scores in self.workers.each(partial(likelihoods, requests=part, members=list(members)) for part in parts):
            yield from scores

    def rolling(self, request: Request, member: Member) -> float:
        """See HFModel.rolling."""
        self._send([member])
        return self._one(partial(rolling_of, request=request, member=member))

    # training: what spa_bench.spa does by `spread`, it does in the workers -----------------------------------------

    @cached_property
    def network(self) -> nn.Module:
        """A stand-in that raises ModelError where it is used: the weights are in the workers."""
        from spa_bench.models.hf.elsewhere import Elsewhere

        return Elsewhere()

    def lora_layers(self, targets: str | Sequence[str]) -> dict[str, StackedLinear]:
        """Raises ModelError: the layers are in the workers."""
        from spa_bench.models.hf.elsewhere import refusal

        raise refusal()

    def lora_note(self, targets: str | Sequence[str]) -> str:
        """See LoraTrainable.lora_note."""
        return self._one(partial(lora_note_of, targets=targets))

    def peft_differs(self, folder: Path) -> str:
        """See StageModel.peft_differs."""
        self._send([member := Member("adapter", folder, Decoding())])
        return self._one(partial(peft_differs_of, member=member))


# Shards ----------------------------------------------------------------------------------------------------------


def _size(count: int, workers: int, fewest: int, most: int) -> int:
    """Items of a shard, such that each worker gets _SHARDS shards, within bounds."""
    return max(1, fewest, min(most, -(-count // (workers * _SHARDS))))


def request_shards(requests: Sequence[Request], size: int) -> Iterator[list[Request]]:
    """`requests` in shards of about `size`, those of a problem together, the longest prompts first.

    A problem with more requests than that is a shard by itself, or several.
    """
    problems: dict[str, list[Request]] = {}
    for request in requests:
        problems.setdefault(request.problem_id, []).append(request)
    shard: list[Request] = []
    for mine in sorted(problems.values(), key=lambda rs: (-_length(rs[0]), rs[0].problem_id)):
        if shard and len(shard) + len(mine) > size:
            yield shard
            shard = []
        rest = iter(sorted(mine, key=lambda r: (r.member, r.draw)))
        while part := list(islice(rest, size)):
            if len(part) < size:
                shard += part
            else:
                yield part
    if shard:
        yield shard


def _length(request: Request) -> int:
    return len(request.prompt) + sum(len(text) for _, text in request.messages)
