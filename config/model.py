"""The stack file's shape: every top-level key, its unit and its default, once."""

from typing import TypeVar

from pydantic import Field

from config.backend import Backend, Own, PinnedBackend, PoolBackend, Served
from config.parts import (
    Cluster,
    Encrypted,
    Entry,
    ExternalSecret,
    Frontend,
    Frozen,
    Gateway,
    Gpu,
    Hub,
    Images,
    Migration,
    Pool,
    Resources,
    Runtime,
    SecretKey,
    Static,
    Storage,
    Toleration,
)
from config.scalars import DnsName, Role

NAMESPACE = "llama-chat"
"""Pulumi's config namespace: each top-level field below is a key `llama-chat:<field>` of a stack file."""


_T = TypeVar("_T", bound=Frozen)


class StackConfig(Frozen):
    """A whole stack file, without the `llama-chat:` before each key."""

    steady: bool = Field(default=False, description="past the first stable run: images by digest only")
    cluster: Cluster
    gpu: Gpu
    images: Images
    nodes: dict[Role, DnsName] = Field(
        min_length=1, examples=["static-a: gpu-node-1"], description="role -> name of the node that has it"
    )
    runtime: Runtime
    resources: Resources = Resources()
    storage: Storage
    startup_seconds: int = Field(default=1800, ge=10, description="most seconds that fetch plus load may take")
    grace_seconds: int = Field(default=300, description="seconds that a pod may drain; no answer may take longer")
    tolerations: tuple[Toleration, ...] = Field(default=(), description="taints that the roles' nodes may have")
    pull_secrets: tuple[DnsName, ...] = Field(default=(), description="Secrets that the images' registries ask for")
    statics: tuple[Static, ...] = Field(min_length=1, description="backends with one pinned model each")
    pools: tuple[Pool, ...] = Field(default=(), description="swap pools")
    hub: Hub = Hub()
    gateway: Gateway
    frontend: Frontend = Frontend()
    migration: Migration = Migration()
    master_key: Encrypted | None = Field(
        default=None, description="LiteLLM's master key, where no Secret holds it yet; encrypted values only"
    )

    @property
    def has_master_key(self) -> bool:
        """Whether the stack file holds LiteLLM's master key; read it with `pulumi.Config.require_secret`."""
        return self.master_key is not None

    @property
    def named_secrets(self) -> tuple[SecretKey, ...]:
        """The Secrets that pods of ours read, without the one that the stack makes of `master_key`."""
        master_key = None if self.has_master_key else self.gateway.master_key_secret
        return tuple(secret for secret in (master_key, self.hub.token_secret) if secret)

    @property
    def external_secrets(self) -> tuple[tuple[SecretKey, ExternalSecret], ...]:
        """Those that the External Secrets Operator makes, and of what."""
        return tuple((secret, secret.external) for secret in self.named_secrets if secret.external)

    @property
    def pinned(self) -> tuple[PinnedBackend, ...]:
        """All static backends, in the stack file's order."""
        return tuple(
            PinnedBackend(
                image=entry.image or self.images.llama_server,
                models=(Served(model=entry.model, runtime=filled(self.runtime, entry.runtime)),),
                **self._own(entry),
            )
            for entry in self.statics
        )

    @property
    def pooled(self) -> tuple[PoolBackend, ...]:
        """All swap pools, in the stack file's order."""
        return tuple(self._pool(entry) for entry in self.pools)

    @property
    def backends(self) -> tuple[Backend, ...]:
        """Everything that serves models: static backends first, then pools."""
        return (*self.pinned, *self.pooled)

    @property
    def exposed_names(self) -> tuple[str, ...]:
        """What users pick from: every model's name, once."""
        return tuple(served.name for backend in self.backends for served in backend.models)

    def _pool(self, entry: Pool) -> PoolBackend:
        runtime = filled(self.runtime, entry.runtime)
        router = self.images.llama_server if entry.engine == "llama-server" else self.images.llama_swap
        return PoolBackend(
            image=entry.image or router or "",  # the policy refuses a pool that has none
            models=tuple(Served(model=model, runtime=filled(runtime, model.runtime)) for model in entry.models),
            engine=entry.engine,
            ttl_seconds=entry.ttl_seconds,
            max_loaded=min(entry.max_loaded, len(entry.models)),
            concurrency_limit=entry.concurrency_limit,
            load_seconds=entry.load_seconds,
            smoke=entry.smoke,
            **self._own(entry),
        )

    def _own(self, entry: Entry) -> Own:
        """An entry's own values, with the stack's where it has none."""
        return {
            "role": entry.role,
            "host": self.nodes[entry.role],
            "gpu": filled(self.gpu, entry.gpu),
            "resources": filled(self.resources, entry.resources),
            "storage": filled(self.storage, entry.storage),
            "startup_seconds": entry.startup_seconds or self.startup_seconds,
            "grace_seconds": self.grace_seconds if entry.grace_seconds is None else entry.grace_seconds,
            "tolerations": self.tolerations if entry.tolerations is None else entry.tolerations,
            "pull_secrets": self.pull_secrets if entry.pull_secrets is None else entry.pull_secrets,
        }


def filled(default: _T, override: Frozen) -> _T:
    """The stack's values with one backend's own put over them."""
    return default.model_copy(update=override.model_dump(exclude_none=True))
