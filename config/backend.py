"""What serves models, as it will stand: an entry of the stack file with the stack's values where it has none."""

from typing import Literal, TypedDict

from config.parts import Frozen, Gpu, Model, Resources, Runtime, Storage, Toleration
from config.scalars import Role


class Served(Frozen):
    """A model as a backend serves it."""

    model: Model
    runtime: Runtime

    @property
    def name(self) -> str:
        """What the chat user picks."""
        return self.model.name


class Own(TypedDict):
    """What every kind of backend takes from its entry, or else from the stack."""

    role: str
    host: str
    gpu: Gpu
    resources: Resources
    storage: Storage
    startup_seconds: int
    grace_seconds: int
    tolerations: tuple[Toleration, ...]
    pull_secrets: tuple[str, ...]


class Backend(Frozen):
    """What stands on one role's node, as it will stand: no value is left to a default."""

    role: Role
    host: str
    image: str
    models: tuple[Served, ...]
    gpu: Gpu
    resources: Resources
    storage: Storage
    startup_seconds: int
    grace_seconds: int
    tolerations: tuple[Toleration, ...]
    pull_secrets: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name of its Service, Deployment and the rest: `llama-<role>`."""
        return f"llama-{self.role}"


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
    smoke: Literal["changed", "all"]
