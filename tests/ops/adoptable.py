"""A cluster of plain data in the runbook's shape, and a stack file that names what is to be adopted in it."""

import json
from base64 import b64encode
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.kube import Kube
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, deployment

Object = dict[str, Any]
KEY = "sk-canary-of-the-code-server"
LIVE_LITELLM = LITELLM.replace("os.environ/LEGACY_KEY_1", KEY)
"""As it runs: the key stands in it."""
STACK = """\
# prod: what runs today, and what is to come
config:
  llama-chat:cluster: {context: homelab, namespace: ai}
  llama-chat:gpu: {resource: amd.com/gpu, vram_gib: 48}
  llama-chat:images:
    llama_server: ghcr.io/ggml-org/llama.cpp:server-rocm-b1   # by tag
    python: docker.io/library/python:3.13-slim
    litellm: ghcr.io/berriai/litellm:v1
  llama-chat:nodes: {static-a: gpu-node-1, static-b: gpu-node-2}
  llama-chat:runtime: {context_size: 32768, max_tokens: 4096}
  llama-chat:storage: {class_name: local-path, size_gib: 80}
  llama-chat:statics:
    - {role: static-a, model: {name: GLM-4.7-Flash, repo: unsloth/GLM-4.7-Flash-GGUF, quant: Q4_K_M}}
    - {role: static-b, model: {name: Qwen3-Coder-30B-A3B, repo: unsloth/Qwen3-Coder-GGUF, quant: Q4_K_M}}
  # the gateway that users know
  llama-chat:gateway:
    mode: adopt
    master_key_secret: {name: litellm, key: master-key}   # as before
  llama-chat:frontend: {mode: adopt, endpoint_name: vLLM}   # LibreChat

  # one step at a time
  llama-chat:migration: {phase: parallel}
"""


def config_map(name: str, key: str, text: str) -> Object:
    return {"kind": "ConfigMap", "metadata": {"name": name}, "data": {key: text}}


def service(name: str, port: int) -> Object:
    return {
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port}]},
    }


def live_deployment(kept: Object) -> Object:
    """A Deployment with what the cluster adds to it."""
    live = deepcopy(kept)
    live["metadata"] |= {
        "uid": "0c0ffee",
        "resourceVersion": "1",
        "generation": 4,
        "creationTimestamp": "2025-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl-client-side-apply", "operation": "Update", "fieldsV1": {"f:spec": {}}}],
        "annotations": {"deployment.kubernetes.io/revision": "7"},
    }
    live["status"] = {"readyReplicas": 1}
    return live


@dataclass(frozen=True, kw_only=True)
class Cluster(Kube):
    """What runs, in the order in which kubectl would list it."""

    context: str = "homelab"
    namespace: str = "ai"
    objects: dict[tuple[str, str], Object] = field(default_factory=dict[tuple[str, str], Object])
    ran: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """Every command that changed something."""

    def __post_init__(self) -> None:
        workers = [deployment(f"vllm-{name}") for name in ("general", "code", "reasoning")]
        things: list[tuple[str, Object]] = [
            ("configmap", config_map("litellm-config", "config.yaml", LIVE_LITELLM)),
            ("configmap", config_map("librechat-config", "librechat.yaml", LIBRECHAT)),
            *(("deployment", live_deployment(it)) for it in (GATEWAY, FRONTEND, *workers)),
            ("service", service("llm-gateway", 4000)),
            *(("service", service(it["metadata"]["name"], 8000)) for it in workers),
            (
                "secret",
                {"metadata": {"name": "litellm", "labels": {}}, "data": {"master-key": b64encode(b"k").decode()}},
            ),
        ]
        self.objects.update({(kind, thing["metadata"]["name"]): thing for kind, thing in things})
        for number, worker in enumerate(workers, start=1):
            name = worker["metadata"]["name"]
            pod = {
                "metadata": {"name": f"{name}-1", "labels": {"app": name, "pod-template-hash": "1"}},
                "spec": {"nodeName": f"gpu-node-{number}"},
            }
            self.objects["pod", f"{name}-1"] = pod

    def named(self, kind: str, name: str) -> Object:
        """One object, for a test to change."""
        return self.objects[kind, name]

    def write(self, text: str, name: str = "litellm-config", key: str = "config.yaml") -> None:
        """Put another document into a ConfigMap."""
        self.named("configmap", name)["data"] = {key: text}

    def container(self, name: str = "llm-gateway") -> Object:
        return self.named("deployment", name)["spec"]["template"]["spec"]["containers"][0]

    def labels(self, kind: str) -> dict[str, dict[str, str]]:
        return {thing["metadata"]["name"]: thing["metadata"].get("labels", {}) for thing in self.listed(kind)}

    def listed(self, kind: str, *options: str) -> list[Object]:
        assert not options
        return [deepcopy(thing) for (found, _), thing in self.objects.items() if f"{found}s" == kind]

    def get(self, kind: str, name: str) -> Object:
        return deepcopy(self.objects[kind, name])

    def secret_labels(self, name: str) -> dict[str, str] | None:
        found = self.objects.get(("secret", name))
        return None if found is None else found["metadata"].get("labels", {})

    def secret_keys(self, name: str) -> list[str] | None:
        found = self.objects.get(("secret", name))
        return None if found is None else list(found["data"])

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        if arguments[0] == "get":
            assert arguments[3:] == ("-o", "json", "--show-managed-fields")
            return json.dumps(self.objects[arguments[1], arguments[2]])
        assert arguments[1:] == ("-f", "-")
        thing = json.loads(stdin or "")
        key = (thing.get("kind", "Secret").lower(), thing["metadata"]["name"])
        assert (key in self.objects) == (arguments[0] == "replace")
        self.objects[key] = thing
        self.ran.append(arguments)
        return ""


def stack_text(folder: Path, text: str = STACK) -> Path:
    file = folder / "Pulumi.prod.yaml"
    file.write_text(text)
    return file
