"""Every block of Python on a page runs here, those of one page in their order and in one namespace, or in a test named here."""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import spa_bench as sb
from doubles import RIGHT, SANDBOX, mock_run
from notebook import Notebook
from spa_bench.cards.task import TaskCard
from spa_bench.cards.training import PartitionCard
from spa_bench.mini import data
from spa_bench.publish.trackers.base import Begun, Ended
from spa_bench.runs.engines import EngineRequest
from spa_bench.sandbox import choose
from spa_bench.types import Example

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BLOCKS = {
    str(path.relative_to(ROOT)): found
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if (found := BLOCK.findall(path.read_text(encoding="utf-8")))
}
TUTORIALS = "tests/test_tutorials.py"
ELSEWHERE = {
    "docs/how-to/python.md": "tests/test_python_page.py",
    "docs/how-to/gate.md": "tests/gate/test_gate_docs.py",
    **{page: TUTORIALS for page in BLOCKS if page.startswith("docs/tutorials/")},
}
"""Page -> the test that runs its blocks."""


@dataclass(frozen=True)
class Place:
    """Where the blocks of a page run."""

    notebook: Notebook
    folder: Path  # the current one
    patch: pytest.MonkeyPatch
    fixture: Callable[[str], Any]

    def on_path(self, folder: Path) -> None:
        """Has the modules of a folder imported anew, and forgotten afterwards."""
        self.patch.syspath_prepend(str(folder))
        self.patch.setattr(sys, "dont_write_bytecode", True)
        for path in folder.glob("*.py"):
            self.patch.delitem(sys.modules, path.stem, raising=False)


def readme(place: Place) -> Iterator[None]:
    """With one answer to all problems in the place of the embedded model's."""
    for module in ("parts", "perform"):
        place.patch.setattr(f"spa_bench.runs.{module}.choose", lambda *_: choose(SANDBOX))
    place.patch.setattr(sb, "run", functools.partial(sb.run, model=lambda _: "    return 1\n", n=2, quiet=True))
    yield
    run = place.notebook.get("run")
    assert (run.sampler, len(run.problems()), len(run.samples())) == ("base", 20, 40)
    assert [path.name for path in (place.folder / "runs").iterdir()] == [run.path.name]


def a_partition(place: Place) -> Iterator[None]:
    yield
    examples = [Example(f"{i}", "x") for i in range(6)]
    assert place.notebook.get("HALVES").build(None, examples, 2, PartitionCard(), 0) == [0, 0, 0, 1, 1, 1]


def in_lm_eval(place: Place) -> Iterator[None]:
    """Without the questions of a real task, which are on the hub."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed: pip install 'spa-bench[lm-eval]'")
    takes = inspect.signature(lm_eval.simple_evaluate)
    asked: list[dict[str, Any]] = []
    place.patch.setattr(lm_eval, "simple_evaluate", lambda *a, **k: asked.append(takes.bind(*a, **k).arguments))
    yield
    from lm_eval.api.registry import get_model

    [call] = asked
    model = get_model(call["model"])
    assert model.__module__ == "spa_bench.lm_eval"
    inspect.signature(model).bind(**call["model_args"])


def a_tracker(place: Place) -> Iterator[None]:
    yield
    tracker = place.notebook.get("KIND").build(Begun(id="1", name="the-run", group="g", config={}, tags={}))
    assert tracker.where == "the-run.txt"
    tracker.progress({"generation/done": 2.0}, 2)
    tracker.finish(Ended("finished", {"pass@1": 0.5}, {}, []))
    assert (place.folder / "the-run.txt").read_text() == "2 {'generation/done': 2.0}\n{'pass@1': 0.5}\n"


def a_metric(place: Place) -> Iterator[None]:
    yield
    samples = SimpleNamespace(texts=["a\nbbb", "cc", "dddd"], failed=[False, False, True])
    assert place.notebook.get("METRIC").compute(samples) == 2.5


def descriptions(place: Place) -> Iterator[None]:
    few = data.instructions()[:24]
    place.patch.setattr(data, "instructions", lambda: few)
    yield
    assert [described.values["vendi[ngram,q=1]"].n for described in place.notebook.get("found").sets] == [24, 48]


def tasks(place: Place) -> Iterator[None]:
    place.on_path(ROOT / "docs" / "examples")
    yield
    problems, where = place.notebook.get("problems")(TaskCard(name="x", description="x"))
    assert ([p.id for p in problems], where) == (["powers/2", "powers/3", "powers/4"], "made by powers.py")
    assert place.notebook.get("KIND").options is place.notebook.get("QuestionOptions")


def reports(place: Place) -> Iterator[None]:
    place.fixture("sandbox")
    mock_run(place.folder / "runs", place.fixture("three"), lambda r: RIGHT[r.problem_id], name="a-sampler")
    yield
    assert "a-sampler" in (place.folder / "page.html").read_text(encoding="utf-8")


def an_engine(place: Place) -> Iterator[None]:
    """With a class that keeps its options in the place of an engine, and no model."""
    place.patch.setitem(sys.modules, "my_package", ModuleType("my_package"))
    place.patch.setitem(sys.modules, "my_package.server", module := ModuleType("my_package.server"))
    vars(module)["MyEngine"] = lambda options: ("engine", options)
    yield
    used: list[Any] = []
    model: Any = SimpleNamespace(use=lambda *engine: used.append(engine))
    kind = place.notebook.get("KIND")
    options = kind.options(port=1)
    request = EngineRequest(
        model="m", hf=lambda: model, unloaded=lambda: model, options=options, stages=("draw",), spent=lambda: (0, 0.0)
    )
    assert kind.build(request) is model
    assert used == [(("engine", options), ("draw",))]


def a_sampler(place: Place) -> Iterator[None]:
    """The last lines of a file whose other lines the page leaves out."""
    place.on_path(ROOT / "docs" / "examples")
    [end] = BLOCKS["docs/how-to/add-a-sampler.md"]
    above, found, below = (ROOT / "docs" / "examples" / "warm_up.py").read_text().partition(end)
    assert (found, below) == (end, "")
    place.notebook.run(above)
    yield
    assert place.notebook.get("KIND").options is place.notebook.get("WarmUpOptions")


HERE: dict[str, Callable[[Place], Iterator[None]]] = {
    "README.md": readme,
    "docs/explanation/partition.md": a_partition,
    "docs/how-to/add-a-metric.md": a_metric,
    "docs/how-to/add-a-sampler.md": a_sampler,
    "docs/how-to/add-a-task.md": tasks,
    "docs/how-to/describe-data.md": descriptions,
    "docs/how-to/engines.md": an_engine,
    "docs/how-to/report.md": reports,
    "docs/how-to/trackers.md": a_tracker,
    "docs/reference/nlu.md": in_lm_eval,
}
"""Page -> what makes the place for its blocks before its `yield`, and looks at what they did behind it."""


def test_every_page_with_python_is_run_by_one_test():
    assert sorted([*HERE, *ELSEWHERE]) == sorted(BLOCKS)
    for page, test in ELSEWHERE.items():
        assert Path(page).stem in (ROOT / test).read_text(encoding="utf-8"), test


def test_no_block_of_python_has_another_mark():
    """One of those that BLOCK does not find: a word behind the language, another name of it, a block in a list."""
    for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for line in path.read_text(encoding="utf-8").splitlines():
            assert line == "```python" or not re.match(r"\s*(```|~~~)\s*(py|ipython)", line), path


@pytest.mark.parametrize("page", HERE)
def test_the_blocks_of_a_page_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest):
    monkeypatch.chdir(tmp_path)
    place = Place(Notebook(), tmp_path, monkeypatch, request.getfixturevalue)
    setting = HERE[page](place)
    next(setting)
    for block in BLOCKS[page]:
        place.notebook.run(block)
    assert next(setting, "done") == "done"


@pytest.mark.parametrize("page", ELSEWHERE)
def test_the_blocks_that_run_elsewhere_are_python(page: str):
    for block in BLOCKS[page]:
        compile(block, page, "exec")
