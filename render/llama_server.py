"""llama-server's arguments, and the records of what it serves that pods and people read."""

import re
from collections.abc import Mapping

from config.backend import Backend, PinnedBackend, PoolBackend, Served
from config.model import StackConfig
from render.budget import budget
from render.document import Document

PORT = 8080
MODELS = "/models"
"""Where a backend's volume is mounted."""
WEIGHTS = f"{MODELS}/weights"
CATALOG = "/server"
"""Where a pool's own documents are mounted."""
LAYERS_VERBOSITY = 4
"""From here on the log tells the offloaded layers, which the smoke test reads (b11434's common/log.cpp)."""
FIRST_SHARD = re.compile(r"-00001-of-\d{5}\.gguf$")
"""The end of a split GGUF's first shard, the one that the loader wants to be given (llama.cpp's `llama_split_path`)."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a pod's own network: its Service and probes must reach it

Flags = dict[str, str | int | float | bool]
"""llama-server's flags without their dashes; true is one that stands alone, false its `no-` form."""


def base_url(config: StackConfig, backend: Backend) -> str:
    """A backend's address inside the cluster."""
    return f"http://{backend.name}.{config.cluster.namespace}.svc.cluster.local:{PORT}"


def model_path(backend: Backend, served: Served) -> str:
    """The path that the server opens: fixed, but for a split GGUF, whose loader demands the shard's own name."""
    folder = f"{WEIGHTS}/{served.name}" if isinstance(backend, PoolBackend) else WEIGHTS
    first = served.locked.files[0].path if served.locked else served.model.filename or ""
    return f"{folder}/{first.rsplit('/', 1)[-1] if FIRST_SHARD.search(first) else 'model.gguf'}"


def model_flags(backend: Backend, served: Served) -> Flags:
    """What makes a server serve this model, every value explicit: unset ones are shrunk to fit memory (its `--fit`)."""
    runtime = served.runtime
    return {
        "model": model_path(backend, served),
        "alias": served.name,
        "ctx-size": runtime.context_size * runtime.parallel,
        "parallel": runtime.parallel,
        "n-predict": runtime.max_tokens,
        "batch-size": runtime.batch_size,
        "threads": runtime.threads,
        "n-gpu-layers": runtime.gpu_layers,
        "cache-ram": runtime.prompt_cache_mib,
        **({"log-verbosity": LAYERS_VERBOSITY} if runtime.gpu_layers else {}),
        **runtime.extra_args,
    }


SERVER_FLAGS: Flags = {"metrics": True, "offline": True, "webui": False}
"""What every server of ours runs with, a router and its children too."""


def arguments(backend: PinnedBackend) -> list[str]:
    """The command line of a server with one model."""
    return command_line({"host": ANY_ADDRESS, "port": PORT, **model_flags(backend, backend.served), **SERVER_FLAGS})


def router_arguments(backend: PoolBackend) -> list[str]:
    """The command line of llama-server as the router of a pool (b11434's tools/server/README.md, "router mode")."""
    presets = {"models-preset": f"{CATALOG}/presets.ini", "models-max": backend.max_loaded}
    return command_line({"host": ANY_ADDRESS, "port": PORT, **presets, **SERVER_FLAGS})


def router_presets(backend: PoolBackend) -> str:
    """The router's `presets.ini`: one section a model, named as users name it; the first ones load at the start."""
    idle: Flags = {"sleep-idle-seconds": backend.ttl_seconds} if backend.ttl_seconds else {}
    lines = ["version = 1"]
    for index, served in enumerate(backend.models):
        flags = model_flags(backend, served) | idle | {"load-on-startup": index < backend.max_loaded}
        # the router gives each child the section's name as its alias
        del flags["alias"]
        lines += ["", f"[{served.name}]", *(f"{name} = {_ini(value)}" for name, value in flags.items())]
    return "\n".join(lines) + "\n"


def command_line(flags: Mapping[str, str | int | float | bool]) -> list[str]:
    """Flags as separate arguments."""
    line: list[str] = []
    for name, value in flags.items():
        match value:
            case bool():
                line.append(f"--{name}" if value else f"--no-{name}")
            case _:
                line += [f"--{name}", str(value)]
    return line


def fetch_record(config: StackConfig, backend: Backend) -> Document:
    """Which models are fetched, from where and to where: what the fetch script reads."""
    return {
        "endpoint": config.hub.endpoint,
        "deadline_seconds": budget(backend).fetch,
        "models": [
            {**model_record(backend, served), "deadline_seconds": served.fetch_seconds} for served in backend.models
        ],
    }


def model_record(backend: Backend, served: Served) -> Document:
    """One model's triple, what the lock says that it means, and the path at which its server finds it."""
    triple = {field: getattr(served.model, field) for field in ("name", "repo", "quant", "filename", "revision")}
    files = served.locked.files if served.locked else ()
    return {
        **triple,
        "commit": served.locked.commit if served.locked else None,
        "files": [file.model_dump() for file in files],
        "model_path": model_path(backend, served),
    }


def server_record(backend: Backend) -> Document:
    """Which knobs each model runs with."""
    gpu = {"resource": backend.gpu.resource, "count": backend.gpu.count}
    return {"gpu": gpu, "models": {served.name: served.runtime.model_dump() for served in backend.models}}


def _ini(value: str | float | bool) -> str:  # noqa: FBT001 - a flag's value as it stands in the config
    return str(value).lower() if isinstance(value, bool) else str(value)
