"""`verify --references`: numbers of other people's code agree with a run's, and one that was changed is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doubles import Call
from spa_bench.runs import references
from spa_bench.runs.folder import RunFolder, open_run
from spa_bench.runs.references import part_of, passes, statistics, texts
from spa_bench.runs.references.part import Comparison, Differences, Part
from spa_bench.runs.reopen import task_of

GOLDEN = Path(__file__).resolve().parent / "golden" / "runs" / "mini-code-spa-random-s0-2752396f"
Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two members with two draws each for six problems."""
    return open_run(Path(shutil.copytree(GOLDEN, tmp_path / GOLDEN.name)))


def changed(run: RunFolder, change: Change) -> Part:
    """The part of `run` after `change` of its metrics.json, which gets a checksum that fits."""
    content = run.metrics()
    change(content)
    run.write_json("metrics.json", content)
    return part_of(run, task_of(run))


def put(metric: str, value: float) -> Change:
    """A change of every problem's value of a metric."""

    def change(content: dict[str, Any]) -> None:
        content["values"][metric] = [value] * len(content["problems"])

    return change


def put_estimate(metric: str, **numbers: float) -> Change:
    return lambda content: content["estimates"][metric].update(numbers)


def same(content: dict[str, Any]) -> None:
    """No change."""


def test_every_reference_agrees_with_a_run(run: RunFolder):
    pytest.importorskip("evalplus")
    pytest.importorskip("vendi_score")
    rows = {row.what: row for row in references.compared(run, task_of(run))}
    assert {what: row.numbers for what, row in rows.items() if row.largest is not None} == {
        "vendi[ngram|ast|embedding, q=0.5|1|2|inf]": 6 * 2 * 2 * 4,  # problems, kernels, sizes, orders
        "self_bleu": 6 * 2,
        "pass@k (estimator)": 6,
        "means over problems": 48,
        "intervals (bootstrap)": 87,
        "intervals (Wilson)": 42,
    }
    assert [what for what, row in rows.items() if not row.ok] == []
    assert rows["own[...] (scores of lm-eval)"].why == "mini-code is no task of lm-eval"
    assert rows["kl, js, entropy [choices]"].why == "no problem is multiple choice"


@pytest.mark.parametrize(
    ("check", "change", "worst"),
    [
        (texts.vendi, put("vendi[ngram,q=1]", 1.2345), "vendi[ngram,q=1] of mini-code/"),
        (texts.vendi, put("vendi[ast,q=inf]", 3.9), "vendi[ast,q=inf] of mini-code/"),
        (texts.self_bleu, put("self_bleu", 0.4321), "self_bleu of mini-code/"),
        (passes.pass_at_k, put("pass@1", 0.123), "pass@1 of mini-code/"),
        (statistics.means, put_estimate("tokens", value=1.0), "tokens"),
        (statistics.bootstrap, put_estimate("length", low=0.0), "low of length"),
        (statistics.bootstrap, put_estimate("vendi[ngram,q=2]", high=3.9), "high of vendi[ngram,q=2]"),
        (statistics.wilson, put_estimate("pass@1", low=0.7), "low of pass@1"),
    ],
)  # fmt: skip
def test_a_number_that_was_changed_is_beyond_the_tolerance(
    check: Callable[[Part], Comparison], change: Change, worst: str, run: RunFolder
):
    pytest.importorskip("evalplus")
    pytest.importorskip("vendi_score")
    assert check(changed(run, same)).ok
    row = check(changed(run, change))
    assert not row.ok
    assert row.worst.startswith(worst)


def test_a_value_that_only_one_side_has_is_infinitely_far(run: RunFolder):
    def drop(content: dict[str, Any]) -> None:
        content["values"]["self_bleu"][2] = None

    row = texts.self_bleu(changed(run, drop))
    assert (row.largest, row.ok) == (float("inf"), False)


def test_the_part_is_seeded_by_the_spec_and_has_so_many_problems(run: RunFolder):
    task = task_of(run)
    first = part_of(run, task, problems=3)
    assert first.chosen == part_of(run, task, problems=3).chosen == sorted(set(first.chosen))
    assert len(first.chosen) == 3
    other = RunFolder(run.path, {**run.spec, "seed": 7})
    assert any(part_of(run, task, problems=k).chosen != seeded(other, k) for k in (2, 3, 4))


def seeded(run: RunFolder, problems: int) -> list[int]:
    from random import Random

    from spa_bench.support.seeds import derive_seed

    return sorted(Random(derive_seed("references", run.hash)).sample(range(6), problems))


def test_a_library_that_is_absent_is_a_line_and_no_failure(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    import builtins

    real = builtins.__import__

    def without(name: str, *others: Any, **named: Any) -> Any:
        if name.split(".")[0] in {"vendi_score", "sacrebleu", "evalplus", "scipy"}:
            raise ImportError(f"No module named {name!r}")
        return real(name, *others, **named)

    part = part_of(run, task_of(run))
    monkeypatch.setattr(builtins, "__import__", without)
    rows = [check(part) for check in references.CHECKS]
    assert all(row.ok and row.largest is None for row in rows)
    assert "pip install vendi-score" in rows[0].why
    assert len(references.table(rows)) == 1


def test_choices_are_compared_by_scipy_s_divergences():
    """Closed form: two members, (1/2, 1/2) and (1/4, 3/4)."""
    from spa_bench.metrics.choices import spread
    from spa_bench.metrics.metric import Samples
    from spa_bench.types import Choices

    logs = np.log([[0.5, 0.5], [0.25, 0.75]])
    found = spread(logs)
    row = Choices(
        problem="p", logprobs=logs.tolist(), greedy=[[True, False]] * 2, tokens=[1, 1],
        matrices={"kl[choices]": found.kl.tolist(), "js[choices]": found.js.tolist()},
        members={"entropy[choices]": found.entropy.tolist()},
    )  # fmt: skip
    assert found.kl[0, 1] == pytest.approx(0.5 * np.log(4 / 3))
    samples = Samples(
        problem="p", texts=["a", "b"], programs=None, passed=[True, False], failed=[False, False], members=2, k=2,
        choices=2, preferences=row,
    )  # fmt: skip
    part: Any = type("Part", (), {"chosen": [0], "samples": [samples]})()
    good = statistics.choices(part)
    assert (good.numbers, good.ok) == (2 + 2 + 2, True)
    row.matrices["js[choices]"][0][1] += 1e-4
    bad = statistics.choices(part)
    assert not bad.ok
    assert bad.worst == "js of p, member 0 to 1"


def test_scores_of_lm_eval_are_computed_again_from_the_answers(run: RunFolder):
    scores = {"harness": "lm-eval 0", "members": [{"arc": {"acc,none": 0.5, "alias": "arc"}}, {"arc": {"acc,none": 0.25}}]}

    class Scored:
        name = "arc"

        def own_scores(self, records: Any, choices: Any, n: int, members: int) -> dict[str, Any]:
            assert (len(records), choices, n, members) == (24, [], 4, 2)
            return scores

    def own(kept: dict[str, Any]) -> Comparison:
        part = changed(run, lambda content: content.update(own_scores=kept))
        return passes.own_scores(Part(**{**vars(part), "task": Scored()}))

    assert (own(scores).numbers, own(scores).ok) == (2, True)
    wrong = own({**scores, "members": [{"arc": {"acc,none": 0.75}}, {"arc": {"acc,none": 0.25}}]})
    assert (wrong.ok, wrong.worst) == (False, "arc,acc,none of member 0")


def test_differences_keep_the_largest_and_where_it_is():
    found = Differences()
    found.pair("a", 1.0, 1.0)
    found.pair("b", 100.0, 101.0)
    found.pair("c", 0.001, 0.002)
    found.pair("d", None, None)
    row = found.outcome("w", "numpy", tolerance=0.01, unit="relative", none="")
    assert (row.numbers, row.worst, row.ok) == (3, "b", True)
    assert row.largest == pytest.approx(1 / 101)
    found.add("e", float("nan"))
    assert not found.outcome("w", "numpy", tolerance=0.01, unit="relative", none="").ok


def test_the_command_prints_a_table_and_ends_with_1_where_a_kept_number_is_wrong(run: RunFolder, call: Call):
    pytest.importorskip("vendi_score")
    done = call("verify", str(run.path), "--references")
    assert done.code == 0, done.out
    assert "vendi-score 0.0.3" in done.out
    assert "not compared: verdicts: evalplus grades without a sandbox" in done.out
    changed(run, put("self_bleu", 0.5))
    done = call("verify", str(run.path), "--references", "--json")
    assert done.code == 1
    [of_run] = json.loads(done.out).values()
    wrong = [row for row in of_run["references"] if not row["ok"]]
    assert [(row["what"], row["library"]) for row in wrong] == [("means over problems", "scipy"), ("self_bleu", "sacrebleu")][
        ::-1
    ]
    assert of_run["faults"]


def test_what_is_wrong_with_a_run_is_said_beside_why_nothing_was_compared(run: RunFolder, call: Call):
    (run.path / "metrics.json").unlink()
    (run.path / "stray").write_text("x")
    done = call("verify", str(run.path), "--references")
    assert done.code == 1
    assert done.out.splitlines() == [
        f"{run.path / 'stray'} does not belong to a run",
        f"{run.path} is not graded yet; finish it with: spa-bench grade {run.path}",
        "the run has other code than this spa-bench; `spa-bench rerun` says what that changes",
    ]


def test_without_the_option_json_is_as_it_was(run: RunFolder, call: Call):
    done = call("verify", str(run.path), "--json")
    assert (done.code, json.loads(done.out)) == (0, {str(run.path): []})
