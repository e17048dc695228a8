"""A metric of one's own: how long the longest line of an answer is, on average."""

from spa_bench.metrics.suite import Metric, Samples


def longest_line(samples: Samples) -> float | None:
    """The mean over answers that there are; None where every one has failed."""
    lengths = [
        max(map(len, text.split("\n"))) for text, failed in zip(samples.texts, samples.failed, strict=True) if not failed
    ]
    return sum(lengths) / len(lengths) if lengths else None


METRIC = Metric(
    name="longest_line",
    description="characters in the longest line of an answer",
    compute=longest_line,
    missing="every answer failed",
)
