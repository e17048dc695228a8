"""The docker sandbox, before an executable that plays the engine and runs what it is given on this machine."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spa_bench.errors import SandboxError
from spa_bench.grading import Outcome
from spa_bench.sandbox import Limits, choose
from spa_bench.sandbox.base import INSIDE
from spa_bench.sandbox.docker import Docker

ADDS_ONE = "def f(x):\n    return x + 1\n"
ENGINE = """#!{python}
import json, os, sys
with open({log!r}, "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
word = sys.argv[1]
if word == "info":
    print({runtimes!r})
elif word == "image":
    print({images!r})
elif word == "run":
    at = sys.argv.index({image!r})
    inner = sys.argv[at + 1 :]
    settings = json.loads(inner[-1])
    os.makedirs({scratch!r}, exist_ok=True)
    settings.update(scratch={scratch!r}, alone=False)  # this machine has other processes
    inner[-2:] = [{folder!r}, json.dumps(settings)]
    os.execv({python!r}, [{python!r}, *inner])
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs the executable; the file to which it writes its arguments."""

    def install(runtimes: str = '{"runc": {}}', images: str = "0123abcd", image: str = "") -> Path:
        log = tmp_path / "log"
        image = image or f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"
        names = {
            "runtimes": runtimes,
            "images": images,
            "image": image,
            "log": str(log),
            "python": os.path.realpath(sys.executable),
        }
        path = tmp_path / "docker"
        path.write_text(ENGINE.format(**names, scratch=str(tmp_path / "scratch"), folder=str(INSIDE.parent)))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return log

    return install


def calls(log: Path) -> list[list[str]]:
    return [json.loads(line) for line in log.read_text().splitlines()]


def value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_programs_are_graded_through_the_engine(engine: Callable[..., Path], grades: Callable[..., list[Outcome]]) -> None:
    log = engine()
    sources = [ADDS_ONE, "def f(x):\n    return 2\n", "import os\nos.fork()\n", "import os\nos._exit(0)\n"]
    found = grades(choose("docker"), *sources)
    assert [outcome.verdict for outcome in found] == ["passed", "wrong", "raised", "crashed"]
    assert {command[0] for command in calls(log)} == {"info", "image", "run"}


def test_a_container_has_no_network_no_rights_and_nothing_to_write_to(engine: Callable[..., Path]) -> None:
    engine()
    command = Docker().command(Limits(memory_mb=100, file_mb=8))
    wanted = {"--network": "none", "--cap-drop": "ALL", "--security-opt": "no-new-privileges", "--user": "65534:65534"}
    wanted |= {"--ipc": "none", "--pids-limit": "128", "--memory": "620m", "--memory-swap": "620m", "--pull": "never"}
    assert {option: value(command, option) for option in wanted} == wanted
    assert {"--read-only", "--rm", "--interactive"} <= set(command)
    assert not {"--privileged", "--pid", "--volume", "-v", "--cap-add", "--device"} & set(command)


def test_a_container_sees_our_code_alone_and_cannot_change_it(engine: Callable[..., Path]) -> None:
    engine()
    command = Docker().command(Limits())
    assert command.count("--mount") == 1
    assert value(command, "--mount") == f"type=bind,source={INSIDE},target=/spa-bench/inside,readonly"
    assert value(command, "--tmpfs") == "/tmp:rw,nosuid,nodev,noexec,size=8m"


def test_the_filters_of_system_calls_hold_in_a_container_too(engine: Callable[..., Path]) -> None:
    engine()
    settings = json.loads(Docker().command(Limits())[-1])
    assert settings["seccomp"] is True
    assert settings["alone"] is True
    assert settings["scratch"] == "/tmp"


def test_the_environment_of_a_container_is_ours(engine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    engine()
    command = Docker().command(Limits())
    names = [command[at + 1].split("=")[0] for at, word in enumerate(command) if word == "--env"]
    assert names == ["PYTHONHASHSEED", "OPENBLAS_NUM_THREADS", "LC_ALL"]


def test_gvisor_is_used_where_it_is_configured(engine: Callable[..., Path]) -> None:
    engine(runtimes='{"runc": {}, "runsc": {"path": "runsc"}}')
    assert value(Docker().command(Limits()), "--runtime") == "runsc"


def test_without_gvisor_no_runtime_is_named(engine: Callable[..., Path]) -> None:
    engine()
    assert "--runtime" not in Docker().command(Limits())


def test_an_image_that_is_not_there_is_an_error_that_says_how_to_get_it(engine: Callable[..., Path]) -> None:
    log = engine(images="")
    with pytest.raises(SandboxError, match=r"docker has no image python:3\.\d+-slim; docker pull python:3\.\d+-slim"):
        choose("docker")
    assert "pull" not in {command[0] for command in calls(log)}


def test_another_image_is_taken_from_the_environment(engine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    log = engine(image="mine:1")
    monkeypatch.setenv("SPA_BENCH_DOCKER_IMAGE", "mine:1")
    assert "mine:1" in Docker().command(Limits())
    assert ["image", "ls", "--quiet", "mine:1"] in calls(log)


def test_without_docker_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError, match="docker is not installed"):
        choose("docker")
