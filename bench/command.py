"""One command, measured from its start to its end."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.errors import UserError

ENDING_SECONDS = 20.0
"""What an interrupted command may take to end."""
SAMPLE_SECONDS = 0.02
TAIL_LINES = 15
_MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Command:
    """An argument list and where it runs; all that it prints goes to `log`."""

    argv: Sequence[str]
    folder: Path
    log: Path

    def seconds(self) -> float:
        """Run it, and tell how long that took; UserError with its last lines where it fails."""
        begun = time.perf_counter()
        with self._run() as process:
            process.wait()
            return time.perf_counter() - begun

    def peak_mib(self) -> float:
        """Run it, and tell the most memory that it and all that it started ever had together.

        Sampling takes time from it: run it once more where its time counts too.
        """
        peak = 0.0
        with self._run() as process:
            while process.poll() is None:
                peak = max(peak, sum(map(_resident_mib, _tree(process.pid))))
                time.sleep(SAMPLE_SECONDS)
        return peak

    @contextmanager
    def _run(self) -> Generator[subprocess.Popen[bytes]]:
        with self.log.open("wb") as output:
            # a group of its own: Ctrl-C reaches us alone, and we it
            process = subprocess.Popen(
                self.argv, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )
        try:
            yield process
        except BaseException:
            _end(process)
            raise
        if process.wait():
            tail = "\n".join(f"  {line}" for line in self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])
            raise UserError(
                f"{' '.join(self.argv)} failed with exit code {process.returncode}. Its last lines:\n{tail}"
            )


def interleaved(
    subjects: Mapping[str, Command], runs: int, measure: Callable[[Command], float]
) -> dict[str, list[float]]:
    """Measure A, B, C, A, B, C …: a machine that grows slower does so for all of them."""
    rounds = [{name: measure(command) for name, command in subjects.items()} for _ in range(runs)]
    return {name: [values[name] for values in rounds] for name in subjects}


def _end(process: subprocess.Popen[bytes]) -> None:
    """Pulumi ends what it started itself when it is interrupted; killed, it would leave that behind."""
    process.send_signal(signal.SIGINT)
    try:
        process.wait(ENDING_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _tree(root: int) -> list[int]:
    """A process and all that came of it."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            # the name, in parentheses, may hold blanks; state and parent follow it
            parent = int(status.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(status.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, ())
    return found


def _resident_mib(pid: int) -> float:
    """Its memory, which no other process beside it changes; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / _MIB
    except OSError:
        return 0.0
