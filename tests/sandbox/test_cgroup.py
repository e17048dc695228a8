"""Control groups of both versions, in a folder that stands for /sys/fs/cgroup."""

import os
import subprocess
from pathlib import Path

import pytest

from spa_bench.sandbox import cgroup


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path)
    real = Path.mkdir

    def mkdir(path: Path) -> None:  # the kernel fills a new group
        real(path)
        (path / "cgroup.procs").write_text("")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return tmp_path


def rows(monkeypatch: pytest.MonkeyPatch, **paths: str) -> None:
    """What /proc/self/cgroup says."""
    own = {"" if name == "unified" else name: path for name, path in paths.items()}
    monkeypatch.setattr(cgroup, "_own", lambda: own)


def version_1(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(monkeypatch, memory="/job", pids="/")
    (root / "memory").mkdir()
    (root / "memory" / "job").mkdir()
    (root / "pids").mkdir()


def version_2(root: Path, monkeypatch: pytest.MonkeyPatch, own: str = "/user/shell") -> Path:
    rows(monkeypatch, unified=own)
    (root / "cgroup.controllers").write_text("memory pids")
    parent = root / "user"
    parent.mkdir()
    (parent / "cgroup.subtree_control").write_text("memory pids cpu\n")
    (parent / "shell").mkdir()
    (parent / "shell" / "cgroup.subtree_control").write_text("")
    return parent


def empty(folder: Path) -> None:
    """What rmdir of the kernel does not mind."""
    for file in folder.iterdir():
        file.unlink()


def test_version_2_makes_one_neighbour_with_all_limits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = version_2(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    assert group.folders == (parent / f"spa-bench-{os.getpid()}-a",)
    assert (group.folders[0] / "memory.max").read_text() == str(64 << 20)
    assert (group.folders[0] / "memory.swap.max").read_text() == "0"
    assert (group.folders[0] / "pids.max").read_text() == "7"


def test_version_2_without_controllers_makes_none(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parent = version_2(root, monkeypatch)
    (parent / "cgroup.subtree_control").write_text("cpu")
    assert cgroup.make("a", memory_mb=64, processes=7).folders == ()


def test_version_1_makes_a_group_for_each_controller(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    name = f"spa-bench-{os.getpid()}-a"
    assert group.folders == (root / "memory" / "job" / name, root / "pids" / name)
    assert (group.folders[0] / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (group.folders[1] / "pids.max").read_text() == "7"


def test_version_1_leaves_out_a_controller_that_is_not_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    rows(monkeypatch, memory="/job")
    assert len(cgroup.make("a", memory_mb=64, processes=7).folders) == 1


def test_a_group_that_cannot_be_limited_is_removed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)

    def denied(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(Path, "write_text", denied)
    removed: list[Path] = []
    monkeypatch.setattr(Path, "rmdir", lambda path: removed.append(path))
    assert cgroup.make("a", memory_mb=64, processes=7).folders == ()
    assert [path.name for path in removed] == [f"spa-bench-{os.getpid()}-a"] * 2


def test_where_nothing_can_be_made_the_command_stays_as_it_is(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows(monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    assert group.folders == ()
    assert group.wrap(["true"]) == ["true"]
    assert group.out_of_memory() == 0
    assert cgroup.available() == ""


def test_a_wrapped_command_puts_itself_into_all_groups_and_keeps_its_arguments(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    done = subprocess.run(group.wrap(["printf", "%s|", "--", "a b", "$HOME", ""]), capture_output=True, text=True, check=True)
    assert done.stdout == "--|a b|$HOME||"
    assert [(folder / "cgroup.procs").read_text() for folder in group.folders] == ["0\n", "0\n"]


def test_a_command_that_cannot_enter_its_group_does_not_run(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    (group.folders[1] / "cgroup.procs").unlink()
    (group.folders[1] / "cgroup.procs").mkdir()
    done = subprocess.run(group.wrap(["echo", "ran"]), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (70, "")


@pytest.mark.parametrize("file", ["memory.events", "memory.oom_control"])
def test_kills_for_memory_are_counted_in_both_versions(root: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    version_1(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    (group.folders[0] / file).write_text("oom_kill_disable 0\nunder_oom 0\noom 9\noom_kill 3\noom_group_kill 5\n")
    assert group.out_of_memory() == 3


def test_a_group_is_removed_and_twice_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    group = cgroup.make("a", memory_mb=64, processes=7)
    for folder in group.folders:
        empty(folder)
    group.remove()
    group.remove()
    assert not any(folder.exists() for folder in group.folders)


def test_groups_of_graders_that_are_gone_are_removed_and_others_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    gone = subprocess.Popen(["true"])
    gone.wait()
    names = [f"spa-bench-{gone.pid}-1", f"spa-bench-{os.getpid()}-1", "spa-bench-x-1", f"another-{gone.pid}-1"]
    for name in names:
        os.mkdir(root / "pids" / name)
    cgroup.remove_stale()
    assert [(root / "pids" / name).exists() for name in names] == [False, True, True, True]


def test_groups_of_a_grader_that_ended_are_removed_as_soon_as_their_last_process_is_gone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version_1(root, monkeypatch)
    mine, other = (root / "pids" / f"spa-bench-{pid}-1" for pid in (77, 778))
    os.mkdir(mine)
    os.mkdir(other)
    tries: list[Path] = []
    real = Path.rmdir

    def rmdir(folder: Path) -> None:
        tries.append(folder)
        if len(tries) < 3:
            raise OSError(16, "Device or resource busy")
        real(folder)

    monkeypatch.setattr(Path, "rmdir", rmdir)
    cgroup.remove_of(77)
    assert (mine.exists(), other.exists()) == (False, True)
    assert set(tries) == {mine}


def test_the_doctor_is_told_the_version(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version_1(root, monkeypatch)
    monkeypatch.setattr(Path, "rmdir", empty)
    assert cgroup.available() == "version 1 (memory, pids)"
    version_2(root, monkeypatch)
    assert cgroup.available() == "version 2"
