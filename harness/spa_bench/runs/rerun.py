"""`spa-bench rerun`: repeat a run from its spec, and report what differs."""

from __future__ import annotations

from dataclasses import dataclass

from spa_bench.runs.folder import RunFolder, differences
from spa_bench.types import Key


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How the repetition of a run differs from that run."""

    spec: str  # the keys of the spec that differ, with both values; "" when none does
    samples: int
    other_texts: list[Key]  # samples whose graded text differs
    other_verdicts: list[Key]  # samples of equal text with another verdict
    other_metrics: dict[str, tuple[float | None, float | None]]  # estimates that differ: (there, here)

    @property
    def same(self) -> bool:
        """Whether texts, verdicts and metrics are the same."""
        return not (self.other_texts or self.other_verdicts or self.other_metrics)

    def lines(self) -> list[str]:
        """The comparison in lines for a reader."""
        lines = [f"spec: {self.spec}" if self.spec else "spec: the same"]
        lines.append(_counted("texts", self.other_texts, self.samples))
        lines.append(_counted("verdicts on equal texts", self.other_verdicts, self.samples))
        for name, (there, here) in self.other_metrics.items():
            lines.append(f"{name}: {there} there, {here} here")
        return [*lines, "metrics: the same"] if not self.other_metrics else lines


def compare(there: RunFolder, here: RunFolder) -> Comparison:
    """The run `there` compared with `here`, its repetition."""
    ours, theirs = there.records(), here.records()
    grades, again = there.grades(), here.grades()
    texts = [k for k in ours if k not in theirs or (theirs[k].graded, theirs[k].failure) != (ours[k].graded, ours[k].failure)]
    texts += [k for k in theirs if k not in ours]
    other = set(texts)
    verdicts = [k for k in grades if k not in other and k in again and again[k].verdict != grades[k].verdict]
    a, b = (_values(folder) for folder in (there, here))
    metrics = {name: (a.get(name), b.get(name)) for name in {**a, **b} if a.get(name) != b.get(name)}
    return Comparison(
        spec=differences(there.spec, here.spec),
        samples=len(ours),
        other_texts=texts,
        other_verdicts=verdicts,
        other_metrics=metrics,
    )


def _values(folder: RunFolder) -> dict[str, float | None]:
    """The estimates of a run by name, without their intervals."""
    estimates = (folder.read_json("metrics.json") or {}).get("estimates", {})
    return {name: estimate["value"] for name, estimate in estimates.items()}


def _counted(what: str, keys: list[Key], total: int) -> str:
    if not keys:
        return f"{what}: all {total} the same"
    first = keys[0]
    return f"{what}: {len(keys)} of {total} differ, the first is {first.problem}, member {first.member}, draw {first.draw}"
