"""A user's own metrics, samplers and tasks: the examples of the documentation run, and their sources are in the spec."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doubles import RIGHT, SANDBOX, WRONG, Call, InProcessJudge, Lines, MockModel, mock_run, sampler_card
from spa_bench.cards.source import source_hash
from spa_bench.cards.task import load_task_card
from spa_bench.errors import UsageError
from spa_bench.metrics.suite import Metric
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.generate import generate
from spa_bench.runs.grade import grade
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.own_metrics import load_metrics
from spa_bench.runs.verify import notes, verify
from spa_bench.types import Request

DOCS = Path(__file__).resolve().parents[1] / "docs"
METRIC = "longest_line:METRIC"
ONE = "members = (Member('m', None, Decoding()),)"


@pytest.fixture(autouse=True)
def on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The examples and the test's folder on the import path; modules from there are forgotten afterwards."""
    monkeypatch.syspath_prepend(str(DOCS / "examples"))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name in {"mine", "longest_line", "warm_up"}:
            del sys.modules[name]


def written(folder: Path, body: str) -> str:
    (folder / "mine.py").write_text(f"from spa_bench.metrics.suite import Metric\n{body}\n")
    return "mine:M"


def answer(request: Request) -> str:
    return RIGHT[request.problem_id] if request.draw else WRONG


def measured(three: Path, out: Path, *metrics: str) -> tuple[RunFolder, Any]:
    """A graded run of a mock with `metrics`, and its task."""
    loaded = load_task_card(str(three))
    task = load_task(loaded)
    job = Job(sampler=sampler_card(), task=loaded, n=2, seed=0, metrics=metrics)
    folder = generate(job, task, MockModel(answer), out=out, cache=out / "cache", console=Lines())  # type: ignore[arg-type]
    grade(folder, task, Lines(), sandbox=None, workers=1)  # type: ignore[arg-type]
    return folder, task


# metrics -------------------------------------------------------------------------------------------------------------


def test_the_metric_of_the_documentation_is_measured_and_verified(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder, task = measured(three, tmp_path / "runs", METRIC)
    content = folder.read_json("metrics.json")
    lengths = [[len("return None"), len(RIGHT[p.id].strip())] for p in task.problems]
    assert content["values"]["longest_line"] == [sum(pair) / 2 for pair in lengths]
    assert content["estimates"]["longest_line"]["value"] == pytest.approx(sum(map(sum, lengths)) / 6)
    assert folder.spec["metrics"] == {METRIC: source_hash(METRIC)}
    assert verify(folder, task) == []
    assert notes(folder) == []


def test_other_metrics_do_not_change(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    with_it, _ = measured(three, tmp_path / "with", METRIC)
    without, _ = measured(three, tmp_path / "without")
    values, others = (f.read_json("metrics.json")["values"] for f in (with_it, without))
    assert {k: v for k, v in values.items() if k != "longest_line"} == others
    assert with_it.hash != without.hash


def test_a_changed_source_makes_another_run_and_is_noted(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    name = written(tmp_path, "M = Metric(name='one', description='x', compute=lambda s: 1.0)")
    first, _ = measured(three, tmp_path / "runs", name)
    written(tmp_path, "M = Metric(name='one', description='x', compute=lambda s: 2.0)")
    assert any("other metrics than this spa-bench" in note for note in notes(first))
    second, _ = measured(three, tmp_path / "runs", name)
    assert second.path != first.path


def test_a_rate_has_the_interval_of_a_rate_and_a_missing_value_its_reason(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    body = (
        "M = Metric(name='all', description='x', compute=lambda s: 1.0, rate={rate})\n"
        "N = Metric(name='none', description='x', compute=lambda s: None, missing='never there')"
    )
    found = {}
    for rate in (True, False):
        written(tmp_path, body.format(rate=rate))
        sys.modules.pop("mine", None)
        folder, _ = measured(three, tmp_path / "runs", "mine:M", "mine:N")
        found[rate] = folder.read_json("metrics.json")["estimates"]
    assert found[True]["all"]["low"] < 1 == found[True]["all"]["high"]
    assert found[False]["all"]["low"] != found[True]["all"]["low"]
    assert (found[True]["none"]["value"], found[True]["none"]["reason"]) == (None, "never there")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "M = Metric(name='m', description='x', compute=lambda s: 1 / 0)",
            "metric 'm' failed on problem three/add: ZeroDivisionError: ",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: exit(3))",
            "metric 'm' failed on problem three/add: SystemExit: 3",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: 'good')",
            "metric 'm' is 'good' on problem three/add; it must be a number or None",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: float('nan'))",
            "metric 'm' is nan on problem three/add; give None where ",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: float('inf'))",
            "metric 'm' is inf on problem three/add; give None where ",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: 7.0, rate=True)",
            "metric 'm' is 7.0 on problem three/add, but with rate=True it must lie in [0, 1]; mend that and ",
        ),
        (
            "M = Metric(name='m', description='x', compute=lambda s: -0.5, rate=True)",
            "metric 'm' is -0.5 on problem three/add, but with rate=True ",
        ),
    ],
)
def test_a_metric_that_fails_is_one_line_that_names_it_and_the_problem(
    body: str, message: str, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    with pytest.raises(UsageError) as error:
        measured(three, tmp_path / "runs", written(tmp_path, body))
    assert str(error.value).startswith(message)


@pytest.mark.parametrize(("value", "kept"), [("0.0", 0.0), ("1.0", 1.0), ("1 + 1e-15", 1.0), ("None", None)])
def test_a_rate_may_reach_both_ends_or_be_missing(
    value: str, kept: float | None, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    source = f"M = Metric(name='m', description='x', compute=lambda s: {value}, rate=True)"
    folder, _ = measured(three, tmp_path / "runs", written(tmp_path, source))
    assert folder.read_json("metrics.json")["values"]["m"] == [kept] * 3


def test_a_rate_that_is_none_costs_neither_samples_verdicts_nor_metrics(
    call: Call, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    folder, _ = measured(three, tmp_path / "runs")
    files = {p.name: p.read_bytes() for p in folder.path.iterdir() if p.name != "timings.json"}
    name = written(tmp_path, "M = Metric(name='m', description='x', compute=lambda s: 7.0, rate=True)")
    assert call("grade", folder.path, "--sandbox", SANDBOX, "--metric", name).error().startswith("metric 'm' is 7.0 on problem")
    assert {p.name: p.read_bytes() for p in folder.path.iterdir() if p.name != "timings.json"} == files
    with pytest.raises(UsageError, match="samples and verdicts are kept"):
        measured(three, tmp_path / "own", name)
    [own] = (tmp_path / "own").glob("*/grades.jsonl")
    assert len(own.read_text().splitlines()) == len(folder.grades())
    written(tmp_path, "M = Metric(name='m', description='x', compute=lambda s: 0.7, rate=True)")
    sys.modules.pop("mine")
    done = call("grade", own.parent, "--sandbox", SANDBOX, "--json")
    assert json.loads(done.out)[0]["metrics"]["m"]["value"] == 0.7


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("M = 3", "--metric mine:M: 'M' is 3; it must be a spa_bench.metrics.suite.Metric"),
        ("", "--metric mine:M: mine has no 'M'"),
        (
            "M = Metric(name='pass@1', description='x', compute=lambda s: 1.0)",
            "--metric: the name 'pass@1' is taken by another metric",
        ),
        (
            "M = Metric(name='vendi', description='x', compute=lambda s: 1.0)",
            "--metric: the name 'vendi' is taken by another metric",
        ),
        (
            "M = Metric(name='pass@1[member=0]', description='x', compute=lambda s: 7.0)",
            "--metric: the name 'pass@1[member=0]' is taken by another",
        ),
        (
            "M = Metric(name='', description='x', compute=lambda s: 1.0)",
            "--metric mine:M: its name is ''; it stands in tables and must be printable",
        ),
        (
            "M = Metric(name=' ', description='x', compute=lambda s: 1.0)",
            "--metric mine:M: its name is ' '; it stands in tables",
        ),
        (
            "M = Metric(name='a\\nb', description='x', compute=lambda s: 1.0)",
            "--metric mine:M: its name is 'a\\nb'; it stands in tables",
        ),
        ("M = (", "'mine:M' leads to the module 'mine', which cannot be imported: "),
    ],
)
def test_what_is_no_metric_is_refused(body: str, message: str, tmp_path: Path):
    with pytest.raises(UsageError) as error:
        load_metrics([written(tmp_path, body)])
    assert str(error.value).startswith(message)


def test_a_metric_given_twice_is_refused():
    with pytest.raises(UsageError, match="the name 'longest_line' is taken"):
        load_metrics([METRIC, METRIC])
    assert [type(m) for m in load_metrics([METRIC])] == [Metric]


def test_score_and_grade_compute_the_metric_of_the_spec(call: Call, three: Path, tmp_path: Path):
    samples = tmp_path / "s.jsonl"
    samples.write_text("".join(json.dumps({"task_id": i, "completion": c}) + "\n" for i, c in RIGHT.items()))
    common = ["--task", three, "--samples", samples, "--sandbox", SANDBOX, "--out", tmp_path / "runs", "--json"]
    done = call("score", *common, "--metric", METRIC)
    assert done.code == 0, done.err
    assert json.loads(done.out)[0]["metrics"]["longest_line"]["value"] == pytest.approx(37 / 3)
    [path] = (tmp_path / "runs").iterdir()
    (path / "metrics.json").unlink()
    again = call("grade", path, "--sandbox", SANDBOX, "--json")
    assert [{**row, "seconds": 0} for row in json.loads(again.out)] == [{**row, "seconds": 0} for row in json.loads(done.out)]


def test_a_finished_run_takes_a_metric_later_beside_its_own(sandbox: InProcessJudge, call: Call, three: Path, tmp_path: Path):
    whole, _ = measured(three, tmp_path / "with", METRIC)
    folder, task = measured(three, tmp_path / "runs")
    before = (folder.path / "metrics.json").read_bytes(), (folder.path / "spec.json").read_bytes()
    done = call("grade", folder.path, "--sandbox", SANDBOX, "--metric", METRIC)
    assert done.code == 0, done.err
    assert "longest_line: 11.667 [" in done.err
    assert ((folder.path / "metrics.json").read_bytes(), (folder.path / "spec.json").read_bytes()) == before
    added, own = folder.read_json("added.json"), whole.read_json("metrics.json")
    assert added["metrics"] == {METRIC: source_hash(METRIC)}
    assert added["values"] == {"longest_line": own["values"]["longest_line"]}
    assert added["estimates"] == {"longest_line": own["estimates"]["longest_line"]}
    assert verify(folder, task) == []
    other = written(tmp_path, "M = Metric(name='one', description='x', compute=lambda s: 1.0)")
    assert call("grade", folder.path, "--sandbox", SANDBOX, "--metric", other).code == 0
    assert sorted(folder.read_json("added.json")["values"]) == ["longest_line", "one"]
    written(tmp_path, "M = Metric(name='one', description='x', compute=lambda s: 2.0)")
    assert any("'mine:M' has another source here" in fault for fault in verify(folder, task))


def test_a_metric_that_the_spec_has_is_not_added_again(sandbox: InProcessJudge, call: Call, three: Path, tmp_path: Path):
    folder, _ = measured(three, tmp_path / "runs", METRIC)
    assert call("grade", folder.path, "--sandbox", SANDBOX, "--metric", METRIC).code == 0
    assert not (folder.path / "added.json").exists()


# samplers ------------------------------------------------------------------------------------------------------------


def test_the_source_of_ones_own_sampler_is_in_the_spec_and_a_changed_one_makes_another_run(
    sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    source = "from spa_bench.samplers.mixture import build as mix\ndef build(card, adapters):\n    return mix(card, [])\n"
    (tmp_path / "mine.py").write_text(source)
    first = mock_run(tmp_path / "runs", three, answer, kind="mine:build")
    assert first.spec["code"]["sampler"] == source_hash("mine:build")
    assert notes(first) == []
    (tmp_path / "mine.py").write_text(source + "# another\n")
    assert any("other code" in note for note in notes(first))
    second = mock_run(tmp_path / "runs", three, answer, kind="mine:build")
    assert second.hash != first.hash
    assert "sampler" not in mock_run(tmp_path / "runs", three, answer).spec["code"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("members, sample = 1, None", "members is 1; it must be a tuple of spa_bench.types.Member"),
        ("members, sample = ('a',), None", "members is ('a',); it must be"),
        ("members, sample = (), None", "it has 0 members, and its card says members = 1"),
        (
            "members = (Member('m', None, Decoding()),)\n    sample = lambda self, *a, **k: iter(())",
            "gave 0 of 6 answers: sample()",
        ),
        ("members = (Member('m', None, Decoding()),)\n    sample = lambda self, *a, **k: exit(3)", "failed: SystemExit: 3"),
    ],
)
def test_a_sampler_that_is_built_wrongly_is_one_line(
    body: str, message: str, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    source = f"class Own:\n    name = 'own'\n    {body}\n\ndef build(card, adapters):\n    return Own()\n"
    (tmp_path / "mine.py").write_text(f"from spa_bench.types import Decoding, Member\n{source}")
    with pytest.raises(UsageError) as error:
        mock_run(tmp_path / "runs", three, answer, kind="mine:build")
    assert "sampler kind 'mine:build'" in str(error.value)
    assert message in str(error.value)


DRAWS = """
from dataclasses import replace
import numpy as np
from spa_bench.samplers.mixture import Mixture, build as mixture
from spa_bench.types import Key

class Own:
    def __init__(self, mixed):
        self.name, self.members, self.mixed = mixed.name, mixed.members, mixed

    def sample(self, model, prompts, n, seed, *, task, done=()):
        for c in self.mixed.sample(model, prompts, n, seed, task=task, done=done):
            yield CHANGED

def build(card, adapters):
    return Own(mixture(card, adapters))
"""


def drawn_by(change: str, three: Path, tmp_path: Path) -> RunFolder:
    """A run of a sampler of one's own whose answers are those of a mixture, changed by the code `change`."""
    (tmp_path / "mine.py").write_text(DRAWS.replace("CHANGED", change))
    return mock_run(tmp_path / "runs", three, answer, kind="mine:build")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("replace(c, key=Key('nope', 0, 0))", "gave an answer that is not missing: Key(problem='nope', member=0, draw=0)"),
        ("replace(c, key=c.key._replace(member=1))", "gave an answer that is not missing: Key("),
        ("replace(c, key=c.key._replace(draw=0))", "gave an answer that is not missing: Key("),
        ("replace(c, key=tuple(c.key))", "gave an answer with the key ('"),
        ("replace(c, key=c.key._replace(draw='0'))", "has draw = '0'; it must be a whole number, 0 or more"),
        ("replace(c, text=None)", "has text = None; it must be a text"),
        ("replace(c, text=b'x')", "has text = b'x'; it must be a text"),
        ("replace(c, note=3)", "has note = 3; it must be a text"),
        ("replace(c, finish='done')", "has finish = 'done'; it must be one of stop, length, skipped, failed"),
        ("replace(c, finish='failed')", "has finish = 'failed' and does not say in `failure` why there is no answer"),
        ("replace(c, tokens='3')", "has tokens = '3'; it must be a whole number"),
        ("replace(c, tokens=-1)", "has tokens = -1; it must be a whole number, 0 or more"),
        ("replace(c, spent=2.5)", "has spent = 2.5; it must be a whole number"),
        ("replace(c, seed=None)", "has seed = None; it must be a whole number"),
    ],
)
def test_an_answer_that_a_record_cannot_hold_is_one_line_and_none_is_written(
    change: str, message: str, sandbox: InProcessJudge, three: Path, tmp_path: Path
):
    with pytest.raises(UsageError) as error:
        drawn_by(change, three, tmp_path)
    assert str(error.value).startswith("sampler kind 'mine:build'")
    assert message in str(error.value)
    [folder] = (tmp_path / "runs").glob("*-s0-*")
    kept = open_run(folder).record_log.rows()
    assert len(kept) == ("draw=0" in change and "nope" not in change)  # the first of two with one key is good


def test_numbers_of_numpy_are_numbers_of_an_answer(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    key = "Key(c.key.problem, np.int64(c.key.member), np.int64(c.key.draw))"
    folder = drawn_by(f"replace(c, key={key}, tokens=np.int32(3), spent=np.uint8(4), seed=np.uint64(2**63))", three, tmp_path)
    assert {(r.tokens, r.spent, r.seed) for r in folder.record_log.rows()} == {(3, 4, 2**63)}


# tasks ---------------------------------------------------------------------------------------------------------------


def test_the_task_of_the_documentation_passes_with_its_own_solutions(sandbox: InProcessJudge, tmp_path: Path):
    card = DOCS / "examples" / "two-lists.toml"
    rows = [json.loads(line) for line in (DOCS / "examples" / "two_lists.jsonl").read_text().splitlines()]
    solutions = {row["task_id"]: row["canonical_solution"] for row in rows}
    folder = mock_run(tmp_path / "runs", card, lambda r: solutions[r.problem_id] if r.draw else WRONG)
    verdicts = {(g.problem, g.draw): str(g.verdict) for g in folder.grades().values()}
    assert verdicts == {(p, d): ["wrong", "passed"][d] for p in ("lists/first", "lists/total") for d in (0, 1)}
    page = (DOCS / "how-to" / "add-a-task.md").read_text()
    [shown] = page.split("```json\n")[1:]
    assert json.loads(shown.split("```")[0]) == rows[1]
