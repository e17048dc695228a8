"""Results that others send: the samples that go along with a result file, and its metrics recomputed from them."""

from spa_bench.compare.submission.archive import archive_of, check_runs, save_samples
from spa_bench.compare.submission.entry import Submission, inspect_file

__all__ = ["Submission", "archive_of", "check_runs", "inspect_file", "save_samples"]
