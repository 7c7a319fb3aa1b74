"""What each model takes of its GPU and node, as a table for whoever reads a preview."""

from rich.table import Table

from config import sizing
from config.backend import Backend, PoolBackend, Served
from config.model import StackConfig
from config.parts import NO_GPU
from ops.table import show

TITLE = "what each model takes, in GiB (~ is an assumption)"
COLUMNS = ("backend", "model", "weights", "KV cache", "buffers", "on the GPU", "of", "memory", "of")


def print_fit(config: StackConfig) -> None:
    """A line a model, in GiB; a pool's last line is what its loaded models may take together."""
    table = Table(*COLUMNS, title=TITLE, box=None)
    for backend in config.backends:
        for served in backend.models:
            table.add_row(backend.name, served.name, *_model(served))
        table.add_row("", _together(backend), "", "", "", *_whole(backend))
    show(table)


def _model(served: Served) -> tuple[str, ...]:
    needed = sizing.needs(served)
    if needed is None:
        return ("not known: make lock",)
    parts = (needed.weights, needed.kv, needed.compute, needed.device)
    about = "~" if needed.assumed else ""  # no known rule, or flags that are not counted
    return (*(about + _gib(part) for part in parts), "", about + _gib(sizing.host_share(served)))


def _together(backend: Backend) -> str:
    if isinstance(backend, PoolBackend):
        return f"the largest {backend.max_loaded} of {len(backend.models)}, and the server"
    return "and the server"


def _whole(backend: Backend) -> tuple[str, ...]:
    known = any(served.locked for served in backend.models)
    on_gpu = sizing.device_bytes(backend.models, backend.loaded, backend.gpu.count) if known else None
    given = "-" if backend.gpu.resource == NO_GPU else f"{backend.gpu.vram_gib * backend.gpu.count:g}"
    return _gib(on_gpu), given, _gib(sizing.host_bytes(backend.models, backend.loaded)), backend.memory


def _gib(size: int | None) -> str:
    return "-" if size is None else f"{size / sizing.GIB:.2f}"
