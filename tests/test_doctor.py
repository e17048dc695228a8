"""`spa-bench doctor`: every check survives a broken machine, and what is missing comes with the command that mends it."""

import gzip
import importlib.metadata as metadata
import json
import os
import re
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spa_bench.cli import doctor
from spa_bench.cli import main as cli
from spa_bench.cli.doctor import Finding, data, finding, machine, sandboxes
from spa_bench.errors import SandboxError
from spa_bench.sandbox import SANDBOXES, Limits, Sandbox
from spa_bench.sandbox.none import NoSandbox
from spa_bench.support.cache import own_cache

STATUSES = {"ok", "missing", "not needed"}
Programs = Callable[..., Path]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """PATH is a folder in which `programs(bwrap="echo 1")` puts shell scripts."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def put(**scripts: str) -> Path:
        for name, script in scripts.items():
            file = folder / name.replace("_", "-")
            file.write_text(f"#!/bin/sh\n{script}\n")
            file.chmod(0o755)
        return folder

    return put


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for module in (finding, sandboxes):
        monkeypatch.setattr(module, "SUDO", "sudo ")


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A kernel whose switches are only what `proc(**{"user.x": "1"})` says."""
    monkeypatch.setattr(sandboxes, "PROC", tmp_path / "proc")

    def put(switches: dict[str, str]) -> None:
        for name, value in switches.items():
            file = tmp_path / "proc" / "sys" / name.replace(".", "/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(value + "\n")

    return put


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`checks(name=function)`: these and no others."""
    return lambda **table: monkeypatch.setattr(doctor, "CHECKS", table)


def only(rows: Iterator[Finding]) -> Finding:
    [found] = rows
    return found


def refused(*_: object) -> Sandbox:
    raise SandboxError("it is broken")


# the command ---------------------------------------------------------------------------------------------------------


def test_json_is_a_list_of_rows_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    began = time.monotonic()
    code = cli.main(["doctor", "--json"])
    assert time.monotonic() - began < doctor.DEADLINE + 30
    out = capsys.readouterr().out
    rows = json.loads(out)
    assert all(list(r) == ["check", "status", "found", "mend"] for r in rows)
    assert all(isinstance(value, str) for r in rows for value in r.values())
    assert {r["status"] for r in rows} <= STATUSES
    names = [r["check"] for r in rows]
    assert len(set(names)) == len(names)
    assert {"python", "package torch", "sandbox", "seccomp", "cgroup", "user namespaces", "cuda", "cpu", "hub"} <= set(names)
    assert {name for name in SANDBOXES if name != NoSandbox.name} <= set(names)
    assert (code == 0) == all(r["status"] == "ok" for r in rows if r["check"] == "sandbox")


def test_the_table_ends_with_the_commands(checks: Callable[..., None], capsys: pytest.CaptureFixture[str]):
    checks(bwrap=lambda: [Finding("bwrap", "ok", "works")], hub=lambda: [Finding("hub", "missing", "gone", "mend --it")])
    assert cli.main(["doctor"]) == 0
    seen = capsys.readouterr()
    assert seen.err == ""
    above, below = seen.out.split("\n\n")
    assert [line.split()[:2] for line in above.splitlines()[2:]] == [["sandbox", "ok"], ["bwrap", "ok"], ["hub", "missing"]]
    assert below.splitlines()[-1].endswith("mend --it")


def test_without_a_sandbox_the_exit_code_is_one_and_one_line_says_so(
    monkeypatch: pytest.MonkeyPatch,
    programs: Programs,
    user: None,
    proc: Callable[..., None],
    capsys: pytest.CaptureFixture[str],
):
    programs(dnf="exit 1")
    monkeypatch.setattr(sandboxes.guard, "landlock_abi", lambda: 0)
    assert cli.main(["doctor", "--json"]) == 1
    seen = capsys.readouterr()
    assert seen.err == "spa-bench: the main job cannot run here: sandbox: none works here, so no answer can be graded\n"
    rows = {r["check"]: r for r in json.loads(seen.out)}
    assert {rows[name]["status"] for name in ("sandbox", "bwrap", "docker", "landlock")} == {"missing"}
    assert rows["sandbox"]["mend"] == rows["bwrap"]["mend"] == "sudo dnf install -y bubblewrap"


def test_a_missing_package_is_named_with_its_command(
    checks: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    requires = ["numpy>=1.26", "no-such-package>=2.6", "pytest>=9999", "evalplus>=0.3.1; extra == 'evalplus'"]
    monkeypatch.setattr(metadata, "requires", lambda _: requires)
    checks(bwrap=lambda: [Finding("bwrap", "ok", "works")], packages=machine.packages)
    assert cli.main(["doctor"]) == 1
    seen = capsys.readouterr()
    reason = f"package no-such-package: not installed; package pytest: {pytest.__version__}, but 9999 is needed"
    assert seen.err == f"spa-bench: the main job cannot run here: {reason}\n"
    assert f"{sys.executable} -m pip install 'no-such-package>=2.6'" in seen.out


def test_without_metadata_the_base_packages_are_those_of_the_project(monkeypatch: pytest.MonkeyPatch):
    def absent(_: str) -> list[str]:
        raise metadata.PackageNotFoundError

    monkeypatch.setattr(metadata, "requires", absent)
    wanted = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]["dependencies"]
    shown = [row.check.removeprefix("package ") for row in machine.packages()][: len(wanted)]
    assert shown == [re.split("[>=]", line)[0] for line in wanted]
    monkeypatch.setattr(machine, "_HOME", Path("/nowhere/of/this/checkout"))
    assert [row.status for row in machine.packages() if row.check == "package torch"] == []  # no list, so nothing is claimed


def test_an_optional_package_is_not_needed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["numpy>=1.26", "evalplus>=9999; extra == 'evalplus'"])
    rows = {r.check: r for r in machine.packages()}
    assert (rows["package numpy"].status, rows["package evalplus"].status) == ("ok", "not needed")
    assert rows["package evalplus"].mend.endswith("'evalplus>=9999'")
    assert not doctor.obstacle([*rows.values()])


def test_versions_are_compared_as_numbers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(metadata, "requires", lambda _: ["torch>=2.6"])
    monkeypatch.setattr(machine, "_tested", lambda: {"torch": "2.13.0"})
    for version, status, found in (
        ("2.13.0+cpu", "ok", "2.13.0+cpu"),
        ("2.10.1", "ok", "2.10.1 (tested with 2.13.0)"),
        ("2.5.9", "missing", "2.5.9, but 2.6 is needed"),
    ):
        monkeypatch.setattr(metadata, "version", lambda _, version=version: version)
        first = next(iter(machine.packages()))
        assert (first.status, first.found) == (status, found)


def test_doctor_loads_no_torch(tmp_path: Path):
    script = "import sys; from spa_bench.cli import main as cli; cli.main(['doctor']); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert done.stdout.splitlines()[-1] == "False"


# checks that fail ----------------------------------------------------------------------------------------------------


def test_a_check_that_raises_is_a_row(checks: Callable[..., None]):
    def broken() -> Iterator[Finding]:
        yield Finding("never", "ok", "seen")
        raise ZeroDivisionError("by nothing")

    checks(cpu=broken, bwrap=lambda: [Finding("bwrap", "ok", "works")])
    assert doctor.examine()[0] == Finding("cpu", "missing", "cannot be checked (ZeroDivisionError: by nothing)")


def test_a_check_that_hangs_is_a_row_and_holds_up_no_other(checks: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "DEADLINE", 0.3)
    over = threading.Event()
    checks(docker=lambda: [][over.wait(60) :], landlock=lambda: [Finding("landlock", "ok", "works")])
    began = time.monotonic()
    choice, docker, landlock = doctor.examine()
    over.set()
    assert time.monotonic() - began < 30
    assert (choice.status, choice.found) == ("ok", "landlock (the strongest that works here)")
    assert docker == Finding("docker", "not needed", "no answer within 0.3 s")
    assert landlock.status == "ok"


def test_a_machine_without_anything_has_only_rows(
    programs: Programs, proc: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    programs()
    monkeypatch.setenv("HOME", str(tmp_path / "nowhere"))
    rows = doctor.examine()
    assert {r.status for r in rows} <= STATUSES
    assert not [r for r in rows if "cannot be checked" in r.found]


# sandboxes -----------------------------------------------------------------------------------------------------------


def test_the_first_sandbox_that_works_is_the_choice_and_the_others_are_not_needed(checks: Callable[..., None]):
    rows = {name: Finding(name, "ok", "works") for name in ("docker", "landlock")}
    rows |= {name: Finding(name, "missing", "broken", "mend") for name in ("bwrap", "user namespaces")}
    checks(**{name: lambda row=row: [row] for name, row in rows.items()})
    found = {r.check: r for r in doctor.examine()}
    assert found["sandbox"].found == "docker (the strongest that works here)"
    assert found["bwrap"] == Finding("bwrap", "not needed", "broken", "mend")
    assert found["user namespaces"].status == "not needed"


def test_bwrap_that_works_says_whether_it_forbids_user_namespaces(bwrap: str):
    found = only(sandboxes.bwrap())
    accepted = "--disable-userns" in SANDBOXES["bwrap"]().command(Limits())
    assert found.status == "ok"
    assert found.found.endswith(f"works; --disable-userns is {'accepted' if accepted else 'refused'}")


def test_bwrap_that_a_switch_forbids_is_mended_by_the_switch(programs: Programs, user: None, proc: Callable[..., None]):
    programs(
        bwrap='[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit; echo "No permissions to create new namespace" >&2; exit 1'
    )
    proc({"kernel.apparmor_restrict_unprivileged_userns": "1", "user.max_user_namespaces": "100"})
    found = only(sandboxes.bwrap())
    assert (found.status, found.mend) == ("missing", "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
    assert "No permissions to create new namespace" in found.found
    assert only(sandboxes.user_namespaces()).mend == found.mend


def test_all_switches_that_are_off_go_into_one_command(user: None, proc: Callable[..., None]):
    proc({"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "0"})
    found = only(sandboxes.user_namespaces())
    assert found.found == "kernel.unprivileged_userns_clone=0, user.max_user_namespaces=0"
    assert found.mend == "sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000"


def test_switches_for_users_do_not_bind_root(proc: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    proc({"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "100"})
    assert only(sandboxes.user_namespaces()).status == "ok"


def test_a_bwrap_that_hangs_is_given_up(programs: Programs, proc: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(finding, "_PATIENCE", 0.3)
    programs(bwrap="exec /bin/sleep 60")
    began = time.monotonic()
    found = only(sandboxes.bwrap())
    assert time.monotonic() - began < 30
    assert (found.status, found.found) == ("missing", "bwrap does not answer within 0.3 s")


@pytest.mark.parametrize(
    ("script", "found", "mend"),
    [
        ("exec /bin/sleep 60", "docker does not answer within 0.3 s", "sudo systemctl restart docker"),
        (
            "echo Cannot connect to the Docker daemon >&2; exit 1",
            "Cannot connect to the Docker daemon",
            "sudo systemctl start docker",
        ),
        (
            "echo 'permission denied while trying to connect to it' >&2; exit 1",
            "denied",
            'sudo usermod -aG docker "$USER" && newgrp docker',
        ),
        ('[ "$1" = info ] && echo {}; exit 0', "docker has no image mine:1", "docker pull mine:1"),
    ],
    ids=["hangs", "no daemon", "not in the group", "no image"],
)
def test_docker_that_does_not_work_comes_with_the_command(
    script: str, found: str, mend: str, programs: Programs, user: None, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(finding, "_PATIENCE", 0.3 if "sleep" in script else 5)
    monkeypatch.setenv("SPA_BENCH_DOCKER_IMAGE", "mine:1")
    programs(docker=script)
    result = only(sandboxes.docker())
    assert result.status == "missing"
    assert found in result.found
    assert result.mend == mend


@pytest.mark.parametrize("gvisor", [True, False])
def test_docker_that_works_names_engine_image_and_gvisor(gvisor: bool, programs: Programs, user: None):
    runtimes = '{"runc":{},"runsc":{}}' if gvisor else '{"runc":{}}'
    script = f"case $* in *ServerVersion*) echo 27.1;; *Runtimes*) echo '{runtimes}';; image*) echo 0123abcd;; esac"
    programs(docker=script, runsc="exit 0")
    engine, runtime = sandboxes.docker()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert (engine.status, engine.found) == ("ok", f"engine 27.1, image python:{version}-slim")
    assert runtime.status == ("ok" if gvisor else "not needed")
    assert runtime.mend == ("" if gvisor else "sudo runsc install && sudo systemctl restart docker")


def test_landlock_reports_the_kernels_abi(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sandboxes.guard, "landlock_abi", lambda: 3)
    monkeypatch.setattr(sandboxes, "SANDBOXES", {"landlock": NoSandbox})
    assert only(sandboxes.landlock()) == Finding("landlock", "ok", "ABI 3, works")
    monkeypatch.setattr(sandboxes, "SANDBOXES", {"landlock": refused})
    assert only(sandboxes.landlock()) == Finding("landlock", "missing", "ABI 3; it is broken")
    monkeypatch.setattr(sandboxes.guard, "landlock_abi", lambda: 0)
    assert "no Landlock" in only(sandboxes.landlock()).found


def test_seccomp_is_what_a_zygote_says(programs: Programs, monkeypatch: pytest.MonkeyPatch):
    folder = programs(
        says='printf "H\\022\\000\\000\\000"; printf %s "{\\"seccomp\\": true }"', fails="echo no filters >&2; exit 1"
    )
    for name, status in (("says", "ok"), ("fails", "missing")):
        monkeypatch.setattr(sandboxes, "zygote_command", lambda *_, name=name, **__: [str(folder / name)])
        found = only(sandboxes.seccomp())
        assert found.status == status
    assert found.found.startswith("no filters (")


def test_a_control_group_is_not_needed(programs: Programs, monkeypatch: pytest.MonkeyPatch):
    programs(systemd_run="exit 0")
    monkeypatch.setattr(sandboxes.cgroup, "available", lambda: "")
    assert only(sandboxes.control_group()).status == "not needed"
    assert only(sandboxes.control_group()).mend == "systemd-run --user --scope spa-bench run ..."
    monkeypatch.setattr(sandboxes.cgroup, "available", lambda: "version 2")
    assert only(sandboxes.control_group()) == Finding("cgroup", "ok", "version 2")


# devices -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "build", "visible", "status", "found", "mend"),
    [
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'", "12.8", None, "ok", "NVIDIA H100, 81559 MiB, 570.1; torch is built for", ""),
        (
            "echo 'NVIDIA H100, 81559 MiB, 570.1'",
            "",
            None,
            "missing",
            "built without CUDA",
            "pip install --force-reinstall torch",
        ),
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'", "12.8", "", "not needed", "hidden", "unset CUDA_VISIBLE_DEVICES"),
        ("echo 'Failed to initialize NVML' >&2; exit 9", "12.8", None, "not needed", "Failed to initialize NVML", ""),
        ("true", "12.8", None, "not needed", "lists none", ""),
    ],
    ids=["works", "torch without CUDA", "hidden", "no driver", "none"],
)
def test_a_gpu_is_what_nvidia_smi_and_torchs_build_say(
    script: str, build: str, visible: str | None, status: str, found: str, mend: str, programs: Programs,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    programs(nvidia_smi=script)
    monkeypatch.setattr(machine, "_torch_cuda", lambda: build)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    result = only(machine.cuda())
    assert result.status == status
    assert found in result.found
    assert result.mend.endswith(mend)


def test_the_build_of_torch_is_read_without_importing_it():
    import torch

    assert machine._torch_cuda() == (torch.version.cuda or "")


# data ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No variable leads to data and evalplus' cache is empty; the folder for that cache."""
    monkeypatch.delenv("MBPP_OVERRIDE_PATH", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    (tmp_path / "xdg" / "evalplus").mkdir(parents=True)
    return tmp_path / "xdg" / "evalplus"


def status_of_data() -> dict[str, str]:
    return {r.check.removeprefix("data "): r.status for r in data.benchmarks()}


def test_data_that_is_nowhere_comes_with_both_ways_to_get_it(nowhere: Path):
    rows = list(data.benchmarks())
    assert {r.status for r in rows} == {"missing"}
    assert "get_human_eval_plus" in rows[0].mend
    assert "export SPA_BENCH_DATA=FOLDER, with humaneval/HumanEval.jsonl.gz" in rows[0].mend
    assert "get_mbpp_plus" in rows[-1].mend


def test_data_is_found_in_the_folder(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(tmp_path))
    for file in ("humaneval/HumanEval.jsonl.gz", "mbppplus/MbppPlus.jsonl"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    assert status_of_data() == {"HumanEval": "ok", "HumanEval+": "missing", "MBPP(+)": "ok"}


def test_the_shared_data_is_found(nowhere: Path, data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", str(data))
    assert status_of_data()["HumanEval"] == "ok"


def test_data_is_found_in_evalplus_cache(nowhere: Path):
    (nowhere / "HumanEvalPlus-v0.1.10.jsonl").touch()
    (nowhere / "MbppPlus-NoExtreme-v0.2.0.jsonl").touch()
    assert status_of_data() == {"HumanEval": "ok", "HumanEval+": "ok", "MBPP(+)": "missing"}


def test_a_variable_comes_first_and_must_lead_to_plus_inputs(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (nowhere / "HumanEvalPlus-v0.1.10.jsonl").touch()
    file = tmp_path / "mine.jsonl.gz"
    monkeypatch.setenv("HUMANEVAL_OVERRIDE_PATH", str(file))
    rows = list(data.benchmarks())
    assert [(r.status, r.mend) for r in rows[:2]] == [("missing", "unset HUMANEVAL_OVERRIDE_PATH")] * 2
    file.write_bytes(gzip.compress(b'{"task_id": "a"}\n'))
    assert (status_of_data()["HumanEval"], status_of_data()["HumanEval+"]) == ("ok", "missing")
    file.write_bytes(gzip.compress(b'{"task_id": "a", "plus_input": []}\n'))
    assert (status_of_data()["HumanEval"], status_of_data()["HumanEval+"]) == ("ok", "ok")


def test_a_folder_of_data_that_is_none_is_named(nowhere: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPA_BENCH_DATA", "/no/such/folder")
    first = next(data.benchmarks())
    assert first.found == "SPA_BENCH_DATA is /no/such/folder, which is no folder"


def test_the_hub_can_be_off(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    for value, status, mend in (("1", "not needed", "unset HF_HUB_OFFLINE"), ("0", "ok", "")):
        monkeypatch.setenv("HF_HUB_OFFLINE", value)
        found = only(data.hub())
        assert (found.status, found.mend) == (status, mend)


def test_a_cache_that_cannot_be_written_is_named_with_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPA_BENCH_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    (tmp_path / "hf" / "hub" / "models--a--b").mkdir(parents=True)
    hub, own = data.caches()
    assert hub == Finding("cache of the hub", "ok", f"{tmp_path}/hf/hub, 1 model")
    assert own == Finding(
        "cache of spa-bench", "missing", f"{tmp_path}/file/cache cannot be written", "export SPA_BENCH_CACHE=FOLDER"
    )


def test_the_cache_is_the_one_that_runs_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for environment in ({"SPA_BENCH_CACHE": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path)}, {"HOME": str(tmp_path)}):
        with monkeypatch.context() as patch:
            for name in ("SPA_BENCH_CACHE", "XDG_CACHE_HOME"):
                patch.delenv(name, raising=False)
            for name, value in environment.items():
                patch.setenv(name, value)
            _, own = data.caches()
            assert own.found.split(" (")[0] == str(own_cache())


def test_the_embedded_model_is_there_or_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert only(data.embedded_model()).status == "ok"
    monkeypatch.setattr(data, "_MODEL", tmp_path / "a" / "b" / "c" / "model")
    found = only(data.embedded_model())
    assert (found.status, found.mend) == ("missing", "")
    assert "lacks config.json, tokenizer.json, model.safetensors" in found.found
