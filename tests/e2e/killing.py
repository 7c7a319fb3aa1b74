"""Commands that are killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.e2e.line import ROOT, Line


def descendants(pid: int) -> list[int]:
    """A process and all that it started, as the kernel has them now."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it ended while we looked
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for one in found:  # grows while it is walked
        found += [child for child, parent in parents.items() if parent == one]
    return found


def kill_when(
    moment: Callable[[], bool], command: list[str], env: Mapping[str, str], log: Path, root: Path = ROOT
) -> None:
    """Start a command and kill -9 it with all its children once `moment` has come."""
    with log.open("w") as output:
        process = subprocess.Popen([sys.executable, *command], cwd=root, env=dict(env), stdout=output, stderr=output)
        deadline = time.monotonic() + 300
        while not moment():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        for pid in descendants(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        process.wait()


def kill_up_when(line: Line, moment: Callable[[], bool], file: Path | None = None) -> None:
    """Kill `make up` at a moment."""
    line.as_filed = False
    where = ["--config-file", str(file)] if file else []
    kill_when(moment, ["-m", "ops", "up", *where], line.env, line.scratch / "killed.log", line.root)
