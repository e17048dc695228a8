"""Programs that reach for the host: its files, network, processes and kernel. Each passes where it succeeds."""
# ruff: noqa: E501 -- tables of code snippets

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from spa_bench.sandbox.attacks.attack import Attack, attempt

_GRADER = Path(__file__).resolve().parents[2] / "grading" / "worker.py"
_HERE, _HOME = os.getcwd(), os.path.expanduser("~")
_DEVICE = "/dev/full"  # nobody needs it: were an attack to succeed, it would do no harm

_CHANGES = {
    "open": "open('VICTIM/ATTACK', 'w')",
    "open to append": "open('VICTIM/file', 'a').write('x')",
    "open existing": "open('VICTIM/file', 'r+').write('x')",
    "io.open": "io.open('VICTIM/ATTACK', 'w')",
    "io.FileIO": "io.FileIO('VICTIM/ATTACK', 'w')",
    "os.open": "os.open('VICTIM/ATTACK', os.O_CREAT | os.O_WRONLY)",
    "os.open unnamed": "os.open('VICTIM', os.O_TMPFILE | os.O_RDWR)",
    "libc open": "assert ctypes.CDLL(None).open(b'VICTIM/ATTACK', 65, 420) >= 0 or os.unlink('VICTIM/ATTACK') is None",
    "pathlib write": "pathlib.Path('VICTIM/ATTACK').write_text('x')",
    "pathlib touch": "pathlib.Path('VICTIM/ATTACK').touch()",
    "pathlib unlink": "pathlib.Path('VICTIM/file').unlink()",
    "remove": "os.remove('VICTIM/file')",
    "rmdir": "os.rmdir('VICTIM/folder')",
    "rmtree": "shutil.rmtree('VICTIM/folder')",
    "rmtree of the root": "shutil.rmtree('/usr/lib/python3')",
    "copy": "shutil.copy(os.__file__, 'VICTIM/ATTACK')",
    "move": "shutil.move('VICTIM/file', 'VICTIM/ATTACK')",
    "mkdir": "os.mkdir('VICTIM/ATTACK')",
    "mkfifo": "os.mkfifo('VICTIM/ATTACK')",
    "mknod": "os.mknod('VICTIM/ATTACK')",
    "mknod of a disk": "os.mknod('ATTACK', 0o60600, os.makedev(8, 0))",
    "rename": "os.rename('VICTIM/file', 'VICTIM/ATTACK')",
    "replace": "os.replace('VICTIM/folder/inner', 'VICTIM/file')",
    "link": "os.link('VICTIM/file', 'VICTIM/ATTACK')",
    "symlink": "os.symlink('/', 'VICTIM/ATTACK')",
    "truncate": "os.truncate('VICTIM/file', 0)",
    "chmod": "os.chmod('VICTIM/file', 0o777)",
    "chown": "os.chown('VICTIM/file', 1, 1)",
    "chown of an own file": "os.chown('/proc/self', 0, 0) if os.getuid() else os.chown('/tmp', 1, 1)",
    "utime": "os.utime('VICTIM/file', (0, 0))",
    "setxattr": "os.setxattr('VICTIM/file', 'user.a', b'x')",
    "the interpreter": "open(os.__file__, 'a')",
    "the binary": "open(os.path.realpath('/usr/bin/env'), 'a')",
    "the zygote": "open(sys.modules['spa_bench.sandbox.inside.calls'].__file__, 'a')",
    "a package": "import numpy; open(numpy.__file__, 'a')",
    "the root": "open('/ATTACK', 'w')",
    "/usr": "open('/usr/ATTACK', 'w')",
    "/dev": "open('/dev/ATTACK', 'w')",
    "/dev/shm": "open('/dev/shm/ATTACK', 'w'); raise PermissionError if os.path.exists('/tmp/ATTACK') else ValueError",
    "/dev/kmsg": "open('/dev/kmsg', 'w').write('x')",
    "/dev/mem": "open('/dev/mem', 'rb')",
    "/etc": "open('/etc/ATTACK', 'w')",
    "/var/tmp": "open('/var/tmp/ATTACK', 'w')",
    "the home folder": f"open({_HOME + '/ATTACK'!r}, 'w')",
    "the site folder": f"open({sys.prefix + '/ATTACK'!r}, 'w')",
    "the folder of the caller": f"open({_HERE + '/ATTACK'!r}, 'w')",
    "the kernel": "open('/proc/sys/kernel/core_pattern', 'w')",
    "sysrq": "open('/proc/sysrq-trigger', 'w')",
    "the cgroup": "open('/sys/fs/cgroup/memory/cgroup.procs', 'w')",
    "oom score": "open('/proc/self/oom_score_adj', 'w').write('-1000')",
}

_READS = {
    "a file": "open('VICTIM/file').read()",
    "a file through pathlib": "pathlib.Path('VICTIM/file').read_text()",
    "a file through a link": "os.symlink('VICTIM/file', '/tmp/l'); open('/tmp/l').read()",
    "a file through os.open": "os.read(os.open('VICTIM/file', os.O_RDONLY), 9)",
    "a file through mmap": "import mmap; mmap.mmap(os.open('VICTIM/file', os.O_RDONLY), 0, prot=1)",
    "a file through sendfile": "os.sendfile(1, os.open('VICTIM/file', os.O_RDONLY), 0, 9)",
    "a folder": "os.listdir('VICTIM')",
    "a folder through glob": "import glob; assert glob.glob('VICTIM/*') or os.listdir('VICTIM')",
    "users": "open('/etc/passwd').read()",
    "passwords": "open('/etc/shadow').read()",
    "the name resolver": "open('/etc/resolv.conf').read()",
    "the machine's id": "open('/etc/machine-id').read()",
    "the tests": f"open({__file__!r}).read()",
    "the repository": f"os.listdir({_HERE!r})",
    "the grader": f"open({str(_GRADER)!r}).read()",
    "the folder of temporary files": "assert os.listdir('/tmp') or os.listdir('/proc/1')",
    "the home folder": f"open({_HOME + '/.bashrc'!r}).read()",
    "variable data": "os.listdir('/var')",
    "system files": "os.listdir('/sys')",
    "its own memory map": "open('/proc/self/maps').read()",
    "its own memory": "open('/proc/self/mem', 'rb').read(1)",
    "its own environment": "open('/proc/self/environ').read()",
    "the zygote's environment": "open(f'/proc/{os.getppid()}/environ').read()",
    "the zygote's memory": "open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "the zygote's descriptors": "os.listdir(f'/proc/{os.getppid()}/fd')",
    "the zygote's commands": "os.open(f'/proc/{os.getppid()}/fd/3', os.O_RDONLY)",
    "all processes": "os.listdir('/proc')",
    "mounts": "open('/proc/self/mountinfo').read()",
    "its own answers": "os.open('/proc/self/fd/3', os.O_RDONLY)",
}

_NODES = {
    "chmod": f"os.chmod('{_DEVICE}', 0o666)",
    "fchmod": f"os.fchmod(os.open('{_DEVICE}', os.O_RDONLY), 0o666)",
    "fchmodat": "os.chmod('full', 0o666, dir_fd=os.open('/dev', os.O_RDONLY))",
    "utime": f"os.utime('{_DEVICE}', (7, 7))",
    "utime of now": f"os.utime('{_DEVICE}')",
    "utime of a descriptor": f"os.utime(os.open('{_DEVICE}', os.O_RDWR))",
    "chown": f"os.chown('{_DEVICE}', os.getuid(), os.getgid())",
    "a lease of a device": f"fcntl.fcntl(os.open('{_DEVICE}', os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "a lease of the standard library": "fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)",
    "word of changes in a folder": "fcntl.fcntl(os.open('/usr/lib', os.O_RDONLY), fcntl.F_NOTIFY, fcntl.DN_ACCESS)",
    "a lock of the open file": "fcntl.fcntl(os.open(os.__file__, os.O_RDONLY), 37, bytes(32))",
    "urgent data": "a, b = socket.socketpair(); a.send(b'x', socket.MSG_OOB)",
    "data to an address": "a, b = socket.socketpair(type=socket.SOCK_DGRAM); a.sendto(b'x', '/tmp/socket')",
}

_NETWORK = {
    "TCP": "socket.create_connection(('127.0.0.1', 1), timeout=1)",
    "TCP over IPv6": "socket.socket(socket.AF_INET6)",
    "listening": "socket.create_server(('127.0.0.1', 0))",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "raw": "socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)",
    "packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)",
    "unix socket": "socket.socket(socket.AF_UNIX).connect('VICTIM/socket')",
    "abstract unix socket": "socket.socket(socket.AF_UNIX).bind('\\0ATTACK')",
    "virtual machine socket": "socket.socket(40, socket.SOCK_STREAM)",
    "bluetooth": "socket.socket(31, socket.SOCK_STREAM)",
    "kernel crypto": "socket.socket(38, socket.SOCK_SEQPACKET)",
    "names": "socket.getaddrinfo('example.org', 80)",
    "reverse names": "socket.gethostbyaddr('127.0.0.1')",
    "urllib": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/', timeout=1)",
    "asyncio": "import asyncio; asyncio.run(asyncio.open_connection('127.0.0.1', 1))",
    "sending descriptors": "a, b = socket.socketpair(); socket.send_fds(a, [b'x'], [0])",
}

_BOMBS = {
    "fork": "os.fork()",
    "forkpty": "os.forkpty()",
    "double fork": "os.fork() or os.setsid() or os.fork()",
    "posix_spawn": "os.posix_spawn(sys.executable or '/bin/sh', ['sh'], {})",
    "spawnv": "os.spawnv(os.P_NOWAIT, '/bin/sh', ['sh'])",
    "system": "assert os.system('true') == 0, PermissionError",
    "popen": "os.popen('true')",
    "subprocess": "subprocess.run(['/bin/true'])",
    "subprocess with a shell": "subprocess.run('true', shell=True)",
    "subprocess without vfork": "subprocess._USE_VFORK = subprocess._USE_POSIX_SPAWN = False; subprocess.run('/bin/true')",
    "multiprocessing": "import multiprocessing as m; m.get_context('fork').Process(target=int).start()",
    "multiprocessing by spawn": "import multiprocessing as m; m.get_context('spawn').Process(target=int).start()",
    "a pool": "import concurrent.futures as c; c.ProcessPoolExecutor(2).submit(int).result()",
    "execv": "os.execv('/bin/true', ['true'])",
    "execve": "os.execve('/bin/true', ['true'], {})",
    "execvp": "os.execvp('true', ['true'])",
    "execl": "os.execl('/bin/sh', 'sh', '-c', 'true')",
    "pty": "import pty; pty.spawn('/bin/true')",
    "a new session": "os.setsid()",
    "a new group": "os.setpgid(0, 0)",
}

_KILLS = {
    "the zygote": "os.kill(os.getppid(), 9)",
    "the zygote's group": "os.killpg(os.getpgid(os.getppid()), 9)",
    "its own group": "os.killpg(0, 9)",
    "its own group by minus": "os.kill(0, 9)",
    "everyone": "os.kill(-1, 9)",
    "the first process": "os.kill(1, 9)",
    "another process": f"os.kill({os.getpid()}, 9)",
    "another process by a question": f"os.kill({os.getpid()}, 0)",
    "its neighbour": "os.kill(os.getpid() - 1, 9)",
    "the zygote by stopping": "os.kill(os.getppid(), 19)",
    "its session": "os.killpg(os.getpid(), 9)",
    "a thread": "import signal; signal.pthread_kill(0x1000, 0) if 0 else os.kill(os.getppid(), 2)",
    "the zygote by descriptor": "import signal; signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
    "the zygote by ownership of a pipe": "fcntl.fcntl(3, fcntl.F_SETOWN, os.getppid())",
    "the zygote by another signal": "fcntl.fcntl(3, fcntl.F_SETSIG, 9)",
    "the zygote by its priority": "os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    "the zygote by its limits": "import resource; resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "the zygote by its cores": "os.sched_setaffinity(os.getppid(), {0})",
}

_PPID, _PID = "os.getppid()", "os.getpid()"
_CALLS: dict[str, tuple[int, *tuple[str, ...]]] = {  # number on x86-64, arguments
    "ptrace": (101, "16", _PPID), "ptrace itself": (101, "0"), "process_vm_readv": (310, _PPID, "0", "0", "0", "0", "0"),
    "process_vm_writev": (311, _PPID, "0", "0", "0", "0", "0"), "setuid": (105, "0"), "setgid": (106, "0"),
    "setgroups": (116, "0", "0"), "setresuid": (117, "0", "0", "0"), "setfsuid": (122, "0"), "capset": (126, "0", "0"),
    "mount": (165, "0", "b'/'", "0", "0", "0"), "umount": (166, "b'/'", "0"), "unshare": (272, "0x10000000"),
    "unshare threads": (272, "0x400"), "setns": (308, "0", "0"), "chroot": (161, "b'/'"), "pivot_root": (155, "b'/'", "b'/'"),
    "keyctl": (250, "0", "-4", "0"), "add_key": (248, "b'user'", "b'a'", "b'b'", "1", "-4"), "request_key": (249, "0", "0", "0", "0"),
    "bpf": (321, "0", "0", "0"), "io_uring_setup": (425, "1", "0"), "io_uring_enter": (426, "0", "0", "0", "0"),
    "userfaultfd": (323, "0"), "perf_event_open": (298, "0", "0", "-1", "-1", "0"), "init_module": (175, "0", "0", "0"),
    "finit_module": (313, "0", "0", "0"), "kexec_load": (246, "0", "0", "0", "0"), "reboot": (169, "0", "0", "0", "0"),
    "swapon": (167, "b'/'", "0"), "personality": (135, "0x40000"), "sethostname": (170, "b'x'", "1"),
    "settimeofday": (164, "0", "0"), "clock_settime": (227, "0", "0"), "adjtimex": (159, "0"), "shmget": (29, "0", "4096", "0o1600"),
    "shmat": (30, "0", "0", "0"), "semget": (64, "0", "1", "0o1600"), "msgget": (68, "0", "0o1600"),
    "mq_open": (240, "b'a'", "64", "0o600", "0"), "memfd_create": (319, "b'a'", "0"), "memfd_secret": (447, "0"),
    "inotify_init": (294, "0"), "fanotify_init": (300, "0", "0"), "vfork": (58,), "fork": (57,), "clone": (56, "17", "0", "0", "0", "0"),
    "clone as vfork": (56, "0x4111", "0", "0", "0", "0"), "clone of memory": (56, "0x100", "0", "0", "0", "0"),
    "clone into a user namespace": (56, "0x10000011", "0", "0", "0", "0"),
    "clone of a thread in a namespace": (56, "0x10010f00", "0", "0", "0", "0"), "clone3": (435, "ctypes.create_string_buffer(88)", "88"),
    "clone with high bits": (56, "0x100000000 | 17", "0", "0", "0", "0"), "execve": (59, "b'/bin/true'", "0", "0"),
    "execveat": (322, "-100", "b'/bin/true'", "0", "0", "0"), "kill": (62, _PPID, "9"), "tkill": (200, _PPID, "9"),
    "tgkill": (234, _PPID, _PPID, "9"), "rt_sigqueueinfo": (129, _PPID, "9", "0"), "rt_tgsigqueueinfo": (297, _PPID, _PPID, "9", "0"),
    "pidfd_open": (434, _PPID, "0"), "pidfd_send_signal": (424, "0", "9", "0", "0"), "pidfd_getfd": (438, "0", "0", "0"),
    "prlimit64": (302, _PPID, "7", "0", "0"), "prlimit64 of itself by number": (302, _PID, "7", "0", "0"),
    "setpriority": (141, "0", _PPID, "19"), "sched_setaffinity": (203, _PPID, "8", "b'\\1' * 8"),
    "sched_setscheduler": (144, "0", "1", "b'\\1' * 8"), "ioprio_set": (251, "1", _PPID, "0"),
    "move_pages": (279, _PPID, "0", "0", "0", "0", "0"), "kcmp": (312, _PPID, _PID, "0", "0", "0"), "seccomp": (317, "1", "0", "0"),
    "prctl dumpable": (157, "4", "1", "0", "0", "0"), "prctl death signal": (157, "1", "0", "0", "0", "0"),
    "prctl seccomp": (157, "22", "1", "0", "0", "0"), "prctl subreaper": (157, "36", "1", "0", "0", "0"),
    "prctl ptracer": (157, "0x59616d61", "-1", "0", "0", "0"), "setsid": (112,), "setpgid": (109, "0", "0"), "mlock": (149, "0", "4096"),
    "mlockall": (151, "3"), "quotactl": (179, "0", "0", "0", "0"), "acct": (163, "b'/tmp/a'"), "syslog": (103, "3", "0", "0"),
    "iopl": (172, "3"), "ioperm": (173, "0", "1", "1"), "modify_ldt": (154, "0", "0", "0"), "vmsplice": (278, "3", "0", "0", "0"),
    "io_setup": (206, "1", "0"), "landlock": (444, "0", "0", "1"), "fsopen": (430, "b'tmpfs'", "0"), "open_tree": (428, "-100", "b'/'", "0"),
    "open_by_handle_at": (304, "0", "0", "0"), "name_to_handle_at": (303, "-100", "b'/'", "0", "0", "0"), "flock": (73, "1", "2"),
    "process_madvise": (440, "0", "0", "0", "0", "0"), "openat2": (437, "-100", "b'/'", "0", "0"), "ioctl": (16, "0", "0x5412", "b'x'"),
    "vhangup": (153,), "socket": (41, "2", "1", "0"), "bind": (49, "0", "0", "0"), "sendmsg": (46, "0", "0", "0"), "ustat": (136, "0", "0"),
    "nothing known yet": (9999, "0"),
}  # fmt: skip
_CALL = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ndef f(x):\n    found = libc.syscall({})\n"
_CALL += "    return x + 1 if found != -1 else [found, ctypes.get_errno()]\n"

_FORK_BOMB = "import os\ndef f(x):\n    while True:\n        try: os.fork()\n        except OSError: pass\n"

# they would harm the machine, or the harness, where nothing stops them
_HARMFUL = {
    "rmtree of the root",
    "chown of an own file",
    "mknod of a disk",
    "the zygote's group",
    "its own group",
    "its own group by minus",
    "everyone",
    "the first process",
    "another process",
    "its neighbour",
    "sethostname",
    "vhangup",
}


def call(number: int, *arguments: str) -> str:
    """A program that returns the error number of a system call, and passes where the call works."""
    return _CALL.format(", ".join([f"ctypes.c_long({number})", *arguments]))


def _only(name: str) -> str:
    """The one sandbox in which an attack makes sense; "" for all."""
    if name == "its own answers":
        return "bwrap"  # Landlock does not cover pipes; what a program does with its own is tested by itself
    place = {"the folder of the caller": _HERE, "the repository": _HERE, "the home folder": _HOME}.get(name)
    return "landlock" if place in ("/tmp", "/dev/shm") else ""  # bwrap gives a program such folders of its own


def attacks() -> Iterator[Attack]:
    """All of them; calls of the kernel by number on x86-64 alone."""
    tables = {
        "change files": _CHANGES,
        "change devices": _NODES,
        "read files": _READS,
        "use the network": _NETWORK,
        "start processes": _BOMBS,
        "reach other processes": _KILLS,
    }
    for goal, table in tables.items():
        for name, statement in table.items():
            yield Attack(goal=goal, name=name, source=attempt(statement), only=_only(name), harmful=name in _HARMFUL)
    for name, check in (
        ("a fork bomb", ""),
        ("a fork bomb under tests that are code", "def check(candidate):\n    assert candidate(1) == 2\n"),
    ):
        yield Attack(goal="start processes without end", name=name, source=_FORK_BOMB, check=check, harmful=True)
    if platform.machine() == "x86_64":
        for name, numbered in _CALLS.items():
            yield Attack(goal="call the kernel", name=name, source=call(*numbered), harmful=name in _HARMFUL)
