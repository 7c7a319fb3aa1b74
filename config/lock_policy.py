"""What is refused when the lock is asked: models that it lacks, and values that are too small for what it knows."""

from collections.abc import Callable, Iterator
from itertools import chain

from config import sizing
from config.backend import Backend, Served
from config.errors import Problem
from config.model import StackConfig, filled
from config.naming import Where, models
from config.parts import NO_GPU, Entry, Pool
from config.policy import entries
from config.scalars import quantity_bytes
from config.secrecy import MISSING, key_path, problem

MAKE_LOCK = "run `make lock` with the stack's name as STACK"


def problems(config: StackConfig) -> list[Problem]:
    """Everything that is refused in a stack whose shape and policy are right."""
    return list(chain.from_iterable(refusal(config) for refusal in REFUSALS))


def warnings(config: StackConfig) -> list[Problem]:
    """What is not refused, but that a reviewer has to see."""
    return [
        problem(where, served.name, f"its entry in the lock is unverified, so its files may change: {MAKE_LOCK}")
        for where, served in _models(config)
        if (known := config.lock.of(served.model)) and known.unverified
    ]


def not_locked(config: StackConfig) -> Iterator[Problem]:
    """A triple that is not in the lock, or not as it is there."""
    for where, served in _models(config):
        if config.lock.of(served.model) is None:
            model = served.model
            triple = f"{model.repo} {model.quant} at {model.revision}"
            yield problem(where, served.name, f"the lock has no entry for {triple}: {MAKE_LOCK}")


def unverified(config: StackConfig) -> Iterator[Problem]:
    """On a steady stack, files that no hub was asked for."""
    if config.steady:
        for warning in warnings(config):
            remedy = f"a steady stack takes locked models only: {MAKE_LOCK}, or set llama-chat:steady to false"
            yield Problem(key=warning.key, value=warning.value, remedy=remedy)


def volume_too_small(config: StackConfig) -> Iterator[Problem]:
    """A volume that does not hold the models and the next one beside them, or whose size nobody knows."""
    for where, entry, backend in _backends(config):
        own = entry.storage.size_gib is not None
        key: Where = (*where, "storage", "size_gib") if own else ("storage", "size_gib")
        needed = sizing.volume_gib(_known(backend))
        if not backend.volume_gib:
            remedy = f"nobody knows yet how large the models of {backend.name} are: {MAKE_LOCK}, or write the size"
            yield Problem(key=key_path(key), value=MISSING, remedy=remedy)
        elif needed and backend.volume_gib < needed:
            remedy = (
                f"{backend.name} needs {needed} GiB: its models and twice the largest, as a new one comes while "
                f"the old one serves, and the one before it stays for going back: write so much, or leave it out"
            )
            yield problem(key, backend.volume_gib, remedy)


def time_too_short(config: StackConfig) -> Iterator[Problem]:
    """A deadline within which a model cannot come, or be loaded."""
    for where, entry, backend in _backends(config):
        storage = filled(config.storage, entry.storage)
        bound = entry.startup_seconds or config.startup_seconds
        key: Where = (*where, "startup_seconds") if entry.startup_seconds else ("startup_seconds",)
        for served in _known(backend):
            load = sizing.load_seconds(served.locked, storage)
            both = sizing.fetch_seconds(served.locked, config.hub) + load
            if bound and both > bound:
                yield problem(key, bound, _slow(served, both, "fetch and load", "hub.mb_per_second"))
            if isinstance(entry, Pool) and entry.load_seconds and load > entry.load_seconds:
                told = _slow(served, load, "load", "storage.mb_per_second")
                yield problem((*where, "load_seconds"), entry.load_seconds, told)


def memory_too_small(config: StackConfig) -> Iterator[Problem]:
    """A memory limit below what the server's own buffers take: it would be killed."""
    for where, entry, backend in _backends(config):
        needed = sizing.host_bytes(_known(backend), backend.loaded)
        if needed and quantity_bytes(backend.memory) < needed:
            key: Where = (*where, "resources", "memory") if entry.resources.memory else ("resources", "memory")
            enough = sizing.memory(_known(backend), backend.loaded)
            remedy = (
                f"{backend.name} needs {enough}, with what it may keep of prompts: "
                f"write so much, leave it out, or lower runtime.prompt_cache_mib (or extra_args' ctx-checkpoints)"
            )
            yield problem(key, backend.memory, remedy)


def over_the_gpu(config: StackConfig) -> Iterator[Problem]:
    """Models that do not fit: the server would fail, or shrink what it was told."""
    for where, entry, backend in _backends(config):
        given = round(backend.gpu.vram_gib * backend.gpu.count * sizing.GIB)
        if backend.gpu.resource == NO_GPU:
            taken = sizing.host_bytes(_known(backend), backend.loaded) or 0
        else:
            taken = sizing.device_bytes(backend.models, backend.loaded, backend.gpu.count)
        placed_by_hand = any({"ot", "override-tensor"} & {*served.runtime.extra_args} for served in backend.models)
        if taken > given and not placed_by_hand:
            key: Where = (*where, "gpu", "vram_gib") if entry.gpu.vram_gib else ("gpu", "vram_gib")
            needs = "; ".join(filter(None, (told(served) for served in backend.models)))
            remedy = (
                f"{backend.name} needs {taken / sizing.GIB:.1f} GiB of {given / sizing.GIB:.1f} ({needs}; and the "
                f"server itself): lower runtime.context_size or runtime.parallel, take a smaller quant, load fewer "
                f"models at a time, or put only some layers or experts on the GPU (gpu_layers, n-cpu-moe)"
            )
            yield problem(key, backend.gpu.vram_gib, remedy)


def over_the_trained_context(config: StackConfig) -> Iterator[Problem]:
    """A slot longer than what the model was trained with: the server would cut it without a word."""
    for where, served in _models(config):
        trained = served.shape.trained_context if served.shape else None
        stretched = any(name.startswith(("rope", "yarn")) for name in served.runtime.extra_args)
        if trained and served.runtime.context_size > trained and not stretched:
            remedy = f"was trained with {trained} tokens of context, and runtime.context_size is"
            told = f"{remedy} {served.runtime.context_size}: lower it, or set rope-scaling and its like in extra_args"
            yield problem(where, served.name, told)


REFUSALS: tuple[Callable[[StackConfig], Iterator[Problem]], ...] = (
    not_locked,
    unverified,
    volume_too_small,
    time_too_short,
    memory_too_small,
    over_the_gpu,
    over_the_trained_context,
)


def told(served: Served) -> str:
    """`GLM-4.7-Flash: weights 17.1, KV cache 6.2, buffers 0.9 GiB`; empty where nothing is known."""
    needed = sizing.needs(served)
    return "" if needed is None else f"{served.name}: {needed}"


def _slow(served: Served, seconds: int, what: str, rate: str) -> str:
    size = served.locked.bytes / 1e9 if served.locked else 0
    remedy = f"write so many, leave it out, or raise {rate}"
    return f"{served.name} has {size:.1f} GB and may take {seconds} s to {what}: {remedy}"


def _known(backend: Backend) -> list[Served]:
    return [served for served in backend.models if served.locked]


def _backends(config: StackConfig) -> Iterator[tuple[Where, Entry, Backend]]:
    for (where, entry), backend in zip(entries(config), config.backends, strict=True):
        yield where, entry, backend


def _models(config: StackConfig) -> Iterator[tuple[Where, Served]]:
    served = (served for backend in config.backends for served in backend.models)
    yield from ((where, it) for (where, _), it in zip(models(config), served, strict=True))
