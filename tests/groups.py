"""What a parallel worker runs as a whole, so that what tests share is made once; and the groups that take longest."""

from __future__ import annotations

import re

# Seconds in a worker of a run on two cores, longest first: what begins last should be short, or one worker waits for the other.
LONGEST = (
    "tests of bwrap",  # 123
    "tests of landlock",
    "tests/report/test_report_browser.py",
    "tests/models/test_probe.py",
    "tests/models/test_openai_model.py",
    "tests/test_cli.py",
    "tests/test_engines.py",
    "tests/grading/test_behaviours.py",
    "tests/models/test_hf.py",
    "tests/models/test_openai_probe.py",  # 58
    "tests/grading/test_suites.py",
    "tests/test_command_line.py",
    "tests/test_openai_run.py",
    "tests/tasks/test_lm_eval_parity.py",
    "tests/test_kills.py",
    "tests/test_choosing.py",
    "tests/samplers/test_asking_run.py",
    "tests/models/test_gguf.py",
    "tests/test_study_pages.py",
    "tests/grading/test_pool.py",
    "tests/spa/test_influence.py",
    "tests/report/test_report_command.py",
    "tests/test_seams.py",
    "tests/test_leaderboard_check.py",
    "tests/test_describe_command.py",
    "tests/test_golden.py",
    "tests/report/test_report_links.py",
    "tests/tasks/test_evalplus.py",
    "tests/spa/test_softsrv.py",
    "tests/test_study_synthesize.py",
    "tests/test_submission.py",
    "tests/models/test_stream.py",  # 30
    "tests/models/test_failures.py",
    "tests/test_layering.py",
    "tests/grading/test_costs.py",
    "tests/test_wheel.py",
    "tests/api/test_runs.py",
    "tests/view/test_view_browser.py",
    "tests/tasks/test_lm_eval_model.py",
    "tests/tasks/test_lm_eval_scoring.py",
    "tests/gate/test_gate_statistics.py",
    "tests/test_data_files.py",
    "tests/test_export_lm_eval.py",
    "tests/described/test_described_sets.py",
    "tests/test_submission_workflow.py",
    "tests/executors/test_grading_in_workers.py",
    "tests/test_mistakes.py",
    "tests/tasks/test_sanitiser.py",
    "tests/spa/test_curvature.py",
    "tests/mini/test_mini_nlu.py",
    "tests/models/test_shipped.py",
    "tests/grading/test_pieces.py",
    "tests/test_verify.py",
    "tests/models/test_spelling.py",
    "tests/test_study_claims.py",
    "tests/test_score_cases.py",
    "tests/models/test_answers_learned.py",
    "tests/models/test_quantized.py",
    "tests/test_elsewhere.py",
    "tests/models/test_openai_calls.py",  # 18
)


def group_of(nodeid: str) -> str:
    """The file of a test; of tests that take a sandbox each in turn, the sandbox, whose attacks are graded at once."""
    file, _, name = nodeid.partition("::")
    jail = re.search(r"\[(bwrap|landlock)\b", name)
    return f"tests of {jail[1]}" if jail and file.startswith("tests/sandbox/") else file
