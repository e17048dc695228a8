"""What a parallel worker runs as a whole, so that what tests share is made once; and the groups that take longest."""

from __future__ import annotations

import re

# CPU seconds, those of programs that tests start too, longest first: what begins last should be short, or one worker waits for
# the other.
LONGEST = (
    "tests of bwrap",  # 60
    "tests of landlock",
    "tests/report/test_report_browser.py",
    "tests/test_cli.py",
    "tests/models/test_probe.py",
    "tests/test_engines.py",
    "tests/test_kills.py",
    "tests/test_study_pages.py",
    "tests/test_wheel.py",  # 30
    "tests/models/test_hf.py",
    "tests/grading/test_behaviours.py",
    "tests/samplers/test_asking_run.py",
    "tests/spa/test_curvature.py",
    "tests/test_data_files.py",
    "tests/spa/test_influence.py",
    "tests/models/test_stream.py",
    "tests/tasks/test_lm_eval_parity.py",
    "tests/models/test_openai_probe.py",
    "tests/test_submission.py",
    "tests/models/test_gguf.py",
    "tests/test_score_cases.py",
    "tests/models/test_openai_model.py",
    "tests/tasks/test_shuffled.py",
    "tests/test_command_line.py",
    "tests/report/test_report_links.py",
    "tests/test_openai_run.py",
    "tests/grading/test_suites.py",
    "tests/models/test_failures.py",
    "tests/executors/test_grading_in_workers.py",
    "tests/test_export_lm_eval.py",
    "tests/models/test_quantized.py",
    "tests/test_submission_workflow.py",
    "tests/test_spa_commands.py",
    "tests/test_leaderboard_check.py",
    "tests/tasks/test_lm_eval_model.py",
    "tests/test_golden.py",
    "tests/view/test_view_browser.py",
    "tests/test_choosing.py",
    "tests/test_defaults.py",
    "tests/report/test_report_command.py",
    "tests/test_audit.py",
    "tests/test_elsewhere.py",
    "tests/test_study_samplers.py",
    "tests/test_mistakes.py",
    "tests/test_headline.py",
    "tests/models/test_answers_learned.py",
    "tests/tasks/test_sanitiser.py",
    "tests/test_seams.py",
    "tests/test_layering.py",  # 15
)


def group_of(nodeid: str) -> str:
    """The file of a test; of tests that take a sandbox each in turn, the sandbox, whose attacks are graded at once."""
    file, _, name = nodeid.partition("::")
    jail = re.search(r"\[(bwrap|landlock)\b", name)
    return f"tests of {jail[1]}" if jail and file.startswith("tests/sandbox/") else file
