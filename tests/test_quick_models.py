"""The rule of tests/quick.txt for models, seen from a file that may load them."""

from __future__ import annotations

from pathlib import Path

import pytest

import spa_bench as sb
from quick import guard, needs_model


@pytest.mark.parametrize("embedded", [True, False])
def test_a_quick_test_that_loads_a_model_fails(embedded: bool, tiny_folder: Path):
    model = "embedded" if embedded else str(tiny_folder)
    refused = pytest.raises(pytest.fail.Exception, match=r"a file in tests/quick\.txt loads no model: ")
    with guard("tests/test_quick.py::test"), refused:
        sb.load_model(model, device="cpu", threads=1)
    sb.load_model(model, device="cpu", threads=1).close()


def test_a_quick_test_that_asks_for_the_tiny_model_fails():
    needs_model()  # this test is none
    with guard("tests/test_quick.py::test"), pytest.raises(pytest.fail.Exception, match="loads no model"):
        needs_model()
