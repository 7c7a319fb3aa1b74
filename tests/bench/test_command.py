"""Time and memory of commands that are known."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.command import Command, interleaved
from config.errors import UserError
from ops.stack import ROOT

HOLDS_MEMORY = "data = bytearray(150 * 2**20); import time; time.sleep(0.5)"
HAS_A_CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], check=True)"


def command(tmp_path: Path, *argv: str) -> Command:
    return Command(argv=argv, folder=tmp_path, log=tmp_path / "log")


def test_the_time_is_the_commands_own(tmp_path: Path) -> None:
    assert 0.3 <= command(tmp_path, "sleep", "0.3").seconds() < 5


def test_memory_is_that_of_all_that_was_started(tmp_path: Path) -> None:
    peak = command(tmp_path, sys.executable, "-c", HAS_A_CHILD, HOLDS_MEMORY).peak_mib()
    assert 150 < peak < 400


def test_a_command_that_fails_shows_its_last_lines(tmp_path: Path) -> None:
    failing = command(tmp_path, "sh", "-c", "seq 100; echo changes were proposed >&2; exit 7")
    with pytest.raises(UserError, match=r"(?s)exit code 7.*  87\n.*changes were proposed$") as raised:
        failing.seconds()
    assert "  85\n" not in str(raised.value)
    with pytest.raises(UserError, match="exit code 7"):
        failing.peak_mib()


def test_subjects_take_turns(tmp_path: Path) -> None:
    subjects = {name: command(tmp_path, "echo", name) for name in "ABC"}
    order: list[str] = []

    def measure(subject: Command) -> float:
        order.append(subject.argv[1])
        return len(order)

    assert interleaved(subjects, 2, measure) == {"A": [1, 4], "B": [2, 5], "C": [3, 6]}
    assert order == ["A", "B", "C", "A", "B", "C"]


def test_an_interrupted_bench_lets_its_command_end_by_itself(tmp_path: Path) -> None:
    script = "trap 'echo ended > ended; exit 1' INT; echo up > up; while :; do sleep 0.1; done"
    code = (
        # a shell's job in the background ignores Ctrl-C, and so does what it starts
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pathlib import Path; from bench.command import Command; folder = Path(sys.argv[1]);"
        "Command(argv=['sh', '-c', sys.argv[2]], folder=folder, log=folder / 'log').seconds()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path, script], cwd=ROOT, stderr=subprocess.PIPE, text=True
    ) as bench:
        killer = threading.Timer(60, bench.kill)
        killer.start()
        while not (tmp_path / "up").exists():
            assert bench.poll() is None
            time.sleep(0.05)
        time.sleep(1)  # on a busy machine its command may be up before it waits for it
        bench.send_signal(signal.SIGINT)
        _, complaint = bench.communicate()
        killer.cancel()
    assert complaint.endswith("KeyboardInterrupt\n")
    assert (tmp_path / "ended").exists()
