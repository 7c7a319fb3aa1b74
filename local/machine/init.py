"""The machine's first process: `python -m local.machine.init STATE DIGEST api=FD gateway=FD …`.

When it ends, everything inside ends with it. DIGEST is for those who look for this process (`process.py`).
"""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

from local.machine import layout as at
from local.machine import walls
from local.machine.api import Api
from local.machine.daemons import stages
from local.machine.forward import forward
from local.machine.keeper import keep_nodes, keep_volumes_open
from local.machine.layout import Layout
from local.machine.supervisor import Supervisor

TARGETS = {
    "api": (at.CONTROL, at.API_PORT),
    "gateway": at.GATEWAY,
    "registry": (at.CONTROL, at.REGISTRY_PORT),
    "hub": (at.CONTROL, at.HUB_PORT),
}


def main(state: Path, listeners: dict[str, int]) -> None:
    """Leave the host's namespaces and become the machine."""
    layout = Layout.from_json((state / "machine.json").read_text())
    walls.leave_host_namespaces()
    if os.fork() != 0:
        # Only a child is inside the new process namespace; nobody needs to wait for it.
        os._exit(0)
    walls.mount_all(layout)
    walls.build_network(layout.nodes)
    asyncio.run(_run(layout, {name: socket.socket(fileno=fd) for name, fd in listeners.items()}))


async def _run(layout: Layout, listeners: dict[str, socket.socket]) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    supervisor = Supervisor(stages(layout), layout.log, layout.state / "daemons.json")
    api = Api(layout.pki, *TARGETS["api"])
    async with asyncio.TaskGroup() as tasks:
        for name, listener in listeners.items():
            await forward(listener, *TARGETS[name])
        tasks.create_task(supervisor.run())
        tasks.create_task(keep_nodes(api, layout.nodes, supervisor))
        tasks.create_task(keep_volumes_open())
        await stop.wait()
        # The kernel ends everything else with its first process.
        os._exit(0)


if __name__ == "__main__":
    _state, _digest, *_listeners = sys.argv[1:]
    _pairs = (listener.split("=") for listener in _listeners)
    main(Path(_state), {name: int(fd) for name, fd in _pairs})
