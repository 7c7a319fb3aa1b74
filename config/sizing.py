"""What follows from the lock: how long a model may take to come and to load, and what of its node it needs."""

import math
from collections.abc import Iterable, Sequence

from config.backend import Served
from config.fit import Fit, fit
from config.lock import LockedModel
from config.parts import Hub, Storage

GIB = 2**30
UNKNOWN_SECONDS = 1800
"""What a fetch or a load may take where nothing is known of the model."""
UNKNOWN_LOAD_SECONDS = 300
UNKNOWN_MEMORY = "16Gi"
START_SECONDS = 60
"""What a server, or a fetch, may take beside reading and downloading."""
SERVER_BYTES = GIB
"""What a server takes beside its models' buffers: its code, the GPU's runtime, requests under way."""
GPU_BYTES = GIB
"""What each GPU's runtime takes for itself; llama.cpp's own `--fit` leaves as much free (`--fit-target`)."""
GPU_CPUS = 2
"""One core feeds the GPU, one serves HTTP."""
KEPT = 2
"""A new model comes while its elder serves, and the one before that stays for going back (model_space.py)."""
VOLUME_MARGIN = 1.05
"""A file system's own, and a little air."""


def fetch_seconds(locked: LockedModel | None, hub: Hub) -> int:
    """The most that a download may take, by the hub's slowest rate."""
    return _seconds(locked, hub.mb_per_second) if locked else UNKNOWN_SECONDS


def load_seconds(locked: LockedModel | None, storage: Storage, unknown: int = UNKNOWN_SECONDS) -> int:
    """The most that a server may take from its start to its first answer, by the volume's slowest rate."""
    return _seconds(locked, storage.mb_per_second) if locked else unknown


def needs(served: Served) -> Fit | None:
    """The memory that a loaded model takes; None where nothing is known of it."""
    return fit(served.shape, served.runtime) if served.shape else None


def device_bytes(models: Iterable[Served], loaded: int, gpus: int) -> int:
    """What a server with so many loaded models takes of its GPUs at the most; those that are known, whichever."""
    taken = _most((_device(needed, gpus) for served in models if (needed := needs(served))), loaded)
    return taken + GPU_BYTES * gpus if taken else 0


def host_share(served: Served) -> int | None:
    """What a loaded model takes of its node's memory, with all that its server may keep of prompts there."""
    needed = needs(served)
    return None if needed is None else needed.host + needed.checkpoints + served.runtime.prompt_cache_mib * 2**20


def host_bytes(models: Iterable[Served], loaded: int) -> int | None:
    """What a server with so many loaded models takes of its node's memory; None where a model is not known."""
    found = [host_share(served) for served in models]
    known = [size for size in found if size is not None]
    return SERVER_BYTES + _most(known, loaded) if len(known) == len(found) else None


def cpu(models: Sequence[Served]) -> str:
    """The CPU request: a core for each thread where layers are computed on the CPU."""
    computing = [served.runtime.threads for served in models if not _on_gpu(served)]
    return str(max([GPU_CPUS, *computing]))


def memory(models: Sequence[Served], loaded: int) -> str:
    """The memory request and limit, as a Kubernetes quantity."""
    needed = host_bytes(models, loaded)
    return UNKNOWN_MEMORY if needed is None else f"{math.ceil(needed / 2**20)}Mi"


def volume_gib(models: Sequence[Served]) -> int | None:
    """The volume's size: all models, and room for two more of the largest: a change keeps what it may go back to."""
    sizes = [served.locked.bytes for served in models if served.locked]
    if not sizes or len(sizes) < len(models):
        return None
    return math.ceil((sum(sizes) + KEPT * max(sizes)) * VOLUME_MARGIN / GIB)


def _seconds(locked: LockedModel, mb_per_second: float) -> int:
    return START_SECONDS + math.ceil(locked.bytes / mb_per_second / 1e6)


def _device(needed: Fit, gpus: int) -> int:
    """Each GPU computes in buffers of its own."""
    return needed.device + (gpus - 1) * needed.on_gpu.compute


def _on_gpu(served: Served) -> bool:
    return served.runtime.gpu_layers > (served.shape.layers if served.shape else 0)


def _most(sizes: Iterable[int], count: int) -> int:
    return sum(sorted(sizes, reverse=True)[:count])
