"""A run that is resumed where batches move texts: it says so, pools are not mixed, and what happened to batches is recorded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from doubles import RIGHT, WRONG, InProcessJudge, Lines, MockModel, mock_run, sampler_card
from spa_bench.cards.task import load_task_card
from spa_bench.models.base import Batches
from spa_bench.models.hf.failures import refusals, within_memory
from spa_bench.runs.folder import RunFolder
from spa_bench.runs.generate import generate
from spa_bench.runs.job import Job, load_task
from spa_bench.runs.log import Log
from spa_bench.runs.verify import verify
from spa_bench.samplers.one_reply import OneReplyOptions
from spa_bench.samplers.oversample_mmr import MmrOptions
from spa_bench.types import Completion, Key, Member, Request

POOL = {"kind": "oversample-mmr", "options": MmrOptions(pool=6, relevance="none")}


class Moved(MockModel):
    """A model whose answers name the process that drew them, as other batches can change texts."""

    def __init__(self, process: str, *, free: bool = False, refused: int = 0):
        super().__init__(lambda r: RIGHT[r.problem_id])
        self.process, self.free, self.refused = process, free, 0
        self.will_refuse = refused

    def batch_free(self, prompts: Sequence[tuple[str, int]]) -> bool:
        return self.free

    def batches(self) -> Batches:
        return Batches(None, self.refused)

    def generate(self, requests: Sequence[Request], members: Sequence[Member]) -> Iterator[Completion]:
        self.refused = self.will_refuse
        for completion in super().generate(requests, members):
            yield replace(completion, text=f"{completion.text}    # {self.process}\n")


def draw(model: MockModel, three: Path, out: Path, **card: Any) -> tuple[RunFolder, list[str]]:
    """The run, drawn or resumed, and the lines that it printed."""
    loaded, lines = load_task_card(str(three)), Lines()
    job = Job(sampler=sampler_card(**card), task=loaded, n=4, seed=0, noise_floor=False)
    return generate(job, load_task(loaded), model, out=out, cache=out / "cache", console=lines), lines.notes


def cut(folder: RunFolder, rows: int) -> None:
    """Leave the first `rows` of the records, as a stopped run would."""
    file = folder.path / "records.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:rows]))


@pytest.mark.parametrize("left", [1, 5, 6, 11])
def test_the_answers_to_a_problem_are_of_one_pool_however_a_run_was_stopped(left: int, three: Path, tmp_path: Path):
    folder, _ = draw(Moved("first"), three, tmp_path, **POOL)
    cut(folder, left)
    folder, _ = draw(Moved("second"), three, tmp_path, **POOL)
    rows = folder.record_log.all_rows()
    drawn = {p: {r.completion.text.rsplit("# ", 1)[1].strip() for r in rows if r.problem == p} for p in RIGHT}
    assert len(rows) == 12
    whole = left // 4
    assert sorted(map(sorted, drawn.values())) == [["first"]] * whole + [["second"]] * (3 - whole)


def test_draws_that_are_independent_are_kept_one_by_one(three: Path, tmp_path: Path):
    folder, _ = draw(Moved("first"), three, tmp_path)
    cut(folder, 5)
    folder, _ = draw(Moved("second"), three, tmp_path)
    rows = folder.record_log.all_rows()
    assert sum(r.completion.text.endswith("# first\n") for r in rows) == 5
    assert len(rows) == 12


@pytest.mark.parametrize("killed", [False, True])
def test_an_answer_that_is_drawn_again_is_judged_again(
    killed: bool, sandbox: InProcessJudge, three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As after damage to a line of records.jsonl, which the message says to remove."""
    folder = mock_run(tmp_path, three, lambda r: RIGHT[r.problem_id], n=4)
    folder.write_json("added.json", {"metrics": {}, "values": {}, "estimates": {}})
    lines = folder.record_log.path.read_bytes().splitlines(keepends=True)
    folder.record_log.path.write_bytes(b"".join([*lines[:2], *lines[3:]]))
    if killed:
        with monkeypatch.context() as patch:
            patch.setattr(Log, "retain", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                mock_run(tmp_path, three, lambda _: WRONG, n=4)
    again = mock_run(tmp_path, three, lambda _: WRONG, n=4)
    assert again.path == folder.path
    verdicts = {key: str(grade.verdict) for key, grade in again.grades().items()}
    assert len(verdicts) == 12
    assert {key for key, verdict in verdicts.items() if verdict != "passed"} == {Key("three/add", 0, 2)}
    assert again.metrics()["values"]["pass@1"][0] == 0.75
    assert verify(again, load_task(load_task_card(str(three)))) == []
    assert again.read_json("added.json") is None


def test_a_run_that_lacks_no_answer_keeps_its_verdicts(sandbox: InProcessJudge, three: Path, tmp_path: Path):
    folder = mock_run(tmp_path, three, lambda r: RIGHT[r.problem_id], n=4)
    judged, before = len(sandbox.programs), folder.grade_log.path.read_bytes()
    mock_run(tmp_path, three, lambda _: WRONG, n=4)
    assert len(sandbox.programs) == judged
    assert folder.grade_log.path.read_bytes() == before


def test_a_resumed_run_says_that_texts_may_differ_where_batches_move_them(three: Path, tmp_path: Path):
    folder, first = draw(Moved("first", refused=2), three, tmp_path)
    assert not any(line.startswith("resumed") for line in first)
    cut(folder, 5)
    _, second = draw(Moved("second"), three, tmp_path)
    assert (
        "resumed at 5 of 12 answers: batches differ from those of a run in one go, and with them texts may differ, within the "
        "noise floor; memory ran out 2 times before, and batches were halved"
    ) in second
    _, third = draw(Moved("third"), three, tmp_path)
    assert not any(line.startswith("resumed") for line in third)  # nothing was missing


@pytest.mark.parametrize(("kind", "options"), [("mixture", None), ("one-reply", OneReplyOptions())])
def test_samplers_that_ask_in_their_own_words_have_rows_as_long_as_the_context(
    kind: str, options: OneReplyOptions | None, three: Path, tmp_path: Path
):
    class UpTo480(Moved):
        def batch_free(self, prompts: Sequence[tuple[str, int]]) -> bool:
            return all(min(len(text) + new, self.context) <= 480 for text, new in prompts)

    loaded, lines = load_task_card(str(three), {"max_new_tokens": 64}), Lines()
    card = sampler_card(kind=kind) if options is None else sampler_card(kind=kind, options=options)
    job = Job(sampler=card, task=loaded, n=4, seed=0, noise_floor=False)

    def made() -> RunFolder:
        return generate(job, load_task(loaded), UpTo480("one"), out=tmp_path, cache=tmp_path / "cache", console=lines)

    cut(made(), 4)
    made()
    assert any(line.startswith("resumed at 4 of 12 answers") for line in lines.notes) is (kind == "one-reply")


def test_a_resumed_run_of_which_the_probe_found_the_same_bytes_says_nothing(three: Path, tmp_path: Path):
    folder, _ = draw(Moved("first", free=True), three, tmp_path)
    cut(folder, 5)
    _, lines = draw(Moved("second", free=True), three, tmp_path)
    assert not any(line.startswith("resumed") for line in lines)


def test_halvings_add_up_in_the_timings_and_leave_the_spec_alone(three: Path, tmp_path: Path):
    folder, _ = draw(Moved("first", refused=2), three, tmp_path)
    assert folder.timings()["batches"] == {"rows": ["auto"], "together": 0, "halved": 2}
    cut(folder, 3)
    again, _ = draw(Moved("second", refused=1), three, tmp_path)
    assert again.path == folder.path
    assert again.timings()["batches"] == {"rows": ["auto"], "together": 0, "halved": 3}
    (folder.path / "timings.json").write_text('{"batches": 7}')
    cut(folder, 3)
    again, _ = draw(Moved("third", refused=1), three, tmp_path)
    assert again.timings()["batches"] == {"rows": ["auto"], "together": 0, "halved": 1}


def test_every_time_that_memory_runs_out_is_counted():
    def fail() -> None:
        raise MemoryError

    before = refusals()
    assert within_memory(fail) is None
    assert within_memory(lambda: 1) == 1
    assert refusals() == before + 1
