"""Workers that are processes: shards are handed out, lost ones again, and nothing outlives the driver."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import acts
import pytest

from processes import children
from spa_bench.errors import DataError, ModelError
from spa_bench.executors.base import serve
from spa_bench.executors.local import LocalTransport, WorkerPlace
from spa_bench.executors.pool import Pool
from spa_bench.models.chat import ChatTemplateError
from spa_bench.models.openai.client import GivenUp
from spa_bench.support import interrupt

Start = Callable[..., Pool[acts.Held]]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


@pytest.fixture
def start() -> Iterator[Start]:
    pools = []

    def started(
        count: int = 2, recipe: Callable[[], acts.Held] = acts.load, **options: Callable[[str], None]
    ) -> Pool[acts.Held]:
        pools.append(Pool(LocalTransport([WorkerPlace("cpu", {})] * count), recipe, **options))
        return pools[-1]

    yield started
    for pool in pools:
        pool.close()


def test_every_shard_is_done_once_whatever_the_order(start: Start):
    found = list(start().each(partial(acts.add, number=i) for i in range(20)))
    assert sorted(found) == [(i, 10 + i) for i in range(20)]


def test_shards_run_side_by_side_in_as_many_processes_as_there_are_workers(start: Start, tmp_path: Path):
    pool = start(2)
    assert len(set(pool.everywhere(acts.process))) == 2
    shards = [partial(acts.meet, name=name, other=other, folder=tmp_path) for name, other in ("ab", "ba", "cd", "dc")]
    assert sorted(pool.each(shards)) == [(0, "a"), (1, "b"), (2, "c"), (3, "d")]


def test_a_file_in_the_working_folder_takes_the_place_of_none_of_pythons_own(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "traceback.py").write_text("raise RuntimeError('not that of Python')")
    (tmp_path / "in_the_folder.py").write_text("def three(held):\n    return 3\n")
    assert start(1).everywhere(acts.notes) == [[]]
    (tmp_path / "traceback.py").unlink()
    monkeypatch.setattr(sys, "path", [*sys.path, ""])  # as in a notebook, whose modules in that folder are found
    assert start(1).everywhere(importlib.import_module("in_the_folder").three) == [3]


def test_a_shard_of_a_killed_worker_is_done_by_another_and_the_user_is_told(start: Start, tmp_path: Path):
    told: list[str] = []
    pool = start(2, tell=told.append)
    work = (partial(acts.die_once, number=i, folder=tmp_path) if i in (2, 5) else partial(acts.add, number=i) for i in range(8))
    assert sorted(pool.each(work)) == [(i, 10 + i) for i in range(8)]
    assert len(told) == 2
    assert all(line.endswith("(cpu) died (signal SIGKILL); another one takes its place") for line in told)


def test_a_worker_that_takes_the_place_of_another_has_done_what_all_did(start: Start, tmp_path: Path):
    pool = start(1)
    pool.everywhere(partial(acts.note, text="all"))
    with pool.lasting(partial(acts.note, text="a while"), partial(acts.forget, text="a while")):
        list(pool.each([partial(acts.die_once, number=0, folder=tmp_path)]))
        assert list(pool.each([acts.notes])) == [(0, ["all", "a while"])]
    assert list(pool.each([acts.notes])) == [(0, ["all"])]
    list(pool.each([partial(acts.die_once, number=1, folder=tmp_path)]))
    assert list(pool.each([acts.notes])) == [(0, ["all"])]  # what is over is not done again


def test_a_shard_that_takes_down_three_workers_ends_the_run_in_one_line(start: Start):
    with pytest.raises(
        ModelError, match=r"^shard 1 took down 3 workers \(signal SIGKILL\), likely for lack of memory: .*kept$"
    ):
        list(start().each([partial(acts.add, number=0), acts.die, partial(acts.add, number=2)]))


def test_workers_that_die_while_they_load_end_the_run(tmp_path: Path):
    with pytest.raises(ModelError, match=r"died before it was ready \(signal SIGKILL\), 3 times"):
        Pool(LocalTransport([WorkerPlace("cpu", {})]), partial(acts.load_dying, tmp_path))
    assert len(list(tmp_path.iterdir())) == 3


def test_what_the_user_did_wrong_is_said_as_by_one_process(start: Start):
    with pytest.raises(DataError, match=r"^pair 3 is empty: remove it$"):
        list(start().each([acts.refuse]))
    with pytest.raises(DataError, match=r"^no such model$"):
        start(1, acts.load_never)


def test_a_fault_of_ours_names_its_place_on_one_line(start: Start):
    with pytest.raises(ModelError, match=r"^a worker failed: IndexError: .*acts\.py.*stumble\)$"):
        list(start(1).each([acts.stumble]))


def test_results_of_a_round_that_was_broken_off_do_not_reach_the_next(start: Start):
    pool = start(2)
    for _ in pool.each(partial(acts.add, number=i, seconds=0.1 * i) for i in range(6)):
        break
    assert sorted(pool.each(partial(acts.add, number=i) for i in range(100, 103))) == [(0, 110), (1, 111), (2, 112)]


def test_several_threads_share_the_workers_and_each_gets_its_own_results(start: Start, tmp_path: Path):
    pool = start(2)

    def work(first: int) -> list[tuple[int, int]]:
        shards: list[Callable[[acts.Held], int]] = [partial(acts.add, number=first + i, seconds=0.01) for i in range(10)]
        shards[3] = partial(acts.die_once, number=first + 3, folder=tmp_path)
        return sorted(pool.each(shards))

    with ThreadPoolExecutor(3) as threads:
        found = list(threads.map(work, (100, 200, 300)))
    assert found == [[(i, 10 + first + i) for i in range(10)] for first in (100, 200, 300)]


def test_a_thread_with_one_long_shard_leaves_the_other_workers_to_others(start: Start, tmp_path: Path):
    pool, end = start(2), tmp_path / "end"
    with ThreadPoolExecutor(1) as threads:
        long = threads.submit(lambda: list(pool.each([partial(acts.wait, file=end)])))
        short = list(pool.each(partial(acts.add, number=i) for i in range(8)))
        assert sorted(short) == [(i, 10 + i) for i in range(8)]
        assert not long.done()
        end.touch()
        assert long.result() == [(0, "end")]


def test_threads_with_many_shards_take_turns(start: Start, tmp_path: Path):
    pool, begin = start(1), tmp_path / "begin"

    def work(name: str) -> None:
        list(pool.each(partial(acts.noted, text=name) for _ in range(6)))

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(lambda: list(pool.each([partial(acts.wait, file=begin)])))
        _until(lambda: any(r.in_hand for r in pool._rounds.values()))
        both = [threads.submit(work, name) for name in "ab"]
        _until(lambda: len(pool._rounds) == 3 and all(r.here for r in pool._rounds.values()))
        begin.touch()
        for work_of in (first, *both):
            work_of.result()
    assert "".join(pool.everywhere(acts.notes)[0]) in ("ab" * 6, "ba" * 6)


def test_an_act_before_shards_is_awaited_by_nobody_and_undone_where_it_was_done(start: Start, tmp_path: Path):
    pool, end = start(2), tmp_path / "end"
    with ThreadPoolExecutor(1) as threads:
        busy = threads.submit(lambda: list(pool.each([partial(acts.wait, file=end)])))
        _until(lambda: any(r.in_hand for r in pool._rounds.values()))
        with pool.lasting(partial(acts.note, text="a while"), partial(acts.forget, text="a while")):
            assert list(pool.each([acts.notes])) == [(0, ["a while"])]
        pool.first(partial(acts.note, text="from then on"))
        assert list(pool.each([acts.notes])) == [(0, ["from then on"])]
        assert not busy.done()
        end.touch()
        assert busy.result() == [(0, "end")]
    # the busy worker did not do the act, so that it does not undo it: that would be an error
    assert pool.everywhere(acts.notes) == [["from then on"]] * 2


def test_closing_ends_threads_that_wait(start: Start):
    pool = start(1)
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(lambda: list(pool.each([partial(acts.add, number=0, seconds=60.0)])))
        _until(lambda: any(r.in_hand for r in pool._rounds.values()))
        pool.close()
        with pytest.raises(ModelError, match=r"^the workers were closed while work was in hand"):
            waiting.result(60)


def test_a_worker_that_is_not_like_the_first_is_refused(start: Start):
    def same(name: str, result: int) -> None:
        raise ModelError(f"{name} differs")

    with pytest.raises(ModelError, match=r"^worker \d \(cpu\) differs$"):
        start(2).everywhere(acts.process, check=same)


def test_ctrl_c_finishes_what_is_in_hand_and_begins_nothing(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pool, found = start(2), []

    def run() -> None:
        for number, _ in pool.each(partial(acts.write, folder=tmp_path, number=i, seconds=0.3) for i in range(20)):
            found.append(number)
            monkeypatch.setattr(interrupt._asked, "is_set", lambda: True)

    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.undo()
    begun, done = ({f.name.rpartition("-")[2] for f in tmp_path.glob(f"{what}-*")} for what in ("begun", "done"))
    assert begun == done == {str(n) for n in found}
    assert 2 <= len(found) <= 4


def test_workers_end_with_the_driver_however_it_ends(tmp_path: Path):
    script = (
        "import acts, pathlib, sys, time\n"
        "from functools import partial\n"
        "from spa_bench.executors.pool import Pool\n"
        "from spa_bench.executors.local import LocalTransport, WorkerPlace\n"
        "pool = Pool(LocalTransport([WorkerPlace('cpu', {})] * 2), acts.load)\n"
        "print(*pool.everywhere(acts.process), flush=True)\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "list(pool.each(partial(acts.write, folder=folder, number=i, seconds=60) for i in range(2)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    driver = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True)
    assert driver.stdout is not None
    with driver.stdout:
        workers = [int(word) for word in driver.stdout.readline().split()]
    assert sorted(children(driver.pid)) == sorted(workers)
    _until(lambda: len(list(tmp_path.glob("begun-*"))) == 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    _until(lambda: not any(_runs(pid) for pid in workers))


def _until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def given_up(*_: object) -> None:
    raise GivenUp("no answer", 503)


def without_template(*_: object) -> None:
    raise ChatTemplateError("the template refuses a system message")


@pytest.mark.parametrize("act", [given_up, without_template])
def test_an_error_whose_class_takes_more_than_a_message_comes_back_with_its_message(act: Callable[..., None]):
    with pytest.raises(ModelError) as here:
        act()
    fine, error = pickle.loads(serve([object()], pickle.dumps(act)))
    assert (fine, type(error), str(error)) == (False, ModelError, str(here.value))
