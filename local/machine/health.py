"""What can be told about a machine from outside: the rows of `make status`."""

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from local.machine import process
from local.machine.api import Api, ApiError
from local.machine.keeper import has_gpu, is_ready, list_nodes
from local.machine.layout import Layout, layout_file
from local.paths import Instance
from local.system import answer

SECONDS = 5.0
CRASHES = 5
LOOPBACK = "127.0.0.1"
_NO_PROXY = urllib.request.build_opener(urllib.request.ProxyHandler({}))

Row = tuple[str, bool, str]
"""A part, whether it is well, and what there is to know."""


def daemons(state: Path) -> dict[str, dict[str, Any]]:
    """How each daemon does, in the order of their start; empty before init has told."""
    try:
        return json.loads((state / "daemons.json").read_text())
    except (OSError, ValueError):
        return {}


def crashed(state: Path) -> list[str]:
    """Daemons that have ended so often that they will not make it."""
    return [name for name, how in daemons(state).items() if not how["ready"] and how["exits"] >= CRASHES]


def status(instance: Instance) -> list[Row]:
    """Every part of an instance's machine; one row alone where nothing runs."""
    init = process.find(instance.state)
    try:
        layout = Layout.from_json(layout_file(instance).read_text())
    except (OSError, ValueError, KeyError, TypeError):
        layout = None
    if init is None or layout is None:
        return [("init", False, f"does not run; its log is {instance.state / 'log' / 'init.log'}")]
    return [
        ("init", True, f"process {init.pid}"),
        *_daemon_rows(layout),
        *_api_rows(layout),
        _dns(init.pid),
        _http("registry", instance.registry_port, "/v2/"),
        _http("hub", instance.hub_port, "/"),
        _listens("gateway port", instance.gateway_port),
    ]


def _daemon_rows(layout: Layout) -> list[Row]:
    known = daemons(layout.state)
    troubled = {name: state for name, state in known.items() if not state["ready"]}
    if known and not troubled:
        return [("daemons", True, f"{len(known)} run")]
    rows = [(name, False, f"{_trouble(state)}; its log is {layout.log / name}.log") for name, state in troubled.items()]
    return rows or [("daemons", False, f"none has been started; init's log is {layout.log / 'init.log'}")]


def _trouble(state: dict[str, Any]) -> str:
    return f"ended {state['exits']} times" if state["exits"] else "starts" if state["pid"] else "waits for its turn"


def _api_rows(layout: Layout) -> list[Row]:
    try:
        api = Api(layout.pki, LOOPBACK, layout.api_port)
        ready, found = api.is_ready(), list_nodes(api)
    except (ApiError, OSError) as error:
        return [("API server", False, f"does not answer: {error}")]
    return [("API server", ready, "ready" if ready else "not ready"), *_node_rows(layout, found)]


def _node_rows(layout: Layout, found: dict[str, Any]) -> list[Row]:
    known = daemons(layout.state)

    def row(name: str, *, is_gpu: bool) -> Row:
        node = found.get(name)
        if node is None:
            return (name, False, "is not registered")
        if not is_ready(node, known.get(f"kubelet@{name}", {}).get("begun", 0)):
            return (name, False, "is not ready")
        if is_gpu and not has_gpu(node):
            return (name, False, "has no GPU yet")
        return (name, True, "ready, 1 GPU" if is_gpu else "ready")

    return [row(node.name, is_gpu=node.is_gpu) for node in layout.nodes]


def _dns(init: int) -> Row:
    name = "kubernetes.default.svc.cluster.local"
    enter = ("nsenter", f"--target={init}", "--mount", "--net", "--")
    found = answer([*enter, "getent", "hosts", name], seconds=SECONDS) is not None
    return ("DNS", found, f"{name} is {'known' if found else 'not known'}")


def _http(part: str, port: int, path: str) -> Row:
    address = f"http://{LOOPBACK}:{port}{path}"
    try:
        _NO_PROXY.open(address, timeout=SECONDS).close()
    except urllib.error.HTTPError as error:
        error.close()  # it answers: what it says to this path does not matter
    except OSError as error:
        return (part, False, f"{address} does not answer: {error}")
    return (part, True, f"http://{LOOPBACK}:{port}")


def _listens(part: str, port: int) -> Row:
    try:
        socket.create_connection((LOOPBACK, port), SECONDS).close()
    except OSError as error:
        return (part, False, f"{LOOPBACK}:{port}: {error}")
    return (part, True, f"{LOOPBACK}:{port}")
