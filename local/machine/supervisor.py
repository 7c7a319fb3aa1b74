"""Keeps the daemons running: starts them in order, restarts one that ends, reaps every orphan."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from local.machine.daemons import REPOSITORY, Daemon, Probe

FIRST_DELAY = 0.5
LAST_DELAY = 10.0
STEADY_SECONDS = 60.0
"""After so long a run the next restart is quick again."""
PROBE_SECONDS = 0.1
# Nothing of the caller's: a proxy meant for the host would lead the daemons astray.
ENVIRONMENT = {
    "HOME": "/",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(kw_only=True)
class State:
    """How one daemon does; the host reads it from the status file."""

    ready: bool = False
    """It runs and has taken a connection."""
    pid: int = 0
    """Its number inside the machine; 0 while it does not run."""
    begun: float = 0.0
    """When it was started, in seconds since 1970."""
    exits: int = 0
    """How often it has ended since its last steady run."""


class Supervisor:
    """Runs stages of daemons until the machine ends."""

    def __init__(self, stages: Sequence[Sequence[Daemon]], log: Path, status: Path) -> None:
        self._stages = stages
        self._log = log
        self._status = status
        self._states = {daemon.name: State() for stage in stages for daemon in stage}
        self._ready = {name: asyncio.Event() for name in self._states}
        self._running: dict[int, tuple[subprocess.Popen[bytes], asyncio.Future[int]]] = {}

    async def run(self) -> None:
        """Start all, stage by stage, and keep them; never returns."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap)
        self._report()
        async with asyncio.TaskGroup() as keepers:
            for stage in self._stages:
                for daemon in stage:
                    keepers.create_task(self._keep(daemon))
                for daemon in stage:
                    await self._ready[daemon.name].wait()

    def renew(self, name: str, seconds: float) -> None:
        """End a daemon that has been running for so long: it starts anew."""
        state = self._states[name]
        if state.pid and time.time() - state.begun > seconds:
            os.kill(state.pid, signal.SIGTERM)

    async def _keep(self, daemon: Daemon) -> None:
        state, delay = self._states[daemon.name], FIRST_DELAY
        while True:
            state.begun = time.time()
            code = await self._once(daemon, state)
            if time.time() - state.begun > STEADY_SECONDS:
                state.exits, delay = 0, FIRST_DELAY
            state.ready, state.pid, state.exits = False, 0, state.exits + 1
            self._ready[daemon.name].clear()
            self._report()
            print(f"{daemon.name} ended with {code}: starts again in {delay} s", flush=True)  # noqa: T201 - init's log
            await asyncio.sleep(delay)
            delay = min(2 * delay, LAST_DELAY)

    async def _once(self, daemon: Daemon, state: State) -> int:
        try:
            if daemon.before and (code := await self._spawn(daemon, daemon.before)[1]) != 0:
                return code
            state.pid, ended = self._spawn(daemon, daemon.argv)
        except OSError as error:
            print(f"{daemon.name}: {error}", flush=True)  # noqa: T201 - init's log
            return os.EX_UNAVAILABLE
        probing = asyncio.create_task(self._probe(daemon))
        try:
            return await ended
        finally:
            probing.cancel()

    async def _probe(self, daemon: Daemon) -> None:
        # Once is enough: each probe leaves a line in some daemon's log, and what hangs later shows in the API.
        while not await _answers(daemon.probe):  # noqa: ASYNC110 - another process decides: no event tells
            await asyncio.sleep(PROBE_SECONDS)
        self._states[daemon.name].ready = True
        self._ready[daemon.name].set()
        self._report()

    def _spawn(self, daemon: Daemon, argv: Sequence[str]) -> tuple[int, asyncio.Future[int]]:
        with (self._log / f"{daemon.name}.log").open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=ENVIRONMENT,
                start_new_session=True,
            )
        ended = asyncio.get_running_loop().create_future()
        self._running[process.pid] = (process, ended)
        return process.pid, ended

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = found
                if pid in self._running:
                    process, ended = self._running.pop(pid)
                    process.returncode = os.waitstatus_to_exitcode(status)
                    ended.set_result(process.returncode)

    def _report(self) -> None:
        partial = self._status.with_suffix(".part")
        with suppress(OSError):  # a full disk is no reason to end the machine
            partial.write_text(json.dumps({name: asdict(state) for name, state in self._states.items()}))
            partial.rename(self._status)


async def _answers(probe: Probe) -> bool:
    try:
        if isinstance(probe, Path):
            _, writer = await asyncio.open_unix_connection(probe)
        else:
            _, writer = await asyncio.open_connection(*probe)
    except OSError:
        return False
    writer.close()
    return True
