"""The versions that are promised: `nox -s oldest` and `nox -s newest`, each for every Python that is here.

docs/reference/compatibility.md has what came out. Behind `--` stands what to run: `quick` (the default: the tests without
processes and models, one run and its page) or `full` (all tests). SPA_BENCH_TORCH names another torch than the tested one, for
machines that have that one alone.
"""

from __future__ import annotations

import os
from pathlib import Path

import nox

PYTHONS = ["3.11", "3.12", "3.13"]
LEFT_OUT = ["vllm", "wandb", "mlflow-skinny", "alembic", "sqlalchemy", "trackio"]  # environments of their own
EXTRAS = ".[data,evalplus,lm-eval,openai,report,dev]"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def oldest(session: nox.Session) -> None:
    """The lower bounds of pyproject.toml."""
    folder = Path(session.create_tmp())
    asked, found, torch = (folder / name for name in ("asked.in", "found.txt", "torch.txt"))
    asked.write_text(str(session.run("python", "scripts/oldest", *LEFT_OUT, silent=True)))
    torch.write_text(f"torch=={os.environ['SPA_BENCH_TORCH']}\n" if "SPA_BENCH_TORCH" in os.environ else "")
    session.install("uv")
    session.run(
        "uv", "pip", "compile", str(asked), "--resolution", "lowest-direct", "--override", str(torch), "--python",
        str(session.python), "--no-annotate", "--quiet", "-o", str(found),
    )  # fmt: skip
    _uv(session, "-r", str(found))
    _uv(session, "--no-deps", "-e", ".")
    _check(session)


@nox.session(python=PYTHONS)
def newest(session: nox.Session) -> None:
    """The newest versions that there are."""
    _install(session, "--upgrade")
    _check(session)


@nox.session(python=PYTHONS)
def tested(session: nox.Session) -> None:
    """The versions of constraints.txt."""
    _install(session, "-c", "constraints.txt")
    _check(session)


def _install(session: nox.Session, *options: str) -> None:
    torch = os.environ.get("SPA_BENCH_TORCH")
    session.install("uv")
    _uv(session, *options, "-e", EXTRAS, *([f"torch=={torch}"] if torch else []))
    session.run("uv", "pip", "freeze", "--python", "python", "--exclude-editable")


def _uv(session: nox.Session, *what: str) -> None:
    """Install with uv, which takes seconds where pip takes an hour over the oldest versions; it reads UV_FIND_LINKS."""
    session.run("uv", "pip", "install", "--python", "python", *what)


def _check(session: nox.Session) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    if "full" in session.posargs:
        session.run("python", "-m", "pytest", "-n", "auto", "--dist", "loadgroup", "--no-loadscope-reorder", env=offline)
        return
    session.run("python", "-m", "pytest", "@tests/quick.txt", env=offline)
    out = session.create_tmp()
    words = ["--sampler", "spa-random", "--task", "mini-code", "--limit", "4", "--set", "lora.steps=2", "--out", f"{out}/runs"]
    session.run("spa-bench", "run", *words, env=offline)
    session.run("spa-bench", "report", f"{out}/runs", "-o", f"{out}/page", env=offline)
