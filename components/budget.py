"""Time from one place: every deadline of a backend follows from its startup and grace seconds."""

from dataclasses import dataclass

import pulumi

from config.model import Backend

SCHEDULING_SECONDS = 120
"""What a pod may take beside its own work: scheduling, pulling its image, becoming ready."""
SMOKE_SECONDS = 180
"""What a smoke test may take, its own retries included."""
GATEWAY_START_SECONDS = 300
"""What LiteLLM may take until it is ready (7 s idle, 27 s under load were measured on 2 cores)."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A backend's deadlines in seconds."""

    fetch: int
    """The fetch script's own: the whole download."""
    fetch_job: int
    """The prefetch Job's: long enough for the script to give its verdict."""
    startup: int
    """The startup probe: until the server answers its first `/health`."""
    rollout: int
    """The Deployment: the old pod drains, the new one fetches what is missing and loads."""


def budget(backend: Backend) -> Budget:
    """A backend's deadlines; `startup_seconds` bounds fetch plus load until the lock knows the bytes."""
    return Budget(
        fetch=backend.startup_seconds,
        fetch_job=backend.startup_seconds + SCHEDULING_SECONDS,
        startup=backend.startup_seconds,
        rollout=backend.grace_seconds + 2 * backend.startup_seconds + SCHEDULING_SECONDS,
    )


def timeouts(seconds: int) -> pulumi.CustomTimeouts:
    """Pulumi's own wait: a minute more than the cluster's, so that the cluster's verdict is the one shown."""
    text = f"{seconds + 60}s"
    return pulumi.CustomTimeouts(create=text, update=text)
