"""A stack that stands, as plain data, and its gateway on a loopback port."""

import json
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

from config.errors import UserError
from config.model import StackConfig
from ops.kube import Kube
from ops.verify import verify
from render.librechat import librechat

KEY = "sk-known-to-nobody"
Object = dict[str, Any]


class Server(ThreadingHTTPServer):
    """A gateway that routes rightly, unless a test says otherwise."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        names = {served.name: backend.name for backend in config.backends for served in backend.models}
        self.names = list(names)
        self.bases: dict[str, str | None] = {
            name: f"http://{backend}.ai.svc.cluster.local:8080/v1" for name, backend in names.items()
        }
        self.refused: dict[str, str] = {}
        self.busy = 0
        """How many requests more the models have no room for."""
        self.reply: Object = {"content": "four, five"}
        self.end = "data: [DONE]\n\n"
        self.pause = 0.0
        self.asked: list[Object] = []
        self.keys: set[str | None] = set()


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride] - the one that made it

    def do_GET(self) -> None:
        self.server.keys.add(self.headers["Authorization"])
        self._say(200, json.dumps({"data": [{"id": name} for name in self.server.names]}))

    def do_POST(self) -> None:
        server = self.server
        server.keys.add(self.headers["Authorization"])
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.asked.append(asked)
        if server.busy:
            server.busy -= 1
            self._say(429, "Too many requests")
        elif asked["model"] in server.refused:
            self._say(500, server.refused[asked["model"]])
        elif asked["stream"]:
            event = json.dumps({"choices": [{"delta": server.reply}]})
            self._say(200, f": ping\n\ndata: {event}\n\n{server.end}")
        else:
            self._say(200, json.dumps({"choices": [{"message": server.reply}]}), server.bases[asked["model"]])

    def _say(self, status: int, text: str, base: str | None = None) -> None:
        self.send_response(status)
        if base:
            self.send_header("x-litellm-model-api-base", base)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        with suppress(BrokenPipeError):  # who has asked may have given up
            for letter in text if self.server.pause else [text]:
                time.sleep(self.server.pause)
                self.wfile.write(letter.encode())
                self.wfile.flush()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the parent
        del format, args


@dataclass(frozen=True, kw_only=True)
class StubKube(Kube):
    """A cluster of plain data."""

    objects: dict[tuple[str, str], Object]
    pods: list[Object]
    paths: dict[str, str]
    forward: str
    started: list[subprocess.Popen[str]] = field(default_factory=list[subprocess.Popen[str]])

    def get(self, kind: str, name: str) -> Object:
        if (kind, name) not in self.objects:
            raise UserError(f'kubectl get failed in context homelab: {kind}s "{name}" not found')
        return self.objects[kind, name]

    def listed(self, kind: str, *options: str) -> list[Object]:
        assert kind == "pods"
        if options[0] == "-l":
            wanted = dict(pair.split("=") for pair in options[1].split(","))
            return [pod for pod in self.pods if wanted.items() <= pod["metadata"]["labels"].items()]
        node = options[1].removeprefix("--field-selector=spec.nodeName=")
        return [pod for pod in self.pods if pod["spec"]["nodeName"] == node]

    def raw(self, path: str) -> str:
        if path not in self.paths:
            raise UserError("kubectl get failed in context homelab: no endpoints available for service")
        return self.paths[path]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        assert arguments[0] == "port-forward"
        assert arguments[-2:] == ("service/llm-gateway", ":4000")
        process = subprocess.Popen(["sh", "-c", self.forward], stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return process


@dataclass(kw_only=True)
class Live:
    """What stands, for a test to break."""

    config: StackConfig
    kube: StubKube
    server: Server

    def pod(self) -> Object:
        """The first backend's."""
        return next(pod for pod in self.kube.pods if pod["metadata"]["name"] == "llama-static-a-1")

    def limits(self) -> Object:
        return self.pod()["spec"]["containers"][0]["resources"]["limits"]

    def container(self) -> Object:
        return self.pod()["status"]["containerStatuses"][0]

    def gateway(self) -> Object:
        return self.kube.objects["deployment", "llm-gateway"]

    def answer(self, path: str, text: str | None) -> None:
        """What the first backend says; None is no answer."""
        whole = f"/api/v1/namespaces/ai/services/llama-static-a:http/proxy/{path}"
        del self.kube.paths[whole]
        if text is not None:
            self.kube.paths[whole] = text

    def edit(self, change: Callable[[Object], object]) -> None:
        """Change the frontend's endpoint."""
        data = self.kube.objects["configmap", "librechat-config"]["data"]
        document = yaml.safe_load(data["librechat.yaml"])
        change(document["endpoints"]["custom"][0])
        data["librechat.yaml"] = yaml.safe_dump(document)

    def red(self) -> dict[tuple[str, str], str]:
        """What failed, and why."""
        checks = verify(self.config, self.kube)
        return {(check.subject, check.what): check.detail for check in checks if not check.ok}


def pod(name: str, app: str, node: str, gpus: str | None) -> Object:
    limits = {"memory": "16Gi"} | ({"amd.com/gpu": gpus} if gpus else {})
    container: Object = {"name": "llama-server", "restartCount": 0, "state": {"running": {}}}
    return {
        "metadata": {"name": name, "namespace": "ai", "uid": name, "labels": {"app.kubernetes.io/name": app}},
        "spec": {"nodeName": node, "containers": [{"resources": {"limits": limits}}]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [container],
        },
    }


def deployment(name: str, replicas: int) -> Object:
    counts = dict.fromkeys(("replicas", "updatedReplicas", "readyReplicas", "availableReplicas"), replicas)
    return {
        "metadata": {"name": name, "generation": 2},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app.kubernetes.io/name": name}}},
        "status": {"observedGeneration": 2, **counts},
    }


def live_stack(config: StackConfig, server: Server) -> Live:
    objects = {
        ("deployment", "llm-gateway"): deployment("llm-gateway", 2),
        ("configmap", "librechat-config"): {"data": {"librechat.yaml": yaml.safe_dump(librechat(config))}},
        ("secret", "litellm"): {"data": {"master-key": b64encode(KEY.encode()).decode()}},
    }
    pods = [pod("daemon-1", "daemon", backend.host, None) for backend in config.backends]
    paths: dict[str, str] = {}
    for backend in config.backends:
        objects["deployment", backend.name] = deployment(backend.name, 1)
        objects["node", backend.host] = {"metadata": {"labels": {"ai.llm.role": backend.role}}}
        pods.append(pod(f"{backend.name}-1", backend.name, backend.host, "1"))
        proxy = f"/api/v1/namespaces/ai/services/{backend.name}:http/proxy"
        paths[f"{proxy}/health"] = '{"status":"ok"}\n'
        paths[f"{proxy}/v1/models"] = json.dumps({"data": [{"id": served.name} for served in backend.models]})
    forward = f"echo 'Forwarding from 127.0.0.1:{server.server_address[1]} -> 4000'; exec sleep 60"
    kube = StubKube(context="homelab", namespace="ai", objects=objects, pods=pods, paths=paths, forward=forward)
    return Live(config=config, kube=kube, server=server)


@contextmanager
def serving(config: StackConfig) -> Generator[Server]:
    """A gateway that answers meanwhile."""
    with Server(config) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}).start()
        try:
            yield server
        finally:
            server.shutdown()
