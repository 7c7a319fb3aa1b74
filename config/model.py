"""The stack file's shape: every key, its unit and its default, once."""

from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from config.scalars import (
    DnsLabel,
    DnsName,
    Filename,
    GpuResource,
    Group,
    Image,
    ModelName,
    Quant,
    Quantity,
    Repo,
    Revision,
    Role,
    SecretDataKey,
    Url,
)

NAMESPACE = "llama-chat"
"""Pulumi's config namespace: each top-level field below is a key `llama-chat:<field>` of a stack file."""


class Frozen(BaseModel):
    """A value object: unknown keys are errors, types are taken as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


_T = TypeVar("_T", bound=Frozen)


class SecretKey(Frozen):
    """Where a secret value lies in the cluster; never the value."""

    name: DnsName = Field(description="name of a Secret in the backend's namespace")
    key: SecretDataKey = Field(description="key inside that Secret")


class Encrypted(Frozen):
    """An encrypted value of the stack file: `pulumi config set --secret` writes it, only the program can read it."""

    secure: str = Field(description="ciphertext; replaced when the stack file is loaded")


class Cluster(Frozen):
    """The cluster that the stack is for."""

    context: str = Field(min_length=1, description="kubeconfig context; the current context is never used")
    namespace: DnsLabel = Field(default="ai", description="namespace of all objects")
    create_namespace: bool = Field(default=False, description="make the namespace; else it must exist")


class Gpu(Frozen):
    """What one backend takes of its node's accelerators."""

    resource: GpuResource = Field(description="extended resource name, such as amd.com/gpu or nvidia.com/gpu")
    count: int = Field(default=1, ge=1, description="whole GPUs for each backend")
    vram_gib: float = Field(gt=0, description="memory of one GPU in GiB")
    supplemental_groups: tuple[Group, ...] = Field(
        default=(), description="numeric groups that own the GPU's device files (video, render)"
    )


class GpuOverride(Frozen):
    """One backend's own GPU values; what is absent comes from `gpu`."""

    resource: GpuResource | None = Field(default=None, description="extended resource name")
    count: int | None = Field(default=None, ge=1, description="whole GPUs for this backend")
    vram_gib: float | None = Field(default=None, gt=0, description="memory of one GPU in GiB")
    supplemental_groups: tuple[Group, ...] | None = Field(default=None, description="numeric device file groups")


class Images(Frozen):
    """Container images, each `registry/name:tag` or, on a steady stack, `…@sha256:<digest>`."""

    llama_server: Image = Field(description="llama.cpp server image; its entrypoint is llama-server")
    llama_swap: Image | None = Field(default=None, description="llama-swap image, for pools")
    python: Image = Field(description="image with python3 3.9 or newer, for fetch and smoke scripts")
    litellm: Image = Field(description="LiteLLM proxy image")


class Runtime(Frozen):
    """llama-server's knobs."""

    context_size: int = Field(ge=256, description="tokens of context per slot (n_ctx is this times parallel)")
    max_tokens: int = Field(ge=1, description="most tokens that one answer may have")
    batch_size: int = Field(default=2048, ge=1, description="logical batch in tokens")
    threads: int = Field(default=8, ge=1, description="CPU threads")
    gpu_layers: int = Field(default=999, ge=0, description="layers offloaded to the GPU; 0 is CPU only")
    parallel: int = Field(default=4, ge=1, description="slots, that is requests answered at the same time")


class RuntimeOverride(Frozen):
    """One backend's own knobs; what is absent comes from `runtime`."""

    context_size: int | None = Field(default=None, ge=256, description="tokens of context per slot")
    max_tokens: int | None = Field(default=None, ge=1, description="most tokens that one answer may have")
    batch_size: int | None = Field(default=None, ge=1, description="logical batch in tokens")
    threads: int | None = Field(default=None, ge=1, description="CPU threads")
    gpu_layers: int | None = Field(default=None, ge=0, description="layers offloaded to the GPU")
    parallel: int | None = Field(default=None, ge=1, description="slots")


class Resources(Frozen):
    """What a backend asks of its node beside GPUs."""

    cpu: Quantity = Field(default="4", description="CPU request, as a Kubernetes quantity")
    memory: Quantity = Field(default="16Gi", description="memory request and limit, as a Kubernetes quantity")


class ResourcesOverride(Frozen):
    """One backend's own CPU and memory; what is absent comes from `resources`."""

    cpu: Quantity | None = Field(default=None, description="CPU request")
    memory: Quantity | None = Field(default=None, description="memory request and limit")


class Storage(Frozen):
    """The volume that keeps a backend's model files."""

    class_name: DnsName = Field(description="StorageClass")
    size_gib: int = Field(ge=1, description="size of each backend's volume in GiB")


class StorageOverride(Frozen):
    """One backend's own volume; what is absent comes from `storage`."""

    class_name: DnsName | None = Field(default=None, description="StorageClass")
    size_gib: int | None = Field(default=None, ge=1, description="size of the volume in GiB")


class Model(Frozen):
    """A model triple: what the chat user sees, and the GGUF behind it."""

    name: ModelName = Field(description="name that the chat user picks")
    repo: Repo = Field(description="hub repository, owner/name")
    quant: Quant = Field(description="quantisation, such as Q4_K_M")
    filename: Filename | None = Field(default=None, description="the GGUF file, where quant is not enough")
    revision: Revision = Field(default="main", description="branch, tag or commit of the repository")


class Static(Frozen):
    """One llama-server with one pinned model on one GPU node."""

    role: Role = Field(description="value of the node label ai.llm.role; the Service is llama-<role>")
    model: Model
    runtime: RuntimeOverride = RuntimeOverride()
    gpu: GpuOverride = GpuOverride()
    resources: ResourcesOverride = ResourcesOverride()
    storage: StorageOverride = StorageOverride()
    startup_seconds: int | None = Field(default=None, ge=10, description="most seconds that fetch plus load may take")
    grace_seconds: int | None = Field(default=None, description="seconds to drain before the pod is killed")


class Pool(Frozen):
    """One swap engine in front of many models on one GPU node."""

    role: Role = Field(description="value of the node label ai.llm.role; the Service is llama-<role>")
    engine: Literal["llama-swap", "llama-server"] = Field(default="llama-swap", description="what swaps the models")
    ttl_seconds: int = Field(default=900, ge=0, description="idle seconds until a model is unloaded; 0 is never")
    max_loaded: int = Field(default=1, ge=1, description="models loaded at the same time")
    concurrency_limit: int = Field(default=4, ge=1, description="requests that one model answers at the same time")
    models: tuple[Model, ...] = Field(min_length=1, description="what the pool swaps between")


class Hub(Frozen):
    """Where models come from."""

    endpoint: Url = Field(default="https://huggingface.co", description="hub's base URL")
    token_secret: SecretKey | None = Field(default=None, description="Secret with the hub's token, for gated models")


class Gateway(Frozen):
    """The LiteLLM in front of all backends."""

    mode: Literal["deploy", "adopt"] = Field(default="deploy", description="run our own, or patch one that runs")
    config_map: DnsName = Field(default="litellm-config", description="name, or in mode deploy the name's beginning")
    deployment: DnsLabel = Field(
        default="llm-gateway",
        max_length=46,  # its smoke test's Job is <name>-smoke-<10 of a hash>
        description="name of the Deployment and its Service",
    )
    port: int = Field(default=4000, ge=1, le=65535, description="the Service's port")
    master_key_secret: SecretKey = Field(description="Secret with LiteLLM's master key")


class Frontend(Frozen):
    """The LibreChat in front of the gateway."""

    mode: Literal["none", "adopt"] = Field(default="none", description="leave it alone, or patch one that runs")
    config_map: DnsName = Field(default="librechat-config", description="ConfigMap that holds librechat.yaml")
    deployment: DnsLabel = Field(default="librechat", description="name of the Deployment")


class Migration(Frozen):
    """How far the way from vLLM has come."""

    phase: Literal["parallel", "test", "cutover", "frontend", "done"] = Field(
        default="parallel", description="the step that stands; moved one at a time"
    )


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

    def backend(self, static: Static) -> "Backend":
        """One static backend with the stack's defaults filled in."""
        return Backend(
            role=static.role,
            model=static.model,
            host=self.nodes[static.role],
            runtime=filled(self.runtime, static.runtime),
            gpu=filled(self.gpu, static.gpu),
            resources=filled(self.resources, static.resources),
            storage=filled(self.storage, static.storage),
            startup_seconds=static.startup_seconds or self.startup_seconds,
            grace_seconds=self.grace_seconds if static.grace_seconds is None else static.grace_seconds,
        )

    @property
    def backends(self) -> tuple["Backend", ...]:
        """All static backends, in the stack file's order."""
        return tuple(self.backend(static) for static in self.statics)


class Backend(Frozen):
    """A static backend as it will stand: no value is left to a default."""

    role: Role
    model: Model
    host: str
    runtime: Runtime
    gpu: Gpu
    resources: Resources
    storage: Storage
    startup_seconds: int
    grace_seconds: int

    @property
    def name(self) -> str:
        """Name of its Service, Deployment and the rest: `llama-<role>`."""
        return f"llama-{self.role}"


def filled(default: _T, override: Frozen) -> _T:
    """The stack's values with one backend's own put over them."""
    return default.model_copy(update=override.model_dump(exclude_none=True))
