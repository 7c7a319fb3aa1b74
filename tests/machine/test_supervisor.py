import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.machine import supervisor
from local.machine.daemons import Daemon
from local.machine.supervisor import Supervisor

SERVE = (
    "import socket, sys, time\n"
    "s = socket.socket(socket.AF_UNIX)\n"
    "s.bind(sys.argv[1]); s.listen()\n"
    "time.sleep(float(sys.argv[2]))\n"
)


def daemon(folder: Path, name: str, seconds: float = 60, before: tuple[str, ...] = ()) -> Daemon:
    socket = folder / f"{name}.sock"
    script = f"rm -f {socket}; date +%s.%N >> {folder}/{name}.starts; exec python3 -c '{SERVE}' {socket} {seconds}"
    return Daemon(name=name, argv=("sh", "-c", script), probe=socket, before=before)


def starts(folder: Path, name: str) -> list[float]:
    path = folder / f"{name}.starts"
    return [float(line) for line in path.read_text().split()] if path.exists() else []


def watch(folder: Path, stages: list[list[Daemon]], until: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Run the daemons until their status is as wanted; they end with this call."""
    status = folder / "status.json"

    async def scenario() -> dict[str, Any]:
        keeper = Supervisor(stages, folder, status)
        running = asyncio.create_task(keeper.run())
        known: dict[str, Any] = {}
        try:
            async with asyncio.timeout(15):
                while not (known and until(known)):
                    await asyncio.sleep(0.05)
                    known = json.loads(status.read_text())
            return known
        finally:
            running.cancel()
            # the loop is about to close the descriptor that a signal is told to
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
            for pid in (state["pid"] for state in json.loads(status.read_text()).values() if state["pid"]):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    return asyncio.run(scenario())


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "FIRST_DELAY", 0.05)


def test_a_stage_waits_for_the_one_before(tmp_path: Path) -> None:
    stages = [[daemon(tmp_path, "first")], [daemon(tmp_path, "second")]]
    watch(tmp_path, stages, lambda known: all(state["ready"] for state in known.values()))
    assert starts(tmp_path, "first") < starts(tmp_path, "second")


def test_one_that_never_answers_keeps_the_next_stage_back(tmp_path: Path) -> None:
    silent = Daemon(name="silent", argv=("false",), probe=tmp_path / "never")
    known = watch(tmp_path, [[silent], [daemon(tmp_path, "next")]], lambda known: known["silent"]["exits"] > 2)
    assert not known["silent"]["ready"]
    assert starts(tmp_path, "next") == []


def test_one_that_ends_is_started_again_and_counted(tmp_path: Path) -> None:
    known = watch(tmp_path, [[daemon(tmp_path, "short", 0.1)]], lambda known: known["short"]["exits"] >= 2)
    assert len(starts(tmp_path, "short")) >= 2
    assert known["short"]["exits"] >= 2


def test_it_starts_only_after_its_preparation_succeeded(tmp_path: Path) -> None:
    once = f"test -e {tmp_path}/prepared || {{ touch {tmp_path}/prepared; exit 1; }}"
    prepared = daemon(tmp_path, "prepared-first", before=("sh", "-c", once))
    known = watch(tmp_path, [[prepared]], lambda known: known["prepared-first"]["ready"])
    assert known["prepared-first"]["exits"] == 1
    assert len(starts(tmp_path, "prepared-first")) == 1


def test_a_command_that_is_not_there_is_reported_not_raised(tmp_path: Path) -> None:
    missing = Daemon(name="missing", argv=("/no/such/command",), probe=tmp_path / "never")
    assert watch(tmp_path, [[missing]], lambda known: known["missing"]["exits"] > 1)["missing"]["pid"] == 0
