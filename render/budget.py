"""Time from one place: every deadline of a backend and of the gateway follows from a few values of the stack file.

A request may wait in a pool until running answers of another model end, then for the load, then for its own answer:
the gateway waits longer than all three, llama-swap's health check longer than the load, and every pod drains longer
than the longest request that it may hold.
"""

from dataclasses import dataclass

from config.backend import Backend, PoolBackend
from config.model import StackConfig

DRAIN_MARGIN_SECONDS = 10
"""A request ends this long before the drain of the pod that answers it would."""
SCHEDULING_SECONDS = 120
"""What a pod may take beside its own work: scheduling, pulling a small image, becoming ready."""
PULL_SECONDS = 1200
"""What a server's image may take to come: llama.cpp's for a GPU hold several GB."""
SMOKE_SECONDS = 180
"""What a smoke test may take for one loaded model, its own retries included."""
GATEWAY_START_SECONDS = 300
"""What LiteLLM may take until it is ready (7 s idle, 27 s under load were measured on 2 cores)."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A backend's deadlines in seconds."""

    load: int
    """One model, from the volume to its first answer; 0 where a server has its model before it has requests."""
    request: int
    """The gateway's for one request, whatever it has to wait for."""
    drain: int
    """The pod's grace period: every request that it holds can end."""
    fetch: int
    """The fetch script's own: all downloads."""
    fetch_job: int
    """The prefetch Job's: long enough for the script to give its verdict."""
    startup: int
    """The startup probe: until the server answers its first `/health`."""
    rollout: int
    """The Deployment: the old pod drains, the new one loads what the prefetch Job has brought."""
    smoke: int
    """The smoke test's for one model: as patient as the gateway, since users may keep a pool busy."""


def budget(backend: Backend) -> Budget:
    """A backend's deadlines."""
    answer = backend.grace_seconds - DRAIN_MARGIN_SECONDS
    load = backend.load_seconds if isinstance(backend, PoolBackend) else 0
    request = answer + load + answer if load else answer
    drain = request + DRAIN_MARGIN_SECONDS
    fetch = sum(served.fetch_seconds for served in backend.models)
    return Budget(
        load=load,
        request=request,
        drain=drain,
        fetch=fetch,
        fetch_job=fetch + SCHEDULING_SECONDS,
        startup=backend.startup_seconds,
        rollout=drain + PULL_SECONDS + backend.startup_seconds,
        smoke=max(SMOKE_SECONDS + load, request),
    )


def longest_request(config: StackConfig) -> int:
    """The most seconds that the gateway may hold one request."""
    return max(budget(backend).request for backend in config.backends)
