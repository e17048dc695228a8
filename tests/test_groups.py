"""Parallel workers run files as a whole, and the attacks on a sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from groups import LONGEST, group_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/test_cli.py::test_help", "tests/test_cli.py"),
        ("tests/sandbox/test_ends.py::test_a_deadlock_times_out[bwrap]", "tests of bwrap"),
        ("tests/sandbox/test_cheating.py::test_a_value_that_equals_everything_is_wrong[landlock-int]", "tests of landlock"),
        (
            "tests/sandbox/test_choose.py::test_a_package_of_no_name[]",
            "tests/sandbox/test_choose.py",
        ),
        ("tests/grading/test_pool.py::test_it[bwrap]", "tests/grading/test_pool.py"),
    ],
)
def test_a_worker_runs_a_file_or_the_tests_of_a_sandbox(nodeid: str, group: str):
    assert group_of(nodeid) == group


def test_the_longest_groups_are_there():
    assert [name for name in LONGEST if not name.startswith("tests of ") and not (ROOT / name).is_file()] == []
    assert len(set(LONGEST)) == len(LONGEST)


def test_pytest_xdist_asks_its_scheduler_for_the_group_of_a_test():
    scheduling = pytest.importorskip("xdist.scheduler.loadscope").LoadScopeScheduling
    assert "_split_scope" in vars(scheduling)
