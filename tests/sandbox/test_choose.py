"""Which sandbox is taken, and what is said where there is none."""

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from spa_bench.errors import SandboxError, UsageError
from spa_bench.grading import Outcome
from spa_bench.sandbox import SANDBOXES, Sandbox, choose
from spa_bench.sandbox.base import _package_paths, package_paths
from spa_bench.sandbox.landlock import LandlockSandbox

NO_SANDBOX = "none-i-trust-this-code"


class Broken:
    """A sandbox that does not work here."""

    def __init__(self) -> None:
        raise SandboxError("it is broken")


class Works(LandlockSandbox):
    """A sandbox that is not tried out."""

    def __init__(self) -> None: ...


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Let these work, and no others."""
    for name in SANDBOXES:
        monkeypatch.setitem(SANDBOXES, name, Works if name in names else Broken)


def fake(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An executable of that name, the only one on the path."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_order_is_the_strongest_first() -> None:
    assert list(SANDBOXES) == ["bwrap", "docker", "landlock", NO_SANDBOX]


@pytest.mark.parametrize("name", ["bwrap", "docker", "landlock"])
def test_the_default_is_the_strongest_that_works(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order = list(SANDBOXES)
    tried: list[str] = []

    def sandbox(candidate: str) -> Callable[[], Sandbox]:
        def make() -> Sandbox:
            tried.append(candidate)
            if order.index(candidate) < order.index(name):
                raise SandboxError("no")
            return Works()

        return make

    for candidate in order:
        monkeypatch.setitem(SANDBOXES, candidate, sandbox(candidate))
    assert isinstance(choose(), Works)
    assert tried == order[: order.index(name) + 1]


def test_the_default_is_never_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, NO_SANDBOX)
    with pytest.raises(SandboxError) as caught:
        choose()
    for part in ("it is broken; it is broken; it is broken", "apt-get install bubblewrap", f"--sandbox {NO_SANDBOX}"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sandbox_that_is_asked_for_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "landlock", NO_SANDBOX)
    with pytest.raises(SandboxError, match="it is broken"):
        choose("bwrap")


def test_an_unknown_sandbox_is_refused_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match=r"unknown sandbox 'bwarp'; did you mean 'bwrap'\?"):
        choose("bwarp")
    with pytest.raises(UsageError, match=r"did you mean 'none-i-trust-this-code'\?"):
        choose("none")
    with pytest.raises(UsageError, match="known are bwrap, docker, landlock, none-i-trust-this-code"):
        choose("42")


def test_without_bwrap_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SandboxError) as caught:
        choose("bwrap")
    for part in ("bwrap is not installed", "apt-get install bubblewrap", f"--sandbox {NO_SANDBOX}"):
        assert part in str(caught.value)


def test_a_bwrap_that_does_not_work_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(tmp_path, "bwrap", "echo 'bwrap: No permissions to create new namespace' >&2; exit 1", monkeypatch)
    with pytest.raises(SandboxError, match=r"does not work here \(bwrap: No permissions to create new namespace\)"):
        choose("bwrap")


def test_a_bwrap_that_says_nothing_is_told_by_its_status(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(tmp_path, "bwrap", "exit 3", monkeypatch)
    with pytest.raises(SandboxError, match=r"does not work here \(exit status 3\)"):
        choose("bwrap")


def test_a_bwrap_that_does_not_know_an_option_is_used_without_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = 'for word; do [ "$word" = --disable-userns ] && { echo unknown option >&2; exit 1; }; done; printf H'
    fake(tmp_path, "bwrap", script, monkeypatch)
    assert choose("bwrap").name == "bwrap"


def test_a_docker_without_an_engine_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake(tmp_path, "docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1", monkeypatch)
    with pytest.raises(SandboxError, match=r"docker does not work here \(Cannot connect to the Docker daemon\)"):
        choose("docker")


def test_without_landlock_in_the_kernel_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "spa_bench.sandbox.landlock.zygote_command", lambda *_, **__: ["/bin/sh", "-c", "echo no Landlock >&2; exit 1"]
    )
    with pytest.raises(SandboxError, match=r"landlock does not work here \(no Landlock\)"):
        choose("landlock")


def test_a_sandbox_that_stops_working_is_an_error_and_no_verdict(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, grades: Callable[..., list[Outcome]]
) -> None:
    tried = tmp_path / "tried"
    fake(tmp_path, "bwrap", f"[ -e {tried} ] && echo 'bwrap: no more' >&2 || printf H; : > {tried}", monkeypatch)
    broken = choose("bwrap")
    with pytest.raises(SandboxError, match="did not start: bwrap: no more"):
        grades(broken, "def f(x):\n    return x + 1\n")


@pytest.mark.parametrize("name", ["bwrap", "landlock", NO_SANDBOX])
def test_a_package_that_is_not_installed_is_an_error_before_anything_runs(name: str) -> None:
    try:
        choose(name, ["numpy"])
    except SandboxError as error:
        pytest.skip(str(error))
    with pytest.raises(SandboxError, match=r"^package 'nosuchpkg', .* is not installed here; pip install it, or take it out"):
        choose(name, ["numpy", "nosuchpkg"])


def test_what_a_package_requires_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = importlib.metadata.distribution("numpy")
    monkeypatch.setattr(type(numpy), "requires", property(lambda self: ['nosuchpkg; sys_platform == "win32"']))
    _package_paths.cache_clear()
    assert package_paths(["numpy"])


@pytest.mark.parametrize("name", ["", "../../etc", "\0"])
def test_a_package_without_a_plain_name_is_not_installed(name: str) -> None:
    with pytest.raises(SandboxError, match="is not installed here"):
        package_paths([name])
