"""Training pairs that overlap a task's problems (spa_bench.spa.data.overlap), in the audit and in a run."""

import codecs
import gzip
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX
from spa_bench.cards.sampler import load_sampler_card
from spa_bench.cards.training import DataCard
from spa_bench.cli.main import main
from spa_bench.errors import DataError, UsageError
from spa_bench.runs.folder import OVERLAP, RunFolder, open_run
from spa_bench.runs.plan import estimate_line
from spa_bench.spa.data.overlap import NGRAM, audit
from spa_bench.spa.data.reading import Reading
from spa_bench.spa.data.sets import each_example, example_rows
from spa_bench.spa.training_data import _clean, compared, read_sources
from spa_bench.types import Example, Problem

RANDOM = random.Random(0)
WORDS = [f"w{i}" for i in range(5000)]


def words(n: int) -> list[str]:
    return RANDOM.sample(WORDS, n)


QUESTION, ANSWER = words(30), words(40)
PROBLEM = Problem(id="t/0", prompt=" ".join(QUESTION), reference=" ".join(ANSWER))


def ways(prompt: list[str], completion: list[str], problems: list[Problem] | None = None) -> list[tuple[str, str]]:
    found = audit([Example(" ".join(prompt), " ".join(completion))], problems or [PROBLEM])
    return [(one.problem, one.way) for one in found.overlaps]


def test_a_whole_question_or_reference_within_a_pair_is_exact_in_any_layout():
    assert ways([*words(5), *QUESTION, *words(5)], words(9)) == [("t/0", "exact")]
    assert ways(words(9), [*words(5), *ANSWER]) == [("t/0", "exact")]
    assert ways([w.upper() + ",\n" for w in QUESTION], words(9)) == [("t/0", "exact")]


def test_the_docstring_alone_without_its_examples_is_the_question():
    text = " ".join(QUESTION)
    problem = Problem(id="t/1", prompt=f'def f(x):\n    """ {text}\n    >>> f(1)\n    2\n    """\n')
    assert ways(["Please:", *QUESTION], words(9), [problem]) == [("t/1", "exact")]


def test_thirteen_words_in_a_row_overlap_and_twelve_do_not():
    assert ways(words(9), [*words(60), *ANSWER[3 : 3 + NGRAM], *words(60)]) == [("t/0", "ngram")]
    assert ways(words(9), [*words(60), *ANSWER[3 : 2 + NGRAM], *words(60)]) == []


def test_words_that_more_than_ten_problems_share_do_not_count():
    shared = words(NGRAM)
    ten = [Problem(id=f"t/{i}", prompt=" ".join([*words(9), *shared, *words(9)])) for i in range(10)]
    assert len(ways([*words(60), *shared], words(9), ten)) == 10
    eleven = [*ten, Problem(id="t/10", prompt=" ".join([*words(9), *shared, *words(9)]))]
    assert ways([*words(60), *shared], words(9), eleven) == []


def test_a_near_copy_without_long_runs_is_found_by_its_shingles():
    long = words(120)
    near = [w if i % 12 else "other" for i, w in enumerate(long, 1)]  # every twelfth word: no 13 in a row
    spread = [w if i % 40 else "other" for i, w in enumerate(long, 1)]
    problem = Problem(id="t/2", prompt=" ".join(long))
    assert ways(near, words(9), [problem]) == []  # similarity 0.44
    assert ways(spread, words(9), [problem]) == [("t/2", "ngram")]
    short = long[:11]  # too short for an n-gram
    problem = Problem(id="t/3", prompt=" ".join(short))
    assert ways([*short[:10]], words(9), [problem]) == [("t/3", "minhash")]  # 6 of 7 shingles
    assert ways([*short[:9], "x"], words(9), [problem]) == []  # 5 of 8


def test_short_texts_say_nothing():
    assert ways(QUESTION[:7], QUESTION[:7], [Problem(id="s", prompt=" ".join(QUESTION[:7]))]) == []


def test_counts_are_of_pairs_by_the_strongest_way_and_rows_keep_their_numbers():
    pairs = [Example(" ".join(QUESTION), "x"), Example("a", "b"), Example("a", " ".join(ANSWER[:NGRAM]))]
    found = audit(pairs, [PROBLEM], [3, 5, 9])
    assert found.rows == {3, 9}
    assert found.counts() == {"exact": 1, "ngram": 1, "minhash": 0}
    assert found.line() == "2 of 3 training pairs overlap 1 of 1 problems (1 exact, 1 ngram, 0 minhash)"
    assert json.loads(json.dumps(found.to_json()))["overlapping"] == 2


def test_decontaminating_leaves_the_other_rows():
    pairs = [Example(" ".join(QUESTION), "x"), Example("a", "b")]
    read = Reading(list(pairs), [4, 7], "")
    kept = _clean(read, audit(pairs, [PROBLEM], [4, 7]))
    assert (kept.rows, kept.numbers) == ([pairs[1]], [7])
    with pytest.raises(UsageError, match="needs a task"):
        _clean(read, None)
    with pytest.raises(DataError, match="all 1 training pairs overlap"):
        _clean(Reading([pairs[0]], [4], ""), audit(pairs[:1], [PROBLEM], [4]))


def test_the_command_counts_and_lists(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    card, data = long_task(three, tmp_path)
    assert main(["audit", str(card), "--data", str(data)]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1 of 2 training pairs overlap 1 of 1 problems (1 exact, 0 ngram, 0 minhash)")
    assert "2      long/0" in shown
    assert main(["audit", str(card), "--data", str(data), "--json"]) == 0
    [one] = json.loads(capsys.readouterr().out)["overlaps"]
    assert (one["row"], one["problem"], one["way"]) == (2, "long/0", "exact")


def long_task(three: Path, folder: Path) -> tuple[Path, Path]:
    """A card of one problem with a long question, and a file of pairs whose second row repeats it."""
    row = {"task_id": "long/0", "prompt": PROBLEM.prompt, "entry_point": "f", "test": "t", "canonical_solution": "x"}
    (folder / "long.jsonl").write_text(json.dumps(row) + "\n")
    card = folder / "long.toml"
    card.write_text(three.read_text().replace("three.jsonl", "long.jsonl"))
    data = folder / "pairs.jsonl"
    rows = [{"prompt": "a", "completion": "b"}, {"instruction": PROBLEM.prompt, "output": "x"}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return card, data


def test_a_run_records_the_overlap_and_leaves_it_out_where_it_is_told_to(
    three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    card, data = long_task(three, tmp_path)
    common = ["run", "--sampler", "single", "--task", str(card), "--data", str(data), "--engine", "mock", "--n", "1"]
    common += ["--until", "generate", "--json", "--out", str(tmp_path / "runs")]

    def ran(*more: str) -> tuple[RunFolder, str]:
        assert main([*common, *more]) == 0
        out, said = capsys.readouterr()
        return open_run(Path(json.loads(out)[0])), said

    kept, said = ran()
    assert "1 of 2 training pairs overlap 1 of 1 problems (1 exact, 0 ngram, 0 minhash), kept (--decontaminate" in said
    clean, said = ran("--decontaminate")
    assert "(1 exact, 0 ngram, 0 minhash), left out" in said
    for folder in (kept, clean):
        found = folder.read_json(OVERLAP)
        assert found is not None
        assert [one["row"] for one in found["overlaps"]] == [2]
    assert (kept.spec["data"]["examples_n"], clean.spec["data"]["examples_n"]) == (2, 1)
    assert clean.spec["data"]["overlapping_left_out"] == 1
    assert "overlapping_left_out" not in kept.spec["data"]
    assert kept.spec["data"]["examples_hash"] != clean.spec["data"]["examples_hash"]


def test_a_repetition_leaves_out_the_same_pairs(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    card, data = long_task(three, tmp_path)
    run = ["run", "--sampler", "single", "--task", str(card), "--data", str(data), "--engine", "mock", "--n", "1"]
    run += ["--decontaminate", "--sandbox", SANDBOX, "--json", "--out", str(tmp_path / "runs")]
    assert main(run) == 0
    capsys.readouterr()
    [first] = (tmp_path / "runs").iterdir()
    assert main(["rerun", str(first), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["same"] is True
    spec = open_run(Path(again["run"])).spec
    assert spec["sampler"]["data"]["decontaminate"] is True
    assert (spec["data"]["overlapping_left_out"], spec["data"]["examples_n"]) == (1, 1)


def test_a_study_leaves_them_out_too(three: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    card, data = long_task(three, tmp_path)
    study = ["study", "main", "--samplers", "single", "--task", str(card), "--data", str(data), "--engine", "mock", "--n", "1"]
    study += ["--seeds", "0", "--decontaminate", "--sandbox", SANDBOX]
    assert main([*study, "--out", str(tmp_path / "runs"), "--write", str(tmp_path / "pages")]) == 0
    runs = [file.parent for file in (tmp_path / "runs").glob("*/spec.json")]
    specs = [open_run(folder).spec["data"] for folder in runs]
    assert [(spec["examples_n"], spec["overlapping_left_out"]) for spec in specs] == [(1, 1)]


def test_the_stages_by_themselves_leave_out_what_overlaps_the_task_that_is_named(
    three: Path, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    card, data = long_task(three, tmp_path)
    stage = ["spa", "adapt", "--sampler", "single", "--model", str(tiny_folder), "--data", str(data), "--device", "cpu"]
    stage += ["--set", "lora.steps=1", "--json", "--decontaminate"]
    assert main(stage) == 2
    assert "needs a task, whose problems the pairs are compared with; name it with --task" in capsys.readouterr().err
    assert main([*stage, "--task", str(card)]) == 0
    out, said = capsys.readouterr()
    assert "1 of 2 training pairs overlap 1 of 1 problems" in said
    assert json.loads(out)[0]["examples"] == 1


def test_the_estimate_of_a_plan_counts_the_pairs_that_are_left(tiny_model: Any, tmp_path: Path):
    data = tmp_path / "pairs.jsonl"
    rows = [{"prompt": PROBLEM.prompt, "completion": f"{i}"} for i in range(300)]
    rows += [{"prompt": f"a{i}", "completion": "b"} for i in range(100)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"data.examples": str(data), "lora.steps": 0, "lora.epochs": 1.0}
    sizes = []
    for some in ({}, {"data.decontaminate": True}):
        card = load_sampler_card("single", {**settings, **some})
        sources, _ = compared(card, read_sources(card), [PROBLEM])
        sizes.append(len(sources.examples.rows))
        line = estimate_line(card, tiny_model, read_sources(card), [PROBLEM])
        assert line.startswith("estimate a seed")
    assert sizes == [400, 100]
    with pytest.raises(UsageError, match=r"data\.decontaminate needs a task"):
        estimate_line(card, tiny_model, read_sources(card))


def test_rows_are_read_one_after_another_and_as_all_at_once(tmp_path: Path):
    pairs = [{"instruction": f"Add {i}. 你好\u2028", "output": "x\r"} for i in range(3000)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n\n" for row in pairs)
    (tmp_path / "a.jsonl").write_bytes(codecs.BOM_UTF8 + text.encode())
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.jsonl", "a.jsonl.gz"):
        numbered, told = each_example(DataCard(examples=str(tmp_path / name)))
        whole = example_rows(DataCard(examples=str(tmp_path / name)))
        assert list(numbered) == list(zip(whole.numbers, whole.rows, strict=True))
        assert told() == whole.told
        assert len(whole.rows) == 3000
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n{')
    with pytest.raises(DataError, match=r"a\.jsonl, line 2"):
        list(each_example(DataCard(examples=str(tmp_path / "a.jsonl")))[0])


@pytest.mark.slow
def test_an_audit_keeps_no_row(tmp_path: Path):
    data = tmp_path / "pairs.jsonl"
    with data.open("w") as file:
        for i in range(20_000):
            file.write(json.dumps({"instruction": f"word {i} " * 8, "output": "some more words " * 20}) + "\n")
    read, _ = each_example(DataCard(examples=str(data)))
    next(read)
    tracemalloc.start()
    for _ in read:
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.05 * data.stat().st_size


def test_codealpaca_holds_what_the_docs_say(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    pairs = data / "codealpaca" / "new_codealpaca.json"
    if not pairs.exists():
        pytest.skip("the data has no CodeAlpaca")
    assert main(["audit", "humaneval", "--data", str(pairs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["overlapping"], found["by_way"]["exact"]) == (4535, 9, 1)
