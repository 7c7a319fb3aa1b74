import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import pytest

from local.machine import keeper
from local.machine import layout as at
from local.machine.api import ApiError
from local.machine.keeper import GPU, has_gpu, is_ready, keep_nodes, keep_volumes_open
from local.machine.layout import Node

NODES = (Node(name="control", index=0), Node(name="gpu-swap", index=1))
BEGUN = 1767225600.0  # 2026-01-01T00:00:00Z


def node(name: str, gpus: str | None = "1", ready: str = "True") -> dict[str, Any]:
    count = {} if gpus is None else {GPU: gpus}
    conditions = [{"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]
    return {"metadata": {"name": name}, "status": {"capacity": count, "allocatable": count, "conditions": conditions}}


class Cluster:
    """Nodes as an API server has them, and a supervisor that only remembers."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes)
        self.patched: list[str] = []
        self.renewed: list[str] = []
        self.failures = 0

    def get(self, _path: str) -> dict[str, Any]:
        if self.failures:
            self.failures -= 1
            raise ApiError(0, "not up yet")
        return {"items": self.nodes}

    def patch(self, path: str, body: dict[str, Any]) -> None:
        self.patched.append(path)
        self.nodes[1]["status"] |= body["status"]

    def renew(self, name: str, _seconds: float) -> None:
        self.renewed.append(name)


def keep(cluster: Cluster) -> None:
    """A few rounds."""
    # The stand-in is an API and a supervisor in one.
    run_a_while(keep_nodes(cast("Any", cluster), NODES, cast("Any", cluster)))


def run_a_while(forever: Coroutine[None, None, None]) -> None:
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(forever, 0.3))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "ROUND_SECONDS", 0.02)
    monkeypatch.setattr(keeper, "VOLUME_SECONDS", 0.02)


def test_what_an_earlier_kubelet_said_does_not_make_a_node_ready() -> None:
    assert is_ready(node("n"), BEGUN)
    assert is_ready(node("n"), BEGUN + 0.9)
    assert not is_ready(node("n"), BEGUN + 2)
    assert not is_ready(node("n", ready="Unknown"), BEGUN)


@pytest.mark.parametrize("gpus", [None, "0"])
def test_a_gpu_node_that_forgot_its_gpu_gets_it_once(gpus: str | None) -> None:
    cluster = Cluster(node("control", None), node("gpu-swap", gpus))
    assert not has_gpu(cluster.nodes[1])
    keep(cluster)
    assert cluster.patched == ["/api/v1/nodes/gpu-swap/status"]
    assert has_gpu(cluster.nodes[1])
    assert not has_gpu(cluster.nodes[0])


def test_a_deleted_node_makes_its_own_kubelet_start_anew() -> None:
    cluster = Cluster(node("control", None))
    keep(cluster)
    assert set(cluster.renewed) == {"kubelet@gpu-swap"}
    assert cluster.patched == []


def test_an_api_server_that_starts_is_waited_for() -> None:
    cluster = Cluster(node("control", None), node("gpu-swap", "0"))
    cluster.failures = 2
    keep(cluster)
    assert len(cluster.patched) == 1


def test_any_user_may_write_a_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(at, "VOLUMES", tmp_path)
    (tmp_path / "pvc-1").mkdir(mode=0o750)
    run_a_while(keep_volumes_open())
    assert (tmp_path / "pvc-1").stat().st_mode & 0o777 == 0o777
