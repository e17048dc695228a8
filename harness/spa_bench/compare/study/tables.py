"""The page of a study in Markdown and its rows as JSON; the same runs give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from spa_bench.compare.leaderboard import compare_with_reference
from spa_bench.compare.leaderboard.compare import MARGIN, paired_columns
from spa_bench.compare.leaderboard.tables import STYLES, cell, grid
from spa_bench.compare.study.ahead import Lead, ahead_as_json, ahead_sections, leads_of
from spa_bench.compare.study.claims import Claim, Outcome
from spa_bench.compare.study.designs import Study
from spa_bench.compare.study.judged import judged_of
from spa_bench.compare.study.laws import law_sections, laws_as_json
from spa_bench.compare.study.measured import MeasuredPoint, shared_size
from spa_bench.compare.study.of_pairs import pair_sections, pairs_as_json
from spa_bench.compare.study.syntheses import PairsOfSeed
from spa_bench.metrics.suite import depends_on_n
from spa_bench.runs.folder import SCHEMA_VERSION
from spa_bench.support.provenance import numerics_line, revision_line, versions_line

_ENOUGH_SEEDS = 5
_DIGITS = {"average_kl[i<j]": 4, "average_kl[i!=j]": 4}
_COLUMNS = (
    "pass@1", "pass@K", "diversity_score[exact]", "diversity_score[ast]", "effective_diversity[ast,correct]",
    "vendi[ngram,q=1]", "average_kl[i<j]", "average_kl[i!=j]",
)  # fmt: skip
_FIXED_K = ("pass@2", "pass@5")  # where K varies, each row's pass@K has another k


@dataclass(frozen=True, kw_only=True)
class Report:
    """A finished study, or its finished part."""

    study: Study
    points: Sequence[MeasuredPoint]
    claims: Sequence[Claim]
    command: str
    wanted: int  # number of runs of the whole study
    left: str = ""  # a sentence on what is left out
    pairs: Sequence[PairsOfSeed] = ()  # of the study of methods of synthesis: what they made

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.points[0].row.result["task"])

    @property
    def model(self) -> str:
        """The model's name: the last part of a path or of a name on the hub."""
        return str(self.points[0].row.result["model"]).rstrip("/").rpartition("/")[2]

    @property
    def name(self) -> str:
        """The name of the study's files, without suffix."""
        return f"{self.study.name}--{self.task}--{self.model}"

    @property
    def seeds(self) -> list[int]:
        """The training seeds, which all points share."""
        return self.points[0].row.seeds

    @cached_property
    def leads(self) -> list[Lead]:
        """Who is ahead in each metric."""
        return leads_of([m.row for m in self.points])

    @property
    def where(self) -> str:
        """Task, model and seeds as the end of a sentence."""
        seeds = len(self.seeds)
        return f"on {self.task} with {self.model}, {seeds} training seed{'s' * (seeds != 1)}"


def page(report: Report) -> str:
    """The whole page in Markdown."""
    study, first = report.study, report.points[0]
    version = first.row.result["spec"]["task"].get("version")
    problems = len(first.row.result["problems"])
    parts = [
        f"# {study.whole_title}",
        f"Made by `{report.command}`; do not edit by hand.",
        f"{report.task}{f' {version}' if version else ''}, {problems} problems, model {report.model}, "
        f"training seeds {', '.join(map(str, report.seeds))}.",
        *caveats_of(report),
        *(f"{claim.sentence(report.where)}" for claim in report.claims[:1]),
        f"![{study.title}]({report.name}.svg)",
        table(report, style="md"),
        *(ahead_sections([m.row for m in report.points], report.leads) if study.free else _paired(report)),
        *pair_sections(report.pairs),
        *law_sections(study.key, report.points),
        *_other_claims(report),
        _how(report),
        _origin(report),
    ]
    return "\n\n".join(parts) + "\n"


def table(report: Report, *, style: str = "plain") -> str:
    """A table with a row for each point: every metric with its interval."""
    how, columns = STYLES[style], _columns(report)
    body = []
    for m in report.points:
        cells = [cell(m.estimate(metric, size), how, digits=_DIGITS.get(metric, 3)) for metric, size, _ in columns]
        setting = ([""] if m.point.x is None else [f"{m.point.x:g}"]) if report.study.axis else []
        result = m.row.result
        body.append([m.point.series, *setting, *cells, result["n"], result["members"], f"{m.row.seconds:.0f}"])
    head = ["sampler", *([report.study.axis] if report.study.axis else []), *(name for *_, name in columns)]
    return grid(body, [*head, "n", "adapters", "seconds"], style=style, ready=True)


def _columns(report: Report) -> list[tuple[str, int | None, str]]:
    """(metric, number of answers at which it is taken, name) of each column."""
    sizes, rows = {m.row.result["size"] for m in report.points}, [m.row for m in report.points]
    wanted = (*paired_columns(rows).values(), *_COLUMNS[-2:]) if any(row.open_ended for row in rows) else _COLUMNS
    if len(sizes) == 1:
        kept = {metric for m in report.points for content in m.contents for metric in content["values"]}
        return [(metric, None, metric) for metric in wanted if metric in kept]  # result files do not keep all
    shared = shared_size(report.points)
    columns: list[tuple[str, int | None, str]] = []
    for metric in wanted:
        columns.append((metric, None, f"{metric} (at its own n)" if depends_on_n(metric) else metric))
        columns += [(metric, shared, f"{metric} (at n = {shared})")] if depends_on_n(metric) else []
        columns += [(k, None, k) for k in _FIXED_K] if metric == "pass@K" else []
    return columns


def caveats_of(report: Report) -> list[str]:
    """Sentences on what the numbers of a study do not show."""
    caveats = []
    if any(m.row.made_up for m in report.points):
        caveats.append("**Made-up answers** (engine mock): the numbers and verdicts say nothing about any model.")
    there, seeds = sum(len(m.row.seeds) for m in report.points), len(report.seeds)
    if there < report.wanted:
        caveats.append(f"**Not finished**: {there} of {report.wanted} runs are in this table.")
    if report.left:
        caveats.append(report.left)
    caveats += [*_unlike(report), *_failed(report)]
    if seeds < _ENOUGH_SEEDS:
        over = "over problems alone" if seeds == 1 else "wide"
        caveats.append(f"**Fewer than {_ENOUGH_SEEDS} training seeds** ({seeds}): intervals are {over}.")
    if report.study.made and not report.pairs:
        caveats.append(
            "**The pairs are left out**: with --table-only no model is loaded and nothing is measured. The same command "
            "without it adds what they are like; runs and pairs that are there are not made again."
        )
    if any(m.row.unsafe for m in report.points):
        caveats.append("**Judged without a sandbox**, at least in part.")
    return caveats


def _unlike(report: Report) -> list[str]:
    """A sentence where runs are of several revisions or numerics, which the samplers then differ in too."""
    specs = [m.row.result["spec"] for m in report.points]
    revisions = {revision_line(spec["code"]) for spec in specs}
    numerics = {numerics_line(spec["numerics"]) for spec in specs}
    kinds = [
        f"{len(found)} {name}" for name, found in (("revisions", revisions), ("kinds of numerics", numerics)) if len(found) > 1
    ]
    if not kinds:
        return []
    said = "differences between samplers can come from these too; the end of the page names them."
    return [f"**Runs of {' and '.join(kinds)}**: {said}"]


def _failed(report: Report) -> list[str]:
    """A sentence on samplers some of whose answers failed."""
    counts = {m.label: [run["counts"] for run in m.row.result["runs"]] for m in report.points}
    sums = {label: [sum(c[name] for c in of) for name in ("failed", "samples")] for label, of in counts.items()}
    listed = ", ".join(f"{label} {failed} of {samples}" for label, (failed, samples) in sums.items() if failed)
    return [f"**Answers failed**: {listed}. They count as wrong, and as different from nothing."] if listed else []


def _paired(report: Report) -> list[str]:
    """SPA-influence compared with each other sampler, where nothing but the sampler varies."""
    reference = next((m.label for m in report.points if m.point.role == "influence" and not report.study.key), None)
    if reference is None or len(report.points) < 2:
        return []
    rows = [m.row for m in report.points]
    comparisons, columns = compare_with_reference(rows, reference), paired_columns(rows)
    style = STYLES["md"]
    body = [
        [c.other.label, *(cell(c.decisions[column].difference, style, bold=c.decisions[column].resolved) for column in columns)]
        for c in comparisons
    ]
    drawn = grid(body, [f"{reference} minus", *columns], ready=True)
    bold = "Bold: resolved at 95 %, Holm over the samplers of a column."
    sentences = "\n".join(f"- {style.escape(c.sentence(reference))}" for c in comparisons)
    return [f"## {reference} minus the others, paired by problem and seed", bold, drawn, sentences]


def _other_claims(report: Report) -> list[str]:
    rest = [f"- {claim.sentence(report.where)}" for claim in report.claims[1:]]
    return ["## By the same rules", "\n".join(rest)] if rest else []


_VERDICTS = f""" A claim holds when all of its parts do,
does not when one of them does not, and is not resolved otherwise. That something is more holds when the paired difference is
resolved (Holm over the differences of one metric), and does not when it is resolved the other way or its whole interval lies
inside ±{MARGIN}. That things are equal holds when the paired interval lies inside ±{MARGIN} and does not when it lies wholly
outside. docs/how-to/studies.md has the rules."""


def _how(report: Report) -> str:
    """The section on how the page is read; rules of claims where there are claims."""
    over = " and seeds, the small numbers 95 % intervals over both" if len(report.seeds) > 1 else (
        ", the small numbers 95 % intervals over problems alone"
    )  # fmt: skip
    judged = judged_of(report.points)
    verdicts = "" if report.study.free else _VERDICTS
    if verdicts and judged.quality and judged.margin != MARGIN:
        verdicts += f" In {judged.called} it is ±{judged.margin}."
    at_k = "" if judged.open_ended else " pass@K is at k = the adapters, or n for one adapter."
    return f"""## How to read it

Values are means over problems{over}.{verdicts}{at_k} seconds is what a run took
itself, mean over seeds: stages that another run had left in the cache, and divergence that a run with the same adapters had
measured, cost nothing."""


def _origin(report: Report) -> str:
    """The section on revision, versions and numerics, and the groups of runs; with each run's revision where they differ."""
    specs = [m.row.result["spec"] for m in report.points]
    revisions = sorted({revision_line(s["code"]) for s in specs})
    numerics = sorted({numerics_line(s["numerics"]) for s in specs})
    versions = sorted({versions_line(s["versions"]) for s in specs})
    sandboxes = sorted({name for m in report.points for run in m.row.result["runs"] for name in run["judged"]})
    differ = len(revisions) > 1
    groups = [
        [m.label, m.row.result["group_hash"], m.row.result["runs"][0]["run"], *([revision_line(spec["code"])] * differ)]
        for m, spec in zip(report.points, specs, strict=True)
    ]
    said = f"Revision {', '.join(revisions)}. {'; '.join(numerics)}. Judged in {', '.join(sandboxes)}. {'; '.join(versions)}."
    head = ["point", "group", "run of the first seed", *["revision"] * differ]
    return f"## Where it comes from\n\n{said}\n\n{grid(groups, head)}"


def rows(report: Report) -> list[dict[str, Any]]:
    """The rows that `--json` prints: the row of each point in every command's form, with its setting."""
    return [
        {**m.row.to_json(), "study": report.study.name, "label": m.label, "axis": report.study.axis or None, "x": m.point.x}
        for m in report.points
    ]


def as_json(report: Report) -> str:
    """The rows and the claims as JSON, with a line for each."""
    content: Mapping[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": report.study.name,
        "task": report.task,
        "model": report.model,
        "seeds": report.seeds,
        "command": report.command,
        "claims": claims_as_json(report.claims, report.where),
        "rows": rows(report),
    }
    if report.study.free:
        content = {**content, **ahead_as_json([m.row for m in report.points], report.leads)}
    if report.pairs:
        content = {**content, "pairs": pairs_as_json(report.pairs)}
    if laws := laws_as_json(report.study.key, report.points):
        content = {**content, "laws": laws}
    return in_lines(content)


def in_lines(content: Mapping[str, Any]) -> str:
    """An object as JSON: a line for each key, and one for each row of a list of objects."""
    lines = [f" {json.dumps(key)}: {_lined(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _lined(value: object) -> str:
    nested = isinstance(value, list) and bool(value) and isinstance(value[0], dict)
    return "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]" if nested else json.dumps(value)  # type: ignore[attr-defined]


def claims_as_json(claims: Sequence[Claim], where: str) -> list[dict[str, Any]]:
    """Each claim with its outcome and its parts; `where` ends its sentence."""
    return [
        {
            "outcome": str(Outcome(claim.outcome)),
            "papers": claim.papers,
            "sentence": claim.sentence(where),
            "parts": [asdict(part) for part in claim.parts],
        }
        for claim in claims
    ]
