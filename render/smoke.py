"""What the smoke tests expect of a backend and of the gateway."""

from config.model import Backend, StackConfig
from render.document import Document
from render.litellm import api_base
from render.llama_server import base_url


def backend_expectation(config: StackConfig, backend: Backend, pods: Document, deadline_seconds: int) -> Document:
    """A backend serves exactly its model, under its name, on the GPU if it has layers there."""
    return {
        "url": base_url(config, backend),
        "models": [backend.model.name],
        "gpu_layers": backend.runtime.gpu_layers,
        "deadline_seconds": deadline_seconds,
        "pods": pods,
    }


def gateway_expectation(config: StackConfig, pods: Document, deadline_seconds: int) -> Document:
    """The gateway lists exactly the exposed names and sends each to its backend."""
    return {
        "url": gateway_url(config),
        "routes": {backend.model.name: api_base(config, backend) for backend in config.backends},
        "deadline_seconds": deadline_seconds,
        "pods": pods,
    }


def gateway_url(config: StackConfig) -> str:
    """The gateway's address inside the cluster."""
    gateway = config.gateway
    return f"http://{gateway.deployment}.{config.cluster.namespace}.svc.cluster.local:{gateway.port}"
