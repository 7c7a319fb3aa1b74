"""The parts of a stack file: each object's keys, their units and defaults, once."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from config.scalars import (
    DnsLabel,
    DnsName,
    EnvName,
    Filename,
    FlagName,
    FlagValue,
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

ROLE_LABEL = "ai.llm.role"
"""The node label that says which backend a node is for."""
NO_GPU = "none"
"""The `gpu.resource` of a backend that computes on the CPU."""


GRACE = (
    "seconds that an answer may still take when its pod is replaced; one that streams for longer is cut then. "
    "Pods of pools and of the gateway drain longer, by a load and other answers"
)
"""What `grace_seconds` is, of the stack and of one backend."""


Phase = Literal["parallel", "test", "cutover", "frontend", "done"]
"""A step of the migration, in the order in which they are taken."""


class Frozen(BaseModel):
    """A value object: unknown keys are errors, types are taken as written."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class ExternalSecret(Frozen):
    """Where the External Secrets Operator reads a value from, to put it into the Secret."""

    store: DnsName = Field(description="name of a SecretStore or ClusterSecretStore")
    store_kind: Literal["SecretStore", "ClusterSecretStore"] = Field(
        default="ClusterSecretStore", description="kind of that store"
    )
    remote_key: str = Field(min_length=1, description="the entry's path in the store, such as secret/data/ai/litellm")
    remote_property: str | None = Field(default=None, min_length=1, description="field of that entry")
    refresh: str = Field(default="1h", pattern=r"^[0-9]+[smh]$", examples=["1h"], description="how often it is read")


class SecretKey(Frozen):
    """Where a secret value lies in the cluster; never the value."""

    name: DnsName = Field(description="name of a Secret in the backend's namespace")
    key: SecretDataKey = Field(description="key inside that Secret")
    external: ExternalSecret | None = Field(
        default=None, description="have the External Secrets Operator make that Secret; else it must exist"
    )


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

    resource: GpuResource = Field(
        description="extended resource name: amd.com/gpu, nvidia.com/gpu, gpu.intel.com/i915 …; none is CPU only"
    )
    count: int = Field(default=1, ge=1, description="whole GPUs for each backend")
    vram_gib: float = Field(gt=0, description="memory of one GPU in GiB; without a GPU, what the models may take")
    supplemental_groups: tuple[Group, ...] = Field(
        default=(), description="numeric groups that own the GPU's device files (video, render)"
    )
    runtime_class: DnsName | None = Field(
        default=None, description="RuntimeClass of the pods, where the GPU's driver wants one, such as nvidia"
    )


class GpuOverride(Frozen):
    """One backend's own GPU values; what is absent comes from `gpu`."""

    resource: GpuResource | None = Field(default=None, description="extended resource name")
    count: int | None = Field(default=None, ge=1, description="whole GPUs for this backend")
    vram_gib: float | None = Field(default=None, gt=0, description="memory of one GPU in GiB")
    supplemental_groups: tuple[Group, ...] | None = Field(default=None, description="numeric device file groups")
    runtime_class: DnsName | None = Field(default=None, description="RuntimeClass of its pods")


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
    prompt_cache_mib: int = Field(
        default=8192, ge=0, description="most MiB of host memory that keep prompts already read; 0 keeps none"
    )
    extra_args: dict[FlagName, FlagValue] = Field(
        default={}, description="further llama-server flags without their dashes: cache-type-k: q8_0, swa-full: true"
    )


class RuntimeOverride(Frozen):
    """One backend's own knobs; what is absent comes from `runtime`."""

    context_size: int | None = Field(default=None, ge=256, description="tokens of context per slot")
    max_tokens: int | None = Field(default=None, ge=1, description="most tokens that one answer may have")
    batch_size: int | None = Field(default=None, ge=1, description="logical batch in tokens")
    threads: int | None = Field(default=None, ge=1, description="CPU threads")
    gpu_layers: int | None = Field(default=None, ge=0, description="layers offloaded to the GPU")
    parallel: int | None = Field(default=None, ge=1, description="slots")
    prompt_cache_mib: int | None = Field(default=None, ge=0, description="MiB of host memory that keep prompts")
    extra_args: dict[FlagName, FlagValue] | None = Field(default=None, description="flags instead of the stack's")


class Resources(Frozen):
    """What a backend asks of its node beside GPUs; what is absent follows from its models."""

    cpu: Quantity | None = Field(
        default=None,
        description="CPU request, as a Kubernetes quantity; absent: 2, or a core for each thread without GPU",
    )
    memory: Quantity | None = Field(
        default=None, description="memory request and limit, as a Kubernetes quantity; absent: by the lock, else 16Gi"
    )


class Storage(Frozen):
    """The volume that keeps a backend's model files."""

    class_name: DnsName = Field(description="StorageClass")
    size_gib: int | None = Field(
        default=None,
        ge=1,
        description="size of each backend's volume in GiB; it never shrinks; absent: by "
        "the lock when the claim is made, which keeps its size then",
    )
    mb_per_second: float = Field(
        default=100, gt=0, description="slowest reading of the volume to reckon with, in MB/s: bounds each load"
    )


class StorageOverride(Frozen):
    """One backend's own volume; what is absent comes from `storage`."""

    class_name: DnsName | None = Field(default=None, description="StorageClass")
    size_gib: int | None = Field(default=None, ge=1, description="size of the volume in GiB")
    mb_per_second: float | None = Field(default=None, gt=0, description="slowest reading of the volume, in MB/s")


class Model(Frozen):
    """A model triple: what the chat user sees, and the GGUF behind it."""

    name: ModelName = Field(description="name that the chat user picks")
    repo: Repo = Field(description="hub repository, owner/name")
    quant: Quant = Field(description="quantisation, such as Q4_K_M")
    filename: Filename | None = Field(default=None, description="the GGUF file, where quant is not enough")
    revision: Revision = Field(default="main", description="branch, tag or commit of the repository")


class Toleration(Frozen):
    """A taint that a backend's pods may be placed beside."""

    key: str = Field(min_length=1, description="the taint's key")
    operator: Literal["Exists", "Equal"] = Field(default="Exists", description="any value, or the one named")
    value: str | None = Field(default=None, description="the taint's value, with operator Equal")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="the taint's effect; absent is any"
    )


class Entry(Frozen):
    """What a static backend and a pool have in common: a role, and values of its own instead of the stack's."""

    role: Role = Field(description="value of the node label ai.llm.role; the Service is llama-<role>")
    image: Image | None = Field(default=None, description="its own image, such as another GPU vendor's")
    runtime: RuntimeOverride = RuntimeOverride()
    gpu: GpuOverride = GpuOverride()
    resources: Resources = Resources()
    storage: StorageOverride = StorageOverride()
    startup_seconds: int | None = Field(
        default=None, ge=10, description="most seconds that fetch plus load of one model may take"
    )
    grace_seconds: int | None = Field(default=None, description=GRACE)
    tolerations: tuple[Toleration, ...] | None = Field(default=None, description="taints that its node may have")
    pull_secrets: tuple[DnsName, ...] | None = Field(default=None, description="Secrets that its images need")


class Static(Entry):
    """One llama-server with one pinned model on one GPU node."""

    model: Model


class PoolModel(Model):
    """One model of a pool, with knobs of its own where it needs them."""

    runtime: RuntimeOverride = RuntimeOverride()


class Pool(Entry):
    """One swap engine in front of many models on one GPU node."""

    engine: Literal["llama-swap", "llama-server"] = Field(default="llama-swap", description="what swaps the models")
    ttl_seconds: int = Field(default=900, ge=0, description="idle seconds until a model is unloaded; 0 is never")
    max_loaded: int = Field(default=1, ge=1, description="models loaded at the same time")
    concurrency_limit: int = Field(
        default=4,
        ge=1,
        description="requests of one model at a time, one more than runtime.parallel at the most; llama-swap refuses "
        "more, llama-server queues them",
    )
    load_seconds: int | None = Field(
        default=None,
        ge=15,
        description="most seconds that the slowest model may take to load; absent: by the lock, else 300",
    )
    smoke: Literal["changed", "all"] = Field(
        default="changed", description="which models an update of the pool asks: those that changed, or all"
    )
    models: tuple[PoolModel, ...] = Field(min_length=1, description="what the pool swaps between")


class Hub(Frozen):
    """Where models come from."""

    endpoint: Url = Field(default="https://huggingface.co", description="hub's base URL")
    mb_per_second: float = Field(
        default=10, gt=0, description="slowest download to reckon with, in MB/s: bounds each fetch"
    )
    token_secret: SecretKey | None = Field(default=None, description="Secret with the hub's token, for gated models")


class Gateway(Frozen):
    """The LiteLLM in front of all backends."""

    mode: Literal["deploy", "adopt"] = Field(default="deploy", description="run our own, or patch one that runs")
    config_map: DnsName = Field(default="litellm-config", description="name, or in mode deploy the name's beginning")
    config_key: SecretDataKey = Field(
        default="config.yaml", description="key of an adopted ConfigMap that holds LiteLLM's document"
    )
    deployment: DnsLabel = Field(
        default="llm-gateway",
        max_length=46,  # its smoke test's Job is <name>-smoke-<10 of a hash>
        description="name of the Deployment and its Service",
    )
    port: int = Field(default=4000, ge=1, le=65535, description="the Service's port")
    replicas: int = Field(default=2, ge=1, description="pods; with one alone a node's drain interrupts users")
    master_key_secret: SecretKey = Field(description="Secret with LiteLLM's master key")
    close_connections: bool = Field(
        default=True,
        description="a pod that was told to end says so with each answer that begins, and leaves connections open "
        "until they lay idle, by a hook that LiteLLM calls at its start: without it a request on a connection that a "
        "client keeps could be lost; false where the image cannot have the hook",
    )


class Frontend(Frozen):
    """The LibreChat in front of the gateway."""

    mode: Literal["none", "adopt"] = Field(default="none", description="leave it alone, or patch one that runs")
    config_map: DnsName = Field(default="librechat-config", description="ConfigMap that holds LibreChat's document")
    config_key: SecretDataKey = Field(
        default="librechat.yaml", description="key of an adopted ConfigMap that holds that document"
    )
    deployment: DnsLabel = Field(default="librechat", description="name of the Deployment")
    endpoint_name: str = Field(default="llama.cpp", min_length=1, description="what the model picker calls us")
    api_key_variable: EnvName = Field(
        default="LITELLM_MASTER_KEY", description="LibreChat's environment variable that holds the gateway's key"
    )


class Migration(Frozen):
    """How far the way from vLLM has come."""

    phase: Phase = Field(default="parallel", description="the step that stands; forward one at a time")
    soak_hours: int = Field(default=24, ge=0, description="hours in phase frontend before done is let through")
    keep_aliases: bool = Field(
        default=True, description="in phase done legacy names still answer, although no list shows them"
    )
    renamed: bool = Field(
        default=False,
        description="chats, presets and agents in LibreChat no longer name legacy routes, so it need not list them",
    )
