"""Fixtures for all tests: isolated caches, the real data where it is, and a tiny seeded random transformer."""

from __future__ import annotations

import json
import os
import shutil
import sys
import uuid
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from doubles import SANDBOX, Call, Done, InProcessJudge
from groups import LONGEST, group_of
from openai_server import NO_KEY, Served, serving
from quick import guard, needs_model, watch_models
from spa_bench.cli import main as cli
from spa_bench.errors import SandboxError
from spa_bench.sandbox import choose
from tiny import save_tiny

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported; the tests themselves run side by side

# Whether bytes outlive a power cut is seen by no test of this process, and a disk takes milliseconds to promise it. The kill
# server, a process of its own, has the real one.
os.fsync = os.fstat  # type: ignore[assignment]

# Tests run side by side: what one calls in its process is told of one core, and starts one worker for programs and none for
# texts unless it asks for more. Commands that a test starts as processes see all cores.
CORES = len(os.sched_getaffinity(0))
os.sched_getaffinity = lambda _: {0}

# Half of the time of collecting goes into rewriting the asserts of tests, which pytest keeps beside them where it may.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

watch_models()

ROOT = Path(__file__).resolve().parents[1]
_DATA = os.environ.get("SPA_BENCH_DATA")  # read before any fixture unsets it


def pytest_configure(config: pytest.Config) -> None:
    # PEFT asks transformers 5.23 by an old name whenever it wraps a model
    config.addinivalue_line("filterwarnings", "ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers of `-n auto`: two more than the cores this process may use, 8 at most, as each takes up to 2 GB of memory.

    A test waits for the programs that it starts nearly half of its time. `-n logical`, for tests that start none: the cores.
    """
    more = 0 if config.option.numprocesses == "logical" else 2
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        allowed = round(int(quota) / int(period))
    except (OSError, ValueError):  # no control groups, or "max"
        allowed = 8
    return max(1, min(8, allowed + more, CORES + more))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """The scheduler of `--dist loadgroup`.

    pytest-xdist's own takes groups from the names of tests, where it writes them by a way that pytest 9.2 closed
    (pytest-xdist issue 1386): every test is its own group then, and what a file's tests share is made once a worker.
    """
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByGroup(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Workers begin with the groups that take longest."""
    if hasattr(config, "workerinput"):
        order = {name: place for place, name in enumerate(LONGEST)}
        items.sort(key=lambda item: order.get(group_of(item.nodeid), len(order)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Tests of quick.txt start no process and load no model, nor do the fixtures that their files share; slow ones may."""
    with nullcontext() if item.get_closest_marker("slow") else guard(item.nodeid):
        return (yield)


@pytest.fixture(autouse=True)
def _isolated(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No test reads or leaves anything in the user's caches, and none reaches the network."""
    if {"tiny_folder", "tiny_model"} & {*request.fixturenames}:
        needs_model()
    # a folder costs milliseconds to make and more to remove: a test that asks for none has a cache that is made if it is used
    folder = request.getfixturevalue("tmp_path") if "tmp_path" in request.fixturenames else None
    cache = folder / "cache" if folder else tmp_path_factory.getbasetemp() / "caches" / uuid.uuid4().hex
    monkeypatch.setenv("SPA_BENCH_CACHE", str(cache))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts
    for name in ("HUMANEVAL_OVERRIDE_PATH", "MBPP_OVERRIDE_PATH", "SPA_BENCH_DATA"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real benchmark data; tests that need it skip where it is absent."""
    folder = Path(_DATA) if _DATA else ROOT.parent / "shared" / "data"
    if not (folder / "humaneval").is_dir():
        pytest.skip(f"no benchmark data in {folder}; set SPA_BENCH_DATA to a folder with humaneval/HumanEval.jsonl.gz")
    return folder


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded random Llama of 0.3 M parameters with the embedded tokenizer, as safetensors."""
    return save_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_model(tiny_folder: Path) -> Any:
    """The tiny transformer behind the harness' own interface, on one CPU thread in float32."""
    from spa_bench.models.hf.model import HFModel, HFOptions

    return HFModel(str(tiny_folder), HFOptions(device="cpu", threads=1), name="tiny")


@pytest.fixture
def four_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches may have as few as four rows, on a CPU too that takes more for the same bytes: for tests that count rows."""
    monkeypatch.setattr("spa_bench.models.hf.products._on_this_cpu", lambda threads: 4)


@pytest.fixture(scope="session")
def bwrap() -> str:
    """The name of the real sandbox; tests that need it skip where it does not work."""
    try:
        return choose("bwrap").name
    except SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> InProcessJudge:
    """A judge double that every run of this test uses; it runs our own programs in this process and keeps them."""
    double = InProcessJudge()
    monkeypatch.setattr("spa_bench.runs.grade.make_judge", lambda *_: double)
    return double


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """A task card over a HumanEval-shaped file of three problems: add, double and last."""
    rows = [
        ("add", "a, b", "a + b", "(1, 2) == 3", "(0, 0) == 0"),
        ("double", "x", "2 * x", "(3) == 6", "(-1) == -2"),
        ("last", "xs", "xs[-1]", "([1, 2]) == 2", "([7]) == 7"),
    ]
    lines = []
    for name, arguments, result, *checks in rows:
        tests = "def check(candidate):\n" + "".join(f"    assert candidate{check}\n" for check in checks)
        prompt = f'def {name}({arguments}):\n    """Return {result}."""\n'
        reference = f"    return {result}\n"
        row = {
            "task_id": f"three/{name}",
            "prompt": prompt,
            "entry_point": name,
            "test": tests,
            "canonical_solution": reference,
        }
        lines.append(json.dumps(row) + "\n")
    (tmp_path / "three.jsonl").write_text("".join(lines))
    card = tmp_path / "three.toml"
    card.write_text(
        'description = "three problems"\nfile = "three.jsonl"\nversion = "1"\nmax_new_tokens = 12\nstop = ["\\ndef "]\n'
    )
    return card


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    def called(*arguments: object) -> Done:
        capsys.readouterr()
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as end:  # argparse
            code = end.code if isinstance(end.code, int) else 1
        seen = capsys.readouterr()
        return Done(code, seen.out, seen.err)

    return called


@pytest.fixture
def run(call: Call, three: Path, tiny_folder: Path, tmp_path: Path) -> Call:
    """`run` on the three problems with the tiny model and the bare base; later arguments win."""

    def called(*arguments: object) -> Done:
        options = ["--sampler", "base", "--task", three, "--model", tiny_folder, "--threads", 1, "--device", "cpu"]
        return call("run", *options, "--out", tmp_path / "runs", "--sandbox", SANDBOX, *arguments)

    return called


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call of a server is tried again at once, and no key is set."""
    monkeypatch.setattr("spa_bench.models.openai.limits.FIRST", 0.001)
    monkeypatch.delenv(NO_KEY, raising=False)


@pytest.fixture
def served() -> Iterator[Served]:
    """A server of the OpenAI protocol, of the tests' own."""
    with serving() as state:
        yield state


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless browser. Tests that need it skip where there is none.

    One a module: Playwright takes no second one at a time, and tests of sandboxes count this process's children.
    """
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install playwright")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
    with sync_api.sync_playwright() as play:
        try:
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: apt-get install chromium, or playwright install chromium ({error})")
        yield browser
        browser.close()
