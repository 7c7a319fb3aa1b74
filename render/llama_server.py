"""llama-server's arguments, and the records of what it serves that pods and people read."""

import re

from config.model import Backend, Model, StackConfig
from render.document import Document

PORT = 8080
MODELS = "/models"
"""Where a backend's volume is mounted."""
WEIGHTS = f"{MODELS}/weights"
LAYERS_VERBOSITY = 4
"""From here on the log tells the offloaded layers, which the smoke test reads (b11434's common/log.cpp)."""
FIRST_SHARD = re.compile(r"-00001-of-\d{5}\.gguf$")
"""The end of a split GGUF's first shard, the one that the loader wants to be given (llama.cpp's `llama_split_path`)."""


def base_url(config: StackConfig, backend: Backend) -> str:
    """A backend's address inside the cluster."""
    return f"http://{backend.name}.{config.cluster.namespace}.svc.cluster.local:{PORT}"


def model_path(model: Model) -> str:
    """The path that the server opens: fixed, but for a split GGUF, whose loader demands the shard's own name."""
    if model.filename and FIRST_SHARD.search(model.filename):
        return f"{WEIGHTS}/{model.filename.rsplit('/', 1)[-1]}"
    return f"{WEIGHTS}/model.gguf"


def arguments(backend: Backend) -> list[str]:
    """llama-server's command line, every value explicit: unset ones are shrunk to fit memory (its `--fit`)."""
    runtime = backend.runtime
    return [
        *("--host", "0.0.0.0"),  # noqa: S104 - a pod's own network: its Service and probes must reach it
        *("--port", str(PORT)),
        *("--model", model_path(backend.model)),
        *("--alias", backend.model.name),
        *("--ctx-size", str(runtime.context_size * runtime.parallel)),
        *("--parallel", str(runtime.parallel)),
        *("--n-predict", str(runtime.max_tokens)),
        *("--batch-size", str(runtime.batch_size)),
        *("--threads", str(runtime.threads)),
        *("--n-gpu-layers", str(runtime.gpu_layers)),
        "--metrics",
        "--offline",
        "--no-webui",
        *(("--log-verbosity", str(LAYERS_VERBOSITY)) if runtime.gpu_layers else ()),
    ]


def model_record(config: StackConfig, backend: Backend, deadline_seconds: int) -> Document:
    """Which model is fetched and from where: what the fetch script reads."""
    model = backend.model
    return {
        "name": model.name,
        "repo": model.repo,
        "quant": model.quant,
        "filename": model.filename,
        "revision": model.revision,
        "endpoint": config.hub.endpoint,
        "model_path": model_path(model),
        "deadline_seconds": deadline_seconds,
    }


def server_record(backend: Backend) -> Document:
    """Which knobs the server runs with."""
    gpu = {"resource": backend.gpu.resource, "count": backend.gpu.count}
    return {"name": backend.model.name, "runtime": backend.runtime.model_dump(), "gpu": gpu}
