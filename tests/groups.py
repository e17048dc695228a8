"""What a parallel worker runs as a whole, so that what tests share is made once; and the groups that take longest."""

from __future__ import annotations

import re

# Seconds by the clock with a core for each worker, longest first: what begins last should be short, or one worker waits for
# the other.
LONGEST = (
    "tests of bwrap",  # 60
    "tests of landlock",
    "tests/test_kills.py",
    "tests/report/test_report_browser.py",
    "tests/grading/test_behaviours.py",
    "tests/grading/test_suites.py",
    "tests/test_cli.py",
    "tests/test_choosing.py",
    "tests/view/test_view_browser.py",
    "tests/spa/test_influence.py",  # 20
    "tests/tasks/test_evalplus.py",
    "tests/spa/test_curvature.py",
    "tests/spa/test_estimate.py",
    "tests/models/test_shipped.py",
    "tests/models/test_hf.py",
    "tests/models/test_stream.py",
    "tests/tasks/test_behave.py",
    "tests/grading/test_pool.py",
    "tests/tasks/test_lm_eval_parity.py",
    "tests/test_export_lm_eval.py",
    "tests/test_doc_examples.py",
    "tests/test_audit.py",
    "tests/test_study_pages.py",
    "tests/tasks/test_lm_eval_model.py",
    "tests/test_interrupt.py",
    "tests/test_export_evalplus.py",
    "tests/trackers/test_tracking.py",
    "tests/mini/test_mini_nlu.py",
    "tests/test_golden.py",
    "tests/test_benchmark_gpu_session.py",
    "tests/test_export_grader.py",
    "tests/test_real.py",
    "tests/test_leaderboard_check.py",
    "tests/models/test_probe.py",  # 10
    "tests/tasks/test_lm_eval_scoring.py",
    "tests/spa/test_adapt_snapshots.py",
)


def group_of(nodeid: str) -> str:
    """The file of a test; of tests that take a sandbox each in turn, the sandbox, whose attacks are graded at once."""
    file, _, name = nodeid.partition("::")
    jail = re.search(r"\[(bwrap|landlock)\b", name)
    return f"tests of {jail[1]}" if jail and file.startswith("tests/sandbox/") else file
