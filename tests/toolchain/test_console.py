import io
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console

from config.errors import UserError
from local import console
from local.console import run_logged, say


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def test_a_line_is_printed_as_it_stands_and_never_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    line = "run `make up STACK=[mine]` " + "word " * 60
    say(line)
    assert capsys.readouterr() == ("", f"{line}\n")


def test_what_a_command_prints_goes_to_the_log_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "logs" / "one.log"
    run_logged("greeting", shell("echo hello; echo world >&2"), log=log)
    assert log.read_text().splitlines()[1:] == ["hello", "world"]
    start, end = capsys.readouterr().err.splitlines()
    assert start == f"greeting … (log: {log})"
    assert re.fullmatch(r"greeting: \d+ s", end)


def test_a_run_without_a_terminal_says_now_and_then_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "REPORT_SECONDS", 0.3)
    run_logged(
        "steps",
        shell("echo 1; echo noise; echo 2; sleep 1"),
        log=tmp_path / "log",
        total=7,
        counts=lambda line: int(line) if line.isdigit() else None,
    )
    middle = capsys.readouterr().err.splitlines()[1:-1]
    assert middle
    assert all(line.startswith("steps: 2/7, ") for line in middle)


def test_on_a_terminal_one_line_tells_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(console, "_console", Console(file=screen, force_terminal=True, highlight=False))
    run_logged(
        "steps", shell("echo 3; sleep 0.5"), log=tmp_path / "log", total=7, counts=lambda line: int(line) or None
    )
    assert "3/7" in screen.getvalue()
    assert re.search(r"steps: \d+ s\n$", screen.getvalue())


def test_a_failure_names_title_code_log_and_the_last_lines_of_this_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_logged("before", shell("echo from an earlier run"), log=log)
    with pytest.raises(UserError) as failure:
        run_logged("counting", shell("seq 100 130; exit 3"), log=log)
    message = str(failure.value)
    assert "counting failed with exit code 3" in message
    assert str(log) in message
    assert [line.strip() for line in message.splitlines()[1:]] == [str(number) for number in range(116, 131)]


def test_a_short_failure_does_not_show_what_an_earlier_run_printed(tmp_path: Path) -> None:
    log = tmp_path / "log"
    run_logged("before", shell("echo from an earlier run"), log=log)
    with pytest.raises(UserError) as failure:
        run_logged("short", shell("echo mine; exit 1"), log=log)
    assert "mine" in str(failure.value)
    assert "earlier" not in str(failure.value)


def test_a_failed_run_never_says_that_it_ended_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError):
        run_logged("failing", shell("exit 1"), log=tmp_path / "log")
    assert capsys.readouterr().err.splitlines() == [f"failing … (log: {tmp_path / 'log'})"]


def test_a_command_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="gone-missing cannot be started"):
        run_logged("title", ["gone-missing"], log=tmp_path / "log")


def test_an_interrupted_run_ends_all_that_the_command_started(tmp_path: Path) -> None:
    pids: list[int] = []

    def interrupt(line: str) -> int | None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_logged("long", shell("sleep 300 & echo $!; wait"), log=tmp_path / "log", counts=interrupt)
    assert gone(pids[0])


def test_a_command_that_ignores_the_polite_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "KILL_AFTER_SECONDS", 0.3)
    pids: list[int] = []

    def interrupt(line: str) -> int | None:
        pids.append(int(line))
        raise KeyboardInterrupt

    stubborn = (
        "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(300)"
    )
    with pytest.raises(KeyboardInterrupt):
        run_logged("stubborn", [sys.executable, "-c", stubborn], log=tmp_path / "log", counts=interrupt)
    assert gone(pids[0])


def gone(pid: int) -> bool:
    """Ended within two seconds; one that is left over is killed so that no test leaves anything running."""
    for _ in range(20):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        if Path(f"/proc/{pid}/stat").exists() and " Z " in Path(f"/proc/{pid}/stat").read_text():
            return True
        time.sleep(0.1)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return False
