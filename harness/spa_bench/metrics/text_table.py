"""The table of metrics of texts that depend on n: their names, what they say and why there may be none."""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.metrics.vendi import ORDERS

DISTINCT = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class TextMetric:
    """A metric that `spa_bench.metrics.texts.values_of` gives."""

    name: str
    description: str
    rate: bool  # every value lies between 0 and 1
    missing: str  # why there may be no value
    least: float = 0.0  # where there is an answer, no value is below it
    counts_samples: bool = False  # an (effective) number of samples: no value is above their number


KERNELS = {
    "ngram": ("texts, by 1- and 2-grams", "needs at least two samples a problem"),
    "ast": ("programs, by their syntax trees", "needs at least two samples a problem, and answers that are programs"),
    "embedding": (
        "answers, by the given embeddings",
        "no embeddings: --embedding names a model for them; or fewer than two samples a problem",
    ),
}
_SIZE = "not a size that the design of the draws can give"
_TREES = f"{_SIZE}, or the answers are no programs"
_BEHAVIOUR = "the task records no behaviour of programs"


def vendi_name(kernel: str, order: float) -> str:
    """The name of the Vendi score with that kernel and of that order."""
    return f"vendi[{kernel},q={order:g}]"


TEXT_METRICS: tuple[TextMetric, ...] = (
    *(
        TextMetric(
            name=vendi_name(kernel, q),
            description=f"Vendi score of order {q:g}: effective number of different {what}",
            rate=False,
            missing=missing,
            least=1.0,
            counts_samples=True,
        )
        for kernel, (what, missing) in KERNELS.items()
        for q in ORDERS
    ),
    TextMetric(
        name="self_bleu",
        description="mean BLEU of each answer against the others; higher is less diverse",
        rate=True,
        missing="needs at least two answers a problem",
    ),
    *(
        TextMetric(
            name=f"distinct[n={n}]",
            description=f"different {n}-grams / all {n}-grams of all answers",
            rate=True,
            missing=f"no answer has a {n}-gram",
        )
        for n in DISTINCT
    ),
    TextMetric(
        name="compression_ratio",
        description="bytes of all answers / bytes after gzip; higher is less diverse",
        rate=False,
        missing="no text",
    ),
    TextMetric(
        name="distinct_k[exact]",
        description="NoveltyBench's distinct_k: different texts, compared after stripping",
        rate=False,
        missing=_SIZE,
        counts_samples=True,
    ),
    TextMetric(
        name="distinct_k[ast]",
        description="the same, programs compared by syntax tree with names normalised",
        rate=False,
        missing=_TREES,
        counts_samples=True,
    ),
    TextMetric(
        name="distinct_k[behaviour]",
        description="the same, programs compared by what they do on the tests; unknown adds none",
        rate=False,
        missing=_BEHAVIOUR,
        counts_samples=True,
    ),
    TextMetric(
        name="utility_k[ast]",
        description="NoveltyBench's utility_k, patience 0.8: right answers with a new syntax tree",
        rate=True,
        missing=_TREES,
    ),
    TextMetric(
        name="effective_diversity[ast,correct]",
        description="distinct syntax trees among the correct answers, as a share of n",
        rate=True,
        missing=_TREES,
    ),
    TextMetric(
        name="effective_diversity[behaviour,ran]",
        description="distinct behaviours among the answers that ran, as a share of n",
        rate=True,
        missing=_BEHAVIOUR,
    ),
    TextMetric(
        name="distinct_correct[ast]",
        description="distinct syntax trees among the correct answers",
        rate=False,
        missing=_TREES,
        counts_samples=True,
    ),
)
