"""Finds a machine's init among the host's processes: no file about it can be stale, missing or somebody else's."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from select import poll

MODULE = "local.machine.init"
PROC = Path("/proc")


@dataclass(frozen=True, kw_only=True)
class Init:
    """The first process of a machine."""

    pid: int
    digest: str
    """What it was started with; another one means that it is not what is wanted now."""


def command(python: str, state: Path, digest: str) -> tuple[str, ...]:
    """The beginning of the command line that an init is started with, and known by."""
    return (python, "-m", MODULE, str(state), digest)


def find(state: Path) -> Init | None:
    """The init whose state folder this is, once it is inside its namespaces."""
    return next((init for init in _all(state) if _is_first(init.pid)), None)


def kill(state: Path, seconds: float) -> bool:
    """Kill it, and with it all that runs inside; False where something is not gone after `seconds`."""
    # One that was just being born may have had a child since: look again until there is none.
    while found := list(_all(state)):
        if not all(_kill(init.pid, state, seconds) for init in found):
            return False
    return True


def _all(state: Path) -> Iterator[Init]:
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (digest := _digest(int(entry.name), state)) is not None:
            yield Init(pid=int(entry.name), digest=digest)


def _digest(pid: int, state: Path) -> str | None:
    """The digest that an init of this state was started with; None for every other process, and for a zombie."""
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return None
    marks = [word.encode() for word in command("", state, "")[1:-1]]
    return words[4].decode() if words[1:4] == marks else None


def _is_first(pid: int) -> bool:
    try:
        lines = (PROC / str(pid) / "status").read_text().splitlines()
    except OSError:
        return False
    # Its number in each process namespace, from the outermost to its own.
    return any(line.startswith("NSpid:") and line.split()[2:][-1:] == ["1"] for line in lines)


def _kill(pid: int, state: Path, seconds: float) -> bool:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        # The handle stays with one process: what it is now, it is when the signal comes.
        if _digest(pid, state) is None:
            return True
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        gone = poll()
        gone.register(handle)
        return bool(gone.poll(seconds * 1000))
    finally:
        os.close(handle)
