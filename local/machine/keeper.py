"""Keeps what daemons forget or cannot do: GPUs on nodes, deleted nodes, volumes that any user may write."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

from local.machine import layout as at
from local.machine.api import Api, ApiError
from local.machine.layout import Node
from local.machine.supervisor import Supervisor

GPU = "amd.com/gpu"
NODES_PATH = "/api/v1/nodes"
ROUND_SECONDS = 2.0
VOLUME_SECONDS = 0.2
REGISTER_SECONDS = 20.0
"""How long a kubelet may take to make its node."""


async def keep_nodes(api: Api, nodes: Sequence[Node], supervisor: Supervisor) -> None:
    """Give each GPU node its GPU, and make a kubelet whose node was deleted register anew."""
    while True:
        await asyncio.sleep(ROUND_SECONDS)
        try:
            found = await asyncio.to_thread(list_nodes, api)
            for node in nodes:
                if node.name not in found:
                    supervisor.renew(f"kubelet@{node.name}", REGISTER_SECONDS)
                elif node.is_gpu and not has_gpu(found[node.name]):
                    await asyncio.to_thread(give_gpu, api, node.name)
        except ApiError:
            continue  # it starts, or the supervisor is about to start it


async def keep_volumes_open() -> None:
    """The provisioner makes a volume for root alone; pods run as any user."""
    while True:
        for volume in at.VOLUMES.iterdir():
            with suppress(FileNotFoundError):  # deleted a moment ago
                volume.chmod(0o777)
        await asyncio.sleep(VOLUME_SECONDS)


def list_nodes(api: Api) -> dict[str, Any]:
    """Every node object by its name."""
    return {node["metadata"]["name"]: node for node in api.get(NODES_PATH)["items"]}


def has_gpu(node: dict[str, Any]) -> bool:
    """The scheduler may place one pod with a GPU there."""
    return all(node["status"].get(part, {}).get(GPU) == "1" for part in ("capacity", "allocatable"))


def is_ready(node: dict[str, Any], begun: float) -> bool:
    """Its kubelet says so, and has since it was started: what an earlier one said stands there for a while."""
    said = [it for it in node["status"].get("conditions", ()) if it["type"] == "Ready" and it["status"] == "True"]
    return any(datetime.fromisoformat(it["lastHeartbeatTime"]).timestamp() >= int(begun) for it in said)


def give_gpu(api: Api, name: str) -> None:
    """What a device plugin would report; the kubelet counts it as its own from then on."""
    api.patch(f"{NODES_PATH}/{name}/status", {"status": {part: {GPU: "1"} for part in ("capacity", "allocatable")}})
