"""What serves models, as it will stand: an entry of the stack file with the stack's values where it has none."""

from typing import Literal

from config.lock import LockedModel, Shape
from config.parts import Frozen, Gpu, Model, Runtime, Toleration
from config.scalars import Role


class Served(Frozen):
    """A model as a backend serves it."""

    model: Model
    runtime: Runtime
    locked: LockedModel | None
    """Its entry in the lock; None where nothing is known but the triple."""
    fetch_seconds: int
    """Most seconds that its download may take."""
    load_seconds: int
    """Most seconds from the volume to its first answer."""

    @property
    def name(self) -> str:
        """What the chat user picks."""
        return self.model.name

    @property
    def shape(self) -> Shape | None:
        """What its files' headers say of memory; None where nothing is known of it."""
        return self.locked.shape if self.locked else None


class Backend(Frozen):
    """What stands on one role's node, as it will stand: no value is left to a default."""

    role: Role
    host: str
    image: str
    models: tuple[Served, ...]
    gpu: Gpu
    cpu: str
    """CPU request, a Kubernetes quantity."""
    memory: str
    """Memory request and limit, a Kubernetes quantity."""
    storage_class: str
    volume_gib: int
    volume_given: bool
    """Whether the stack file says the volume's size; else a claim that is there keeps its own."""
    startup_seconds: int
    """Most seconds from the server's start to its first `/health`."""
    grace_seconds: int
    tolerations: tuple[Toleration, ...]
    pull_secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its Service, Deployment and the rest: `llama-<role>`."""
        return f"llama-{self.role}"

    @property
    def claim(self) -> str:
        """Name of the claim that keeps its model files."""
        return f"{self.name}-cache"

    @property
    def loaded(self) -> int:
        """How many of its models may be loaded at the same time."""
        return len(self.models)


class PinnedBackend(Backend):
    """A static backend: one llama-server with one model."""

    @property
    def served(self) -> Served:
        """Its one model."""
        return self.models[0]


class PoolBackend(Backend):
    """A swap pool."""

    engine: Literal["llama-swap", "llama-server"]
    ttl_seconds: int
    max_loaded: int
    concurrency_limit: int
    load_seconds: int
    """Most seconds that its slowest model may take to load."""
    smoke: Literal["changed", "all"]

    @property
    def loaded(self) -> int:
        """As many as the stack lets it hold."""
        return self.max_loaded
