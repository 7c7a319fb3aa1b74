"""Time from one place: every deadline of a backend and of the gateway follows from a few values of the stack file.

A request may wait in a pool until running answers of another model end, then for the load, then, where its model has
fewer slots than it may have requests, for another answer, then for its own: the gateway waits longer than all of these,
llama-swap's health check longer than the load, and every pod drains longer than the longest request that it may hold.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from config.backend import Backend, PoolBackend
from config.legacy import part
from config.model import StackConfig

DRAIN_MARGIN_SECONDS = 10
"""A request ends this long before the drain of the pod that answers it would."""
SCHEDULING_SECONDS = 120
"""What a pod may take beside its own work: scheduling, pulling a small image, becoming ready."""
PULL_SECONDS = 1200
"""What a server's image may take to come: llama.cpp's for a GPU hold several GB."""
SMOKE_SECONDS = 180
"""What a smoke test may take for one loaded model, its own retries included."""
LITELLM_SECONDS = 6000
"""What LiteLLM 1.106.2 waits for an answer where nothing is written (`DEFAULT_REQUEST_TIMEOUT_SECONDS`)."""
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
    request = answer + load + _waiting(backend, answer) + answer if load else answer
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


def _waiting(backend: Backend, answer: int) -> int:
    """What a pool's model may have one request wait for that has no slot."""
    if not isinstance(backend, PoolBackend):
        return 0
    return answer if any(it.runtime.parallel < backend.concurrency_limit for it in backend.models) else 0


def longest_request(config: StackConfig) -> int:
    """The most seconds that the gateway may hold one request; a legacy route's count in every phase."""
    ours = (budget(backend).request for backend in config.backends)
    return max(*ours, *(_adopted_seconds(config) if config.adopted.litellm else ()))


def _adopted_seconds(config: StackConfig) -> Iterator[int]:
    """The timeouts of the adopted routes, by the keys in which LiteLLM's router looks for them."""
    document = config.adopted.routes
    router, settings = part(document, "router_settings"), part(document, "litellm_settings")
    shared = [router.get("timeout"), router.get("stream_timeout"), settings.get("request_timeout")]
    for entry in config.adopted.entries:
        own = [entry["litellm_params"].get(key) for key in ("timeout", "stream_timeout", "request_timeout")]
        written = [it for it in own if it is not None] or [it for it in shared if it is not None]
        yield from (_seconds(it) for it in written or [LITELLM_SECONDS])


def _seconds(timeout: Any) -> int:  # noqa: ANN401 - YAML
    """A timeout as it stands in the document; of a variable nobody knows."""
    try:
        return math.ceil(float(timeout))
    except (TypeError, ValueError):
        return LITELLM_SECONDS
