"""The real cluster: what one test breaks, its last lines show mended, so that the next finds it well."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from config.errors import UserError
from local import machine
from local.machine import process
from local.machine.api import Api
from local.machine.keeper import GPU, list_nodes
from local.machine.layout import PAUSE_IMAGE
from local.machine.lifecycle import REPOSITORY
from local.paths import Instance
from local.toolchain import Tools

pytestmark = pytest.mark.cluster
Up = Callable[[], str]


def api(instance: Instance) -> Api:
    return Api(instance.state / "pki", "127.0.0.1", instance.api_port)


def init(instance: Instance) -> int:
    found = process.find(instance.state)
    assert found is not None
    return found.pid


def unwell(instance: Instance) -> list[machine.Row]:
    return [row for row in machine.status(instance) if not row[1]]


def kill_inside(instance: Instance, pattern: str) -> None:
    assert machine.exec_in(instance, ["pkill", "-KILL", "-f", pattern]).returncode == 0


def gpu_pod(name: str) -> dict[str, Any]:
    container = {"name": "pause", "image": PAUSE_IMAGE, "resources": {"limits": {GPU: "1"}}}
    where = {"kubernetes.io/hostname": "gpu-swap"}
    spec = {"containers": [container], "nodeSelector": where, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def phase(instance: Instance, pod: str) -> str:
    return api(instance).get(f"/api/v1/namespaces/ai/pods/{pod}")["status"]["phase"]


def restarts(instance: Instance, pod: str) -> int:
    statuses = api(instance).get(f"/api/v1/namespaces/ai/pods/{pod}")["status"].get("containerStatuses", [])
    return sum(status["restartCount"] for status in statuses)


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def mentions(text: str) -> list[Path]:
    """Every process of the host, in whatever namespace, that has the text in its command line or its mounts."""
    found: list[Path] = []
    for path in (path for name in ("cmdline", "mountinfo") for path in Path("/proc").glob(f"[0-9]*/{name}")):
        with suppress(OSError):  # it ended while we looked
            found += [path] if text in path.read_text() else []
    return found


def test_every_part_is_well_after_up(instance: Instance) -> None:
    assert unwell(instance) == []
    nodes = list_nodes(api(instance))
    assert set(nodes) == {"control", "gpu-static-a", "gpu-swap"}
    gpus = {name: node["status"]["allocatable"].get(GPU) for name, node in nodes.items()}
    assert gpus == {"control": None, "gpu-static-a": "1", "gpu-swap": "1"}


def test_what_a_stack_needs_is_there(instance: Instance) -> None:
    assert api(instance).get("/api/v1/namespaces/ai")["status"]["phase"] == "Active"
    storage = api(instance).get("/apis/storage.k8s.io/v1/storageclasses/local-path")
    assert storage["volumeBindingMode"] == "WaitForFirstConsumer"
    assert instance.kubeconfig.stat().st_mode & 0o777 == 0o600


def test_one_pod_has_a_nodes_gpu_and_keeps_it_through_restarts(instance: Instance, again: Up) -> None:
    for name in ("first", "second"):
        api(instance).ensure("/api/v1/namespaces/ai/pods", name, gpu_pod(name))
        wait_for(lambda: phase(instance, "first") == "Running")
    assert phase(instance, "second") == "Pending"
    kill_inside(instance, "hostname-override=gpu-swap")
    again()
    time.sleep(3)
    assert (phase(instance, "first"), restarts(instance, "first")) == ("Running", 0)
    os.kill(init(instance), signal.SIGKILL)
    again()
    wait_for(lambda: restarts(instance, "first") == 1)
    assert (phase(instance, "first"), phase(instance, "second")) == ("Running", "Pending")
    for name in ("first", "second"):
        api(instance).delete(f"/api/v1/namespaces/ai/pods/{name}?gracePeriodSeconds=0")


def test_up_on_a_healthy_machine_changes_nothing_and_is_quick(instance: Instance, again: Up) -> None:
    before, identity, begun = init(instance), again(), time.monotonic()
    assert again() == identity
    assert time.monotonic() - begun < 3
    assert init(instance) == before


def test_nothing_inside_reaches_the_outside(instance: Instance) -> None:
    assert machine.exec_in(instance, ["ip", "route", "show", "default"]).stdout == ""
    assert machine.exec_in(instance, ["getent", "hosts", "example.com"]).returncode != 0
    assert machine.exec_in(instance, ["getent", "hosts", "hub.llama-chat.internal"]).stdout.startswith("10.50.0.1 ")


def test_what_daemons_write_to_fixed_places_stays_inside(instance: Instance) -> None:
    for path in ("/tmp/hostpath_pv", "/var/lib/kubelet/device-plugins"):  # noqa: S108 - Kubernetes' own places
        assert machine.exec_in(instance, ["test", "-d", path]).returncode == 0
        assert not Path(path).exists()
    setting = Path("/proc/sys/kernel/panic_on_oops")
    inside = machine.exec_in(instance, ["cat", str(setting)]).stdout
    assert inside == "1\n"


def test_orphans_are_reaped(instance: Instance) -> None:
    assert machine.exec_in(instance, ["sh", "-c", "(sleep 0.2 &)"]).returncode == 0
    time.sleep(1)
    zombies = machine.exec_in(instance, ["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status"])
    assert zombies.stdout == ""


@pytest.mark.parametrize("victim", ["kube-apiserver", "hostname-override=gpu-swap", "etcd --data-dir", "local.hub"])
def test_a_killed_daemon_comes_back_without_a_new_machine(instance: Instance, again: Up, victim: str) -> None:
    before = init(instance)
    kill_inside(instance, victim)
    again()
    assert unwell(instance) == []
    assert init(instance) == before


@pytest.mark.full
def test_a_deleted_node_comes_back_with_its_gpu(instance: Instance, again: Up) -> None:
    before = init(instance)
    api(instance).delete("/api/v1/nodes/gpu-swap")
    again()
    assert init(instance) == before
    assert list_nodes(api(instance))["gpu-swap"]["status"]["allocatable"][GPU] == "1"


def test_a_killed_machine_comes_back_with_all_its_objects(instance: Instance, again: Up) -> None:
    marker = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}}
    api(instance).ensure("/api/v1/namespaces/ai/configmaps", "kept", marker)
    identity = again()
    os.kill(init(instance), signal.SIGKILL)
    assert again() == identity
    assert api(instance).get("/api/v1/namespaces/ai/configmaps/kept")["metadata"]["name"] == "kept"


def test_a_taken_port_is_told_before_anything_starts(instance: Instance, again: Up) -> None:
    process.kill(instance.state, 10)
    script = f"import socket, time; s = socket.create_server(('127.0.0.1', {instance.hub_port})); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", script]) as thief:
        time.sleep(0.5)
        with pytest.raises(UserError, match=f"Port {instance.hub_port} "):
            again()
        thief.kill()
    assert process.find(instance.state) is None
    again()
    assert unwell(instance) == []


@pytest.mark.full
def test_state_that_cannot_be_read_is_made_anew_and_the_caller_told(instance: Instance, again: Up) -> None:
    before = again()
    process.kill(instance.state, 10)
    (instance.state / "etcd" / "member" / "snap" / "db").write_text("garbage")
    (instance.state / "machine.json").write_text("{half")
    assert again() != before
    assert unwell(instance) == []


@pytest.mark.parametrize("seconds", [pytest.param(0.5, marks=pytest.mark.full), 1.5])
def test_an_up_that_was_killed_is_finished_by_the_next(
    instance: Instance, tools: Tools, again: Up, seconds: float
) -> None:
    machine.down(instance)
    paths = {name: str(path) for name, path in tools.paths.items()}
    script = (
        "from pathlib import Path; from local import machine; from local.paths import Instance;"
        "from local.toolchain import Tools;"
        f"paths = {{name: Path(path) for name, path in {paths}.items()}};"
        f"machine.up({instance!r}, Tools(paths=paths), ['static-a', 'swap'])"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, start_new_session=True)
    time.sleep(seconds)
    killed.kill()
    killed.wait()
    again()
    assert unwell(instance) == []


def test_down_leaves_nothing_and_may_be_repeated(instance: Instance) -> None:
    assert mentions(str(instance.state)) != []
    machine.down(instance)
    machine.down(instance)
    assert mentions(str(instance.state)) == []
    assert not instance.state.exists()
    assert list(Path("/sys/fs/cgroup").rglob(f"llama-chat-{instance.name}")) == []
    assert machine.status(instance)[0][:2] == ("init", False)
