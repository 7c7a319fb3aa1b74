"""The stack file's shape: every top-level key, its unit and its default, once."""

from functools import cached_property
from typing import TypeVar

from pydantic import Field, PrivateAttr

from config import sizing
from config.backend import Backend, PinnedBackend, PoolBackend, Served
from config.legacy import Adopted, Legacy
from config.lock import Lock
from config.parts import (
    GRACE,
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
    Model,
    Pool,
    PoolModel,
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
    startup_seconds: int | None = Field(
        default=None,
        ge=10,
        description="most seconds that fetch plus load of one model may take; absent: by the lock, else 1800",
    )
    grace_seconds: int = Field(default=300, description=GRACE)
    tolerations: tuple[Toleration, ...] = Field(default=(), description="taints that the roles' nodes may have")
    pull_secrets: tuple[DnsName, ...] = Field(default=(), description="Secrets that the images' registries ask for")
    statics: tuple[Static, ...] = Field(min_length=1, description="backends with one pinned model each")
    pools: tuple[Pool, ...] = Field(default=(), description="swap pools")
    hub: Hub = Hub()
    gateway: Gateway
    frontend: Frontend = Frontend()
    legacy: Legacy = Legacy()
    migration: Migration = Migration()
    master_key: Encrypted | None = Field(
        default=None, description="LiteLLM's master key, where no Secret holds it yet; encrypted values only"
    )

    _lock: Lock = PrivateAttr(default=Lock())
    _adopted: Adopted = PrivateAttr(default=Adopted())

    def with_lock(self, lock: Lock) -> "StackConfig":
        """The same config, whose backends know what the lock says of their models."""
        return self._with(lock, self._adopted)

    def with_adopted(self, adopted: Adopted) -> "StackConfig":
        """The same config, which knows what ran before."""
        return self._with(self._lock, adopted)

    def _with(self, lock: Lock, adopted: Adopted) -> "StackConfig":
        # a new one: what a copy has worked out already, it has worked out without them
        made = type(self).model_construct(
            self.model_fields_set, **{name: getattr(self, name) for name in type(self).model_fields}
        )
        made._lock, made._adopted = lock, adopted  # noqa: SLF001 - its own class
        return made

    @property
    def lock(self) -> Lock:
        """What is known of the models."""
        return self._lock

    @property
    def adopted(self) -> Adopted:
        """What ran before; empty in mode deploy."""
        return self._adopted

    @property
    def gateway_pods(self) -> int:
        """How many pods the gateway has: an adopted one never fewer than it had."""
        return max(self.gateway.replicas, self.adopted.gateway_pods)

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

    @cached_property
    def pinned(self) -> tuple[PinnedBackend, ...]:
        """All static backends, in the stack file's order."""
        return tuple(self._pinned(entry) for entry in self.statics)

    @cached_property
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

    def _pinned(self, entry: Static) -> PinnedBackend:
        served = self._served(entry, entry.model, filled(self.runtime, entry.runtime))
        return PinnedBackend(**vars(self._backend(entry, self.images.llama_server, (served,), loaded=1)))

    def _pool(self, entry: Pool) -> PoolBackend:
        image = self.images.llama_server if entry.engine == "llama-server" else self.images.llama_swap
        runtime = filled(self.runtime, entry.runtime)
        models = tuple(self._pooled(entry, model, filled(runtime, model.runtime)) for model in entry.models)
        loaded = min(entry.max_loaded, len(models))
        return PoolBackend(
            **vars(self._backend(entry, image, models, loaded=loaded)),
            engine=entry.engine,
            ttl_seconds=entry.ttl_seconds,
            max_loaded=loaded,
            concurrency_limit=entry.concurrency_limit,
            load_seconds=max(served.load_seconds for served in models),
            smoke=entry.smoke,
        )

    def _pooled(self, entry: Pool, model: PoolModel, runtime: Runtime) -> Served:
        # a slot that no request may use would only take memory
        slots = min(runtime.parallel, entry.concurrency_limit)
        return self._served(entry, model, runtime.model_copy(update={"parallel": slots}))

    def _served(self, entry: Entry, model: Model, runtime: Runtime) -> Served:
        known = self._lock.of(model)
        locked = known if known and not known.unverified else None
        bound = entry.startup_seconds or self.startup_seconds
        load_bound, unknown = bound, sizing.UNKNOWN_SECONDS
        if isinstance(entry, Pool):
            load_bound, unknown = entry.load_seconds, sizing.UNKNOWN_LOAD_SECONDS
        return Served(
            model=model,
            runtime=runtime,
            locked=locked,
            fetch_seconds=bound or sizing.fetch_seconds(locked, self.hub),
            load_seconds=load_bound or sizing.load_seconds(locked, filled(self.storage, entry.storage), unknown),
        )

    def _backend(self, entry: Entry, image: str | None, models: tuple[Served, ...], *, loaded: int) -> Backend:
        """An entry with the stack's values where it has none, and the models' own needs where neither has any."""
        gpu, storage = filled(self.gpu, entry.gpu), filled(self.storage, entry.storage)
        resources = filled(self.resources, entry.resources)
        at_start = sorted((served.load_seconds for served in models), reverse=True)[:loaded]
        return Backend(
            role=entry.role,
            host=self.nodes[entry.role],
            image=entry.image or image or "",  # the policy refuses a pool that has none
            models=models,
            gpu=gpu,
            cpu=resources.cpu or sizing.cpu(models),
            memory=resources.memory or sizing.memory(models, loaded),
            storage_class=storage.class_name,
            volume_given=storage.size_gib is not None,
            volume_gib=storage.size_gib or sizing.volume_gib(models) or 0,  # the policy refuses one that nobody knows
            startup_seconds=entry.startup_seconds or self.startup_seconds or sum(at_start),
            grace_seconds=self.grace_seconds if entry.grace_seconds is None else entry.grace_seconds,
            tolerations=self.tolerations if entry.tolerations is None else entry.tolerations,
            pull_secrets=self.pull_secrets if entry.pull_secrets is None else entry.pull_secrets,
        )


def filled(default: _T, override: Frozen) -> _T:
    """The stack's values with one backend's own put over them."""
    return default.model_copy(update=override.model_dump(exclude_none=True))
