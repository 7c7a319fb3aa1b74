"""What runs before a migration, in the runbook's shape made small: stand-ins for vLLM, LiteLLM, LibreChat's list."""

import json
from pathlib import Path
from typing import Any

import yaml

from local.paths import cache_dir
from tests.e2e.line import Line

Object = dict[str, Any]
LEGACY = {"general-chat": "tiny-ada", "code-chat": "tiny-bohr", "reasoning-chat": "gemma-3-270m"}
"""Each legacy name, and the model of ours that is to answer it."""
WORKERS = {name: f"vllm-{name.removesuffix('-chat')}" for name in LEGACY}
INLINE_KEY = "sk-legacy-code-key-0123456789"
"""It stands in LiteLLM's document in the open, as many a real one's keys do."""
SLOW_SECONDS = 40
"""How long a stream of the reasoning model's stand-in takes."""
HTTP_PORT, VLLM_PORT = 8080, 8000
SECURITY: Object = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
POD_SECURITY: Object = {
    "runAsNonRoot": True,
    "runAsUser": 1000,
    "runAsGroup": 1000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
SERVE_VLLM = f"""#!/bin/sh
exec /app/llama-server --host 0.0.0.0 --port {VLLM_PORT} --model /app/legacy.gguf --ctx-size 2048 --parallel 2 \
  --threads 1 --predict 256 "$@"
"""


def put(line: Line) -> None:
    """Bring it all up; it is as somebody's own `kubectl apply` leaves it."""
    image = vllm_image(line)
    things = [
        *worker("general-chat", image, ["--alias", "tiny-ada"]),
        *worker("code-chat", image, ["--alias", "tiny-bohr"]),
        *slow_worker("reasoning-chat"),
        *gateway(),
        *frontend(),
    ]
    file = line.scratch / "before.yaml"
    file.write_text(yaml.safe_dump_all(things))
    line.kubectl("apply", "-f", str(file))
    for name in (*WORKERS.values(), "llm-gateway", "librechat"):
        line.kubectl("rollout", "status", f"deployment/{name}", "--timeout=50s")


def vllm_image(line: Line) -> str:
    """llama-server with a tiny model of its own inside."""
    weights = cache_dir() / "hub" / "llama-chat" / "tiny-ada-GGUF" / "tiny-ada-F32.gguf"
    return line.image("llama.cpp", "server-vllm", SERVE_VLLM, {"/app/legacy.gguf": weights.read_bytes()})


def worker(name: str, image: str, args: list[str]) -> list[Object]:
    """A Deployment that serves a legacy name, and its Service."""
    container: Object = {"name": "vllm", "image": image, "args": args}
    return [*deployment(WORKERS[name], container, VLLM_PORT, "/health"), service(WORKERS[name], VLLM_PORT)]


def slow_worker(name: str) -> list[Object]:
    """One whose streams take long and cost nothing."""
    source = (Path(__file__).parent / "slow_server.py").read_text()
    script = config_map("vllm-reasoning-script", {"slow_server.py": source})
    command = ["python3", "-u", "/script/slow_server.py", str(SLOW_SECONDS)]
    container: Object = {"name": "vllm", "image": PYTHON, "command": command, "volumeMounts": [mount("/script")]}
    volume: Object = {"name": "config", "configMap": {"name": "vllm-reasoning-script"}}
    made = deployment(WORKERS[name], container, VLLM_PORT, "/v1/models", volume)
    return [script, *made, service(WORKERS[name], VLLM_PORT)]


def gateway() -> list[Object]:
    """LiteLLM as somebody runs it: one pod, no drain, its document mounted by subPath, a key inside of that."""
    document: Object = {
        "model_list": [
            {
                "model_name": name,
                "litellm_params": {
                    "model": f"openai/{model}",
                    "api_base": f"http://{WORKERS[name]}.ai.svc.cluster.local:{VLLM_PORT}/v1",
                    "api_key": INLINE_KEY if name == "code-chat" else "unused",
                    "timeout": 120,
                    # as with ours: llama-server hangs up after each stream
                    "extra_headers": {"Connection": "close"},
                },
            }
            for name, model in LEGACY.items()
        ],
        "litellm_settings": {"drop_params": True},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    text = f"# written by hand, long ago\n{yaml.safe_dump(document, sort_keys=False)}"
    key = {"secretKeyRef": {"name": "litellm", "key": "master-key"}}
    container: Object = {
        "name": "litellm",
        "image": LITELLM,
        "args": ["--config", "/app/config.yaml", "--port", "4000"],
        "env": [
            {"name": "LITELLM_MASTER_KEY", "valueFrom": key},
            {"name": "LITELLM_LOCAL_MODEL_COST_MAP", "value": "True"},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a pod's own
        ],
        "volumeMounts": [mount("/app/config.yaml", "config.yaml")],
    }
    volume: Object = {"name": "config", "configMap": {"name": "litellm-config"}}
    made = deployment("llm-gateway", container, 4000, "/health/readiness", volume)
    return [config_map("litellm-config", {"config.yaml": text}), *made, service("llm-gateway", 4000)]


def frontend() -> list[Object]:
    """A stand-in for LibreChat: it shows the document that it read when it started, and that is all."""
    document: Object = {
        "version": "1.2.1",
        "endpoints": {
            "custom": [
                {
                    "name": "vLLM",
                    "apiKey": "${LITELLM_MASTER_KEY}",
                    "baseURL": "http://llm-gateway.ai.svc.cluster.local:4000/v1",
                    "models": {"default": list(LEGACY), "fetch": False},
                    "titleModel": "current_model",
                }
            ]
        },
    }
    command = ["python3", "-u", "-m", "http.server", str(HTTP_PORT), "--directory", "/app"]
    container: Object = {
        "name": "librechat",
        "image": PYTHON,
        "command": command,
        "volumeMounts": [mount("/app/librechat.yaml", "librechat.yaml")],
    }
    volume: Object = {"name": "config", "configMap": {"name": "librechat-config"}}
    text = yaml.safe_dump(document, sort_keys=False)
    made = deployment("librechat", container, HTTP_PORT, "/librechat.yaml", volume)
    return [config_map("librechat-config", {"librechat.yaml": text}), *made, service("librechat", HTTP_PORT)]


def listed(line: Line) -> list[str]:
    """The names that LibreChat shows its users now."""
    text = line.kubectl("get", "--raw", f"/api/v1/namespaces/ai/services/librechat:{HTTP_PORT}/proxy/librechat.yaml")
    (endpoint,) = yaml.safe_load(text)["endpoints"]["custom"]
    return endpoint["models"]["default"]


def document(line: Line) -> str:
    """LiteLLM's, as the cluster has it."""
    return line.kubectl("get", "configmap", "litellm-config", "-o", "jsonpath={.data.config\\.yaml}")


def replicas(line: Line, worker: str) -> int:
    """How many pods a vLLM Deployment is to have."""
    return json.loads(line.kubectl("get", "deployment", worker, "-o", "json"))["spec"]["replicas"]


PYTHON = "docker.io/library/python:3.11-slim-bookworm"
LITELLM = "ghcr.io/berriai/litellm:v1.106.2"


def deployment(name: str, container: Object, port: int, ready: str, *volumes: Object) -> list[Object]:
    """A Deployment of one pod that is ready where a path answers."""
    labels = {"app": name}
    probe = {"httpGet": {"path": ready, "port": port}, "periodSeconds": 2, "timeoutSeconds": 5}
    ports = [{"name": "http", "containerPort": port}]
    whole = {**container, "ports": ports, "readinessProbe": probe, "securityContext": SECURITY}
    pod = {"securityContext": POD_SECURITY, "containers": [whole], "volumes": list(volumes)}
    return [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": "ai", "labels": labels},
            "spec": {
                "replicas": 1,
                "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            },
        }
    ]


def service(name: str, port: int) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": port, "targetPort": port}]},
    }


def config_map(name: str, data: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "ai"}, "data": data}


def mount(path: str, sub_path: str | None = None) -> Object:
    return {"name": "config", "mountPath": path, "readOnly": True, **({"subPath": sub_path} if sub_path else {})}
