"""Training pairs that overlap a task's problems (spa_bench.spa.data.overlap), in the audit and in a run."""

import json
import random
from pathlib import Path

import pytest

from spa_bench.cli.main import main
from spa_bench.errors import DataError, UsageError
from spa_bench.runs.folder import OVERLAP, RunFolder, open_run
from spa_bench.spa.data.overlap import NGRAM, audit
from spa_bench.spa.data.reading import Reading
from spa_bench.spa.training_data import _clean
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


def test_codealpaca_holds_what_the_docs_say(data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    pairs = data / "codealpaca" / "new_codealpaca.json"
    if not pairs.exists():
        pytest.skip("the data has no CodeAlpaca")
    assert main(["audit", "humaneval", "--data", str(pairs), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["pairs"], found["overlapping"], found["by_way"]["exact"]) == (4535, 9, 1)
