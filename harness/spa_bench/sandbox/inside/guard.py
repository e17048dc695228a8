"""Takes rights away from the process that calls: resource limits, capabilities, Landlock and two seccomp filters.

System calls that are not on the list below fail: there are no sockets but connected pairs, no new processes, no exec, no
signals to others, no shared memory, no ptrace, no mounts, no keyrings, no io_uring. The list is what CPython and
numpy use. x86-64 and arm64; elsewhere `Unsupported` is raised.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import math
import os
import platform
import resource
import signal
import struct
import termios
from collections.abc import Sequence

_M_ARENA_MAX, _M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -8, -1, -3  # of mallopt(3)
LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 1, 4, 15, 22, 24, 38

# The list: number of each system call on (x86-64, arm64); None: not there. All else is denied.
_NUMBERS: dict[str, tuple[int | None, int | None]] = {
    "access": (21, None), "alarm": (37, None), "arch_prctl": (158, None), "brk": (12, 214), "chdir": (80, 49),
    "clock_getres": (229, 114), "clock_gettime": (228, 113), "clock_nanosleep": (230, 115),
    "clone": (56, 220), "clone3": (435, 435), "close": (3, 57), "close_range": (436, 436), "copy_file_range": (326, 285),
    "creat": (85, None), "dup": (32, 23), "dup2": (33, None), "dup3": (292, 24), "epoll_create": (213, None),
    "epoll_create1": (291, 20), "epoll_ctl": (233, 21), "epoll_pwait": (281, 22), "epoll_pwait2": (441, 441),
    "epoll_wait": (232, None), "eventfd": (284, None), "eventfd2": (290, 19), "exit": (60, 93), "exit_group": (231, 94),
    "faccessat": (269, 48), "faccessat2": (439, 439), "fadvise64": (221, 223), "fallocate": (285, 47), "fchdir": (81, 50),
    "fcntl": (72, 25), "fdatasync": (75, 83), "fork": (57, None),
    "fstat": (5, 80), "fstatfs": (138, 44), "fsync": (74, 82), "ftruncate": (77, 46), "futex": (202, 98),
    "getcpu": (309, 168), "getcwd": (79, 17), "getdents": (78, None), "getdents64": (217, 61), "getegid": (108, 177),
    "geteuid": (107, 175), "getgid": (104, 176), "getgroups": (115, 158), "getitimer": (36, 102), "getpgrp": (111, None),
    "getpid": (39, 172), "getppid": (110, 173), "getrandom": (318, 278), "getresgid": (120, 150), "getresuid": (118, 148),
    "getrlimit": (97, 163), "getrusage": (98, 165), "gettid": (186, 178), "gettimeofday": (96, 169), "getuid": (102, 174),
    "ioctl": (16, 29), "kill": (62, 129), "link": (86, None), "linkat": (265, 37), "lseek": (8, 62), "lstat": (6, None),
    "madvise": (28, 233), "membarrier": (324, 283), "mincore": (27, 232), "mkdir": (83, None), "mkdirat": (258, 34),
    "mmap": (9, 222), "mprotect": (10, 226), "mremap": (25, 216), "msync": (26, 227), "munmap": (11, 215),
    "nanosleep": (35, 101), "newfstatat": (262, 79), "open": (2, None), "openat": (257, 56), "pause": (34, None),
    "pipe": (22, None), "pipe2": (293, 59), "poll": (7, None), "ppoll": (271, 73), "prctl": (157, 167),
    "pread64": (17, 67), "preadv": (295, 69), "preadv2": (327, 286), "prlimit64": (302, 261), "pselect6": (270, 72),
    "pwrite64": (18, 68), "pwritev": (296, 70), "pwritev2": (328, 287), "read": (0, 63), "readahead": (187, 213),
    "readlink": (89, None), "readlinkat": (267, 78), "readv": (19, 65), "recvfrom": (45, 207),
    "rename": (82, None), "renameat": (264, 38), "renameat2": (316, 276), "restart_syscall": (219, 128),
    "rmdir": (84, None), "rseq": (334, 293), "rt_sigaction": (13, 134), "rt_sigpending": (127, 136),
    "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139),
    "rt_sigsuspend": (130, 133), "rt_sigtimedwait": (128, 137), "sched_get_priority_max": (146, 125),
    "sched_get_priority_min": (147, 126), "sched_getaffinity": (204, 123), "sched_yield": (24, 124),
    "seccomp": (317, 277), "select": (23, None), "sendfile": (40, 71), "sendto": (44, 206), "set_robust_list": (273, 99),
    "set_tid_address": (218, 96), "setitimer": (38, 103), "setpgid": (109, 154), "setrlimit": (160, 164),
    "setsid": (112, 157), "sigaltstack": (131, 132), "socketpair": (53, 199), "splice": (275, 76), "stat": (4, None),
    "statfs": (137, 43), "statx": (332, 291), "symlink": (88, None), "symlinkat": (266, 36), "sysinfo": (99, 179),
    "tee": (276, 77), "tgkill": (234, 131), "time": (201, None), "timer_create": (222, 107), "timer_delete": (226, 111),
    "timer_getoverrun": (225, 109), "timer_gettime": (224, 108), "timer_settime": (223, 110), "times": (100, 153),
    "tkill": (200, 130), "truncate": (76, 45), "umask": (95, 166), "uname": (63, 160), "unlink": (87, None),
    "unlinkat": (263, 35), "vfork": (58, None), "wait4": (61, 260), "waitid": (247, 95), "write": (1, 64), "writev": (20, 66),
}  # fmt: skip
_WRITES = {
    "copy_file_range", "creat", "fallocate", "fdatasync", "fsync", "ftruncate", "link", "linkat",
    "mkdir", "mkdirat", "rename", "renameat", "renameat2", "rmdir", "symlink", "symlinkat", "truncate", "unlink", "unlinkat",
}  # fmt: skip
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH
_LANDLOCK = {"create": 444, "add": 445, "restrict": 446}  # the same on all machines

_LOAD, _JUMP_IF, _JUMP_SET, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs, jeq, jset, ret
_JUMP_GE = 0x35
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NR, _ARCH, _ARG0, _ARG1, _ARG3, _ARG4 = 0, 4, 16, 24, 40, 48  # in struct seccomp_data; low words: both are little-endian
_HIGH = 4  # from the low word of an argument to its high one
_CLONE_THREAD, _CLONE_NEW = 0x00010000, 0x7E020080  # all CLONE_NEW* flags
_IOCTLS = (termios.FIONREAD, termios.FIONBIO, termios.FIOCLEX, termios.FIONCLEX)
# fcntl F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ: the others reach beyond the process
# (F_SETOWN sends signals to others; F_SETLEASE on a file of the host makes all who open it wait)
_FCNTL = (0, 1, 2, 3, 4, 5, 1030, 1032)
# F_SETLK, F_SETLKW: said to succeed and not done. Such a lock never holds within one process, and a program is one; on a
# file of the host, which may be the same for others, it would hold. sqlite3 needs them.
_FCNTL_LOCKS = (6, 7)
_AF_UNIX = 1
_MSG_NOSIGNAL, _MSG_DONTWAIT, _MSG_WAITALL = 0x4000, 0x40, 0x100


class Unsupported(RuntimeError):
    """This machine or kernel lacks a feature that is needed."""


def limit(memory_mb: int, file_mb: int, seconds: float, threads: int | None) -> None:
    """Lower the limits of this process: address space, CPU seconds, file size, stack, descriptors, threads."""
    memory, cpu = memory_mb << 20, math.ceil(seconds)
    wanted = {
        resource.RLIMIT_AS: (memory, memory + (1 << 24)),  # the difference is for reporting that memory ran out
        resource.RLIMIT_CPU: (cpu, cpu + 1),  # SIGXCPU first: a timeout can be told from a crash
        resource.RLIMIT_FSIZE: (file_mb << 20,) * 2,
        resource.RLIMIT_STACK: (1 << 26,) * 2,
        resource.RLIMIT_NOFILE: (64,) * 2,
        resource.RLIMIT_CORE: (0,) * 2,
        resource.RLIMIT_MEMLOCK: (0,) * 2,
        resource.RLIMIT_MSGQUEUE: (0,) * 2,
        resource.RLIMIT_SIGPENDING: (64,) * 2,
    }
    if threads is not None:  # counted for the user of the namespace; without one it would count all that the user runs
        wanted[resource.RLIMIT_NPROC] = (threads,) * 2
    for kind, (soft, hard) in wanted.items():
        _, ceiling = resource.getrlimit(kind)
        top = hard if ceiling == resource.RLIM_INFINITY else min(hard, ceiling)
        resource.setrlimit(kind, (min(soft, top), top))


def set_up_heaps() -> None:
    """Have all threads of this process and its children share two heaps: each heap of its own takes 64 MiB of addresses.

    Memory that a program frees stays with it, so that it gets it again without asking the kernel for each page.
    """
    with contextlib.suppress(AttributeError):  # musl has one heap for all
        LIBC.mallopt(_M_ARENA_MAX, 2)
        LIBC.mallopt(_M_TRIM_THRESHOLD, 1 << 29)
        LIBC.mallopt(_M_MMAP_THRESHOLD, 1 << 25)  # the most that glibc takes


def hide() -> None:
    """Prevent other processes of the same user from reading or tracing this one and its children."""
    LIBC.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with_parent() -> None:
    """Have the kernel send SIGKILL to this process when its parent ends."""
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def drop_capabilities() -> None:
    """Give up all capabilities, root's included, for good. Raises Unsupported where the kernel refuses."""
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    for capability in range(64):
        LIBC.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    header = struct.pack("<Ii", 0x20080522, 0)
    if LIBC.capset(header, bytes(24)) != 0:
        raise Unsupported(f"cannot drop capabilities: {os.strerror(ctypes.get_errno())}")


def base_filter(*, writes: bool = True) -> bytes:
    """The filter of the zygote and all its children: the list above, with the calls that start and end processes.

    Without `writes` nothing changes a file. Modes, owners and times of files cannot be changed in any case: Landlock has
    no right for that, and in a namespace whose owner is the owner of the host's device nodes they could be changed.
    Sockets come in connected pairs alone, without names and, as sendmsg is denied, without descriptors in messages.
    """
    column, arch = _machine()
    ops = [(_LOAD, 0, 0, _ARCH), (_JUMP_IF, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NR)]
    ops += [(_JUMP_GE, 0, 1, 0x40000000), (_RETURN, 0, 0, _KILL)]  # the x32 numbers of x86-64
    send, receive = _MSG_NOSIGNAL | _MSG_DONTWAIT, _MSG_DONTWAIT | _MSG_WAITALL  # urgent data have a code of their own
    special = {
        "socketpair": [(_ARG0, _JUMP_IF, _AF_UNIX)],
        "sendto": [(_ARG4, _JUMP_IF, 0), (_ARG4 + _HIGH, _JUMP_IF, 0), (_ARG3, _JUMP_SET, ~send & 0xFFFFFFFF)],
        "recvfrom": [(_ARG3, _JUMP_SET, ~receive & 0xFFFFFFFF)],
    }
    for name, conditions in special.items():
        ops += _allow_if(_NUMBERS[name][column] or 0, conditions)
    for name in sorted(_NUMBERS.keys() - {"clone3", "ioctl"} - special.keys() - (set() if writes else _WRITES)):
        number = _NUMBERS[name][column]
        if number is not None:
            ops += [(_JUMP_IF, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    # glibc tries another way when it reads ENOSYS, and Python takes ENOTTY for "no terminal"
    ops += [(_JUMP_IF, 0, len(_IOCTLS) + 3, _NUMBERS["ioctl"][column] or 0), (_LOAD, 0, 0, _ARG1)]
    ops += [(_JUMP_IF, len(_IOCTLS) - i, 0, command) for i, command in enumerate(_IOCTLS)]
    ops += [(_RETURN, 0, 0, _ERRNO | errno.ENOTTY), (_RETURN, 0, 0, _ALLOW)]
    ops += [(_JUMP_GE, 0, 1, 424), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]
    return _assemble(ops)


def child_filter(pid: int) -> bytes:
    """The filter of a process that runs a program, beside the base one: threads but no processes, signals to itself alone."""
    column, _ = _machine()

    def number(name: str) -> int:
        return _NUMBERS[name][column] or 0xFFFF

    deny, allow = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ALLOW)
    ops = [(_LOAD, 0, 0, _NR)]
    for name in ("fork", "vfork", "seccomp", "setpgid", "setsid"):
        ops += [(_JUMP_IF, 0, 1, number(name)), deny]
    for name in ("kill", "tgkill"):
        ops += [(_JUMP_IF, 0, 4, number(name)), (_LOAD, 0, 0, _ARG0), (_JUMP_IF, 1, 0, pid), deny, allow]
    ops += [(_JUMP_IF, 0, 1, number("tkill")), deny]
    ops += [(_JUMP_IF, 0, 4, number("prlimit64")), (_LOAD, 0, 0, _ARG0), (_JUMP_IF, 1, 0, 0), deny, allow]
    ops += [(_JUMP_IF, 0, 4, number("prctl")), (_LOAD, 0, 0, _ARG0), (_JUMP_IF, 1, 0, PR_SET_NAME), deny, allow]
    ops += [(_JUMP_IF, 0, 5, number("clone")), (_LOAD, 0, 0, _ARG0), (_JUMP_SET, 0, 2, _CLONE_THREAD)]
    ops += [(_JUMP_SET, 1, 0, _CLONE_NEW), allow, deny]
    ops += [(_JUMP_IF, 0, 2 * (len(_FCNTL) + len(_FCNTL_LOCKS)) + 2, number("fcntl")), (_LOAD, 0, 0, _ARG1)]
    for command in (*_FCNTL, *_FCNTL_LOCKS):
        ops += [(_JUMP_IF, 0, 1, command), allow if command in _FCNTL else (_RETURN, 0, 0, _ERRNO | 0)]
    ops.append(deny)
    return _assemble([*ops, allow])


def _allow_if(number: int, conditions: Sequence[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Allows a system call when each (offset of a word, jump, value) holds: the word is it, or has none of its bits."""
    count = len(conditions)
    ops = [(_JUMP_IF, 0, 2 * count + 2, number)]
    for i, (offset, jump, value) in enumerate(conditions):
        away = 2 * (count - i) - 1  # to the denial behind the last condition
        ops += [(_LOAD, 0, 0, offset), (jump, 0, away, value) if jump == _JUMP_IF else (jump, away, 0, value)]
    return [*ops, (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO | errno.EPERM)]


def install(program: bytes) -> None:
    """Filter all further system calls of this process and its children. Raises Unsupported where the kernel refuses."""
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.c_char_p(header), 0, 0) != 0:
        raise Unsupported(f"this kernel refuses seccomp filters: {os.strerror(ctypes.get_errno())}")


def _machine() -> tuple[int, int]:
    machine = platform.machine()
    if machine not in _MACHINES:
        raise Unsupported(f"no list of system calls for {machine}")
    return _MACHINES[machine]


def _assemble(ops: Sequence[tuple[int, int, int, int]]) -> bytes:
    return b"".join(struct.pack("<HBBI", *op) for op in ops)


# Landlock --------------------------------------------------------------------------------------------------------------

_READ_FILE, _READ_DIR, _EXECUTE, _WRITE_FILE, _TRUNCATE = 1 << 2, 1 << 3, 1 << 0, 1 << 1, 1 << 14
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 5: 16}  # kernel's ABI: number of rights on files that it knows


def landlock_abi() -> int:
    """Version of Landlock in this kernel; 0 where there is none or it is off."""
    return max(0, int(LIBC.syscall(_LANDLOCK["create"], None, 0, 1)))


def landlock(readable: Sequence[str], writable: Sequence[str] = ()) -> int:
    """From now on only `readable` can be read and only `writable` files written to, by this process and its children.

    TCP (ABI 4), abstract unix sockets and signals to the outside (ABI 6) are closed too. The result is the ABI that was
    used. Raises Unsupported where the kernel has no Landlock.
    """
    abi = landlock_abi()
    if not abi:
        raise Unsupported("this kernel has no Landlock")
    handled = (1 << max(bits for version, bits in _FILE_RIGHTS.items() if version <= abi)) - 1
    network = 0b11 if abi >= 4 else 0
    scoped = 0b11 if abi >= 6 else 0
    rules = struct.pack("<QQQ", handled, network, scoped)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = LIBC.syscall(_LANDLOCK["create"], rules, len(rules), 0)
    if ruleset < 0:
        raise Unsupported(f"cannot make Landlock rules: {os.strerror(ctypes.get_errno())}")
    for paths, rights in ((readable, _READ_FILE | _READ_DIR | _EXECUTE), (writable, _READ_FILE | _WRITE_FILE)):
        for path in paths:
            if os.path.exists(path):
                _allow(ruleset, path, rights & (handled if os.path.isdir(path) else ~_READ_DIR & handled))
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if LIBC.syscall(_LANDLOCK["restrict"], ruleset, 0) != 0:
        raise Unsupported(f"Landlock refuses its rules: {os.strerror(ctypes.get_errno())}")
    os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        if LIBC.syscall(_LANDLOCK["add"], ruleset, 1, struct.pack("<Qi", rights, folder), 0) != 0:
            raise Unsupported(f"Landlock refuses a rule for {path}: {os.strerror(ctypes.get_errno())}")
    finally:
        os.close(folder)
