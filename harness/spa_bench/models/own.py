"""Where a model of one's own begins: a class with one method, or a function from a request to a text."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from spa_bench.errors import ModelError, SpaBenchError
from spa_bench.models.base import Batches, OptionScores
from spa_bench.models.engine import STAGES, Stage
from spa_bench.support.text import before_stop, one_line
from spa_bench.types import Asked, Completion, DivergenceSums, Member, Messages, Request


class ModelDefaults(ABC):
    """Defaults of a Model (spa_bench.models.base) that only draws: it neither trains, scores options nor measures divergence.

    A subclass has `name` and `generate`, and `describe` where the name alone does not say which model it is: a version, a hash
    of weights. A completion must depend on its request and member alone; otherwise `batch_free` gives False, and the run also
    measures how far two answers to one request differ.
    """

    name: str
    context: int = 1 << 30  # tokens of prompt and answer together: as many as there are
    notes: tuple[str, ...] = ()

    @abstractmethod
    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """One completion a request, in any order; see Model.generate."""

    @property
    def engines(self) -> dict[str, str]:
        """It draws, and no engine does the rest."""
        return {**dict.fromkeys(STAGES, "none"), "draw": self.name}

    @property
    def unable(self) -> Mapping[Stage, str]:
        """Why it cannot do the rest."""
        why = f"{self.name} only draws"
        return {stage: why for stage in STAGES if stage != "draw"}

    def describe(self) -> dict[str, object]:
        """Its name: the model's part of a run's spec."""
        return {"name": self.name}

    def numerics(self) -> dict[str, object]:
        """Nothing is known of where it computes."""
        return {}

    def batches(self) -> Batches:
        """It has no batches."""
        return Batches(None, 0)

    def batch_free(self, prompts: Sequence[tuple[str | Messages, int]]) -> bool:
        """True: a completion depends on its request and member alone."""
        return True

    def check_options(self, asked: Sequence[Asked]) -> None:
        """Raises ModelError: it scores nothing."""
        raise ModelError(f"{self.name} only draws: it cannot score the options of a multiple-choice problem")

    def loglikelihood(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[tuple[Request, float, bool]]:
        """Raises ModelError: it scores nothing."""
        raise ModelError(f"{self.name} only draws: it has no log-probabilities")

    def option_scores(
        self, asked: Sequence[Asked], members: Sequence[Member], done: Collection[str] = ()
    ) -> Iterator[OptionScores]:
        """Raises ModelError: it scores nothing."""
        raise ModelError(f"{self.name} only draws: it cannot score the options of a multiple-choice problem")

    def divergence(
        self,
        contexts: Sequence[tuple[str | Messages, str]],
        members: Sequence[Member],
        *,
        base: bool,
        top: int,
        again: Collection[int] = (),
    ) -> Iterator[DivergenceSums | None]:
        """Raises ModelError: it compares nothing."""
        raise ModelError(f"{self.name} only draws: it cannot measure divergence")

    def close(self) -> None:  # noqa: B027
        """It holds nothing that is to be freed."""


class FunctionModel(ModelDefaults):
    """A model that answers by a function from a request to a text; `name` says which model that is, with its version.

    The request has `prompt` (or `messages`), `decoding`, `seed`, `member` and `draw`; the text is cut at its stop strings. The
    number of tokens is unknown and counts as 0. A failure of the function ends the run with one line; what is done is kept.
    """

    def __init__(self, answer: Callable[[Request], str], name: str):
        self.name, self.answer = name, answer

    def check_chat(self) -> None:
        """Messages are taken: the function reads them."""

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        """See Model.generate. Raises ModelError where the function fails or gives no text."""
        for request in requests:
            where = f"model {self.name!r} on {request.problem_id}, draw {request.draw}"
            try:
                text: object = self.answer(request)
            except SpaBenchError:
                raise
            except Exception as error:  # the user's code may raise anything
                raise ModelError(f"{where}: {type(error).__name__}: {one_line(error)}") from error
            if not isinstance(text, str):
                raise ModelError(f"{where} gave {text!r}; it must give a text")
            yield Completion(
                key=request.key, text=before_stop(text, request.decoding.stop), tokens=0, finish="stop", seed=request.seed
            )
