"""Several runs of a study at once, where workers hold the model: each run has a thread of the driver, which writes its folder.

The threads share the workers. So one run is drawn while another is trained or graded, and a run that is alone at the end still
has all workers. A shard is what it is in a run by itself, and so are the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TypeVar

from spa_bench.support.console import Reporter
from spa_bench.support.interrupt import asked, pause_point

Run = TypeVar("Run")


def make_at_once(
    runs: Sequence[Run],
    make_one: Callable[[Run], bool],
    most: int,
    console: Reporter,
    *,
    shares: Callable[[Run], frozenset[str]],
) -> list[Run]:
    """Call `make_one` with each run, at most `most` at a time, and return the runs for which it said False.

    A run waits for one that is under way and `shares` something with it that no run has made before: two would do it twice. At
    an error or Ctrl-C no further run is begun, those under way end, and the first error is raised.
    """
    left, not_mine = list(runs), list[Run]()
    running: dict[Future[bool], Run] = {}
    made, failed = set[str](), list[BaseException]()
    threads = ThreadPoolExecutor(most, thread_name_prefix="run")
    try:
        while True:
            while len(running) < most and not failed and not asked():
                making = {one for run in running.values() for one in shares(run)} - made
                following = next((run for run in left if not shares(run) & making), None)
                if following is None:
                    break
                left.remove(following)
                running[threads.submit(make_one, following)] = following
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                run = running.pop(future)
                if error := future.exception():
                    if not failed and running and isinstance(error, Exception):
                        console.note(f"{error}; the other {len(running)} runs under way are finished first")
                    failed.append(error)
                elif future.result():
                    made |= shares(run)
                else:
                    not_mine.append(run)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)
    if failed:
        raise failed[0]
    pause_point()
    return not_mine
