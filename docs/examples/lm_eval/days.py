"""The questions of days.yaml: seven, each with three days to choose from."""

from typing import Any

from datasets import Dataset

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]


def questions(**_: Any) -> dict[str, Dataset]:
    """Split -> rows, as lm-eval's custom_dataset has it."""
    rows = []
    for i, day in enumerate(DAYS):
        days = sorted({day, DAYS[(i + 1) % 7], DAYS[(i + 3) % 7]})
        rows.append({"day": day, "choices": [f" {d}" for d in days], "answer": days.index(DAYS[(i + 1) % 7])})
    return {"test": Dataset.from_list(rows)}
