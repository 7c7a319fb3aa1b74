"""What is refused although the schema allows it: one small function a refusal."""

import re
from collections.abc import Callable, Iterator
from itertools import chain

from pydantic import JsonValue

from config.errors import Problem
from config.model import StackConfig, filled
from config.naming import Where, alias_as_name, name_taken
from config.parts import NO_GPU, Entry, Pool, Runtime
from config.secrecy import HIDDEN, MISSING, key_path, looks_secret, problem

MIN_GRACE_SECONDS = 60
_FLOATING = {"nightly", "latest", "main"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_LIBRECHATS_OWN = {
    *("agents", "anthropic", "assistants", "azureassistants", "azureopenai", "bedrock", "custom", "google", "ollama"),
    "openai",
}
"""Names of endpoints that LibreChat treats in ways of its own (`EModelEndpoint` of its data-provider, and Ollama)."""
_KNOBS = {
    "context_size": ("c", "ctx-size"),
    "max_tokens": ("n", "predict", "n-predict"),
    "batch_size": ("b", "batch-size"),
    "threads": ("t", "threads"),
    "gpu_layers": ("ngl", "gpu-layers", "n-gpu-layers"),
    "parallel": ("np", "parallel"),
    "prompt_cache_mib": ("cram", "cache-ram"),
}
_OURS = (
    *("m", "model", "a", "alias", "host", "port", "metrics", "offline", "webui", "ui", "models-dir", "models-preset"),
    *("models-max", "models-autoload", "load-on-startup", "sleep-idle-seconds", "log-verbosity", "lv", "verbosity"),
    *("hf-repo", "hf-file", "model-url", "api-prefix"),
)
_SECRETS = ("api-key", "api-key-file", "hf-token", "ssl-key-file")
_TAKEN = {
    **{flag: f"has a key of its own: write runtime.{key}" for key, flags in _KNOBS.items() for flag in flags},
    **dict.fromkeys(_OURS, "is set by this program: leave it out"),
    **dict.fromkeys(_SECRETS, "would put a secret into an argument list: leave it out"),
}
"""llama-server's flags that `extra_args` may not have, and what to do instead."""


def problems(config: StackConfig) -> list[Problem]:
    """Everything that is refused in a stack file of the right shape."""
    return list(chain.from_iterable(refusal(config) for refusal in REFUSALS))


def role_taken(config: StackConfig) -> Iterator[Problem]:
    """Two backends with one role: they would be one Service."""
    first: dict[str, Where] = {}
    for where, role in _roles(config):
        holder = first.setdefault(role, where)
        if holder != where:
            yield problem((*where, "role"), role, f"is the role of {key_path(holder)} too: give each backend its own")


def role_without_host(config: StackConfig) -> Iterator[Problem]:
    """A role that no node has: its pod would wait for ever."""
    for where, role in _roles(config):
        if role not in config.nodes:
            remedy = f"{key_path((*where, 'role'))} has no host: add the name of the node that is to run it"
            yield Problem(key=key_path(("nodes", role)), value=MISSING, remedy=remedy)


def name_of_another(config: StackConfig) -> Iterator[Problem]:
    """A name of ours that two things would have: objects of the one would be taken for the other's."""
    taken = {f"llama-{role}{part}" for _, role in _roles(config) for part in ("-fetch", "-smoke")}
    for where, role in _roles(config):
        if f"llama-{role}" in taken:
            remedy = f"llama-{role} is what another backend's own Job is called: choose another role"
            yield problem((*where, "role"), role, remedy)
    deployment = config.gateway.deployment
    if deployment in taken | {f"llama-{role}" for _, role in _roles(config)}:
        yield problem(("gateway", "deployment"), deployment, "is what a backend is called: choose another name")


def toleration_of_nothing(config: StackConfig) -> Iterator[Problem]:
    """A toleration that the API server refuses: every value of a taint, and one of them."""
    every = [(("tolerations",), config.tolerations)]
    every += [((*where, "tolerations"), entry.tolerations or ()) for where, entry in entries(config)]
    for where, tolerations in every:
        for i, toleration in enumerate(tolerations):
            if toleration.operator == "Exists" and toleration.value is not None:
                remedy = "operator Exists takes any value: leave the value out, or write operator: Equal"
                yield problem((*where, i, "value"), toleration.value, remedy)


def secret_made_twice(config: StackConfig) -> Iterator[Problem]:
    """A Secret that two entries of the vault, or the vault and the stack, would make."""
    master = config.gateway.master_key_secret
    if config.has_master_key and master.external:
        remedy = "the stack file holds master_key, which makes this Secret: leave one of the two out"
        yield problem(("gateway", "master_key_secret", "external"), master.external.remote_key, remedy)
    token = config.hub.token_secret
    if token and token.external and token.name == master.name and (master.external or config.has_master_key):
        remedy = "is the name of the master key's Secret too, which is made: give each a name of its own"
        yield problem(("hub", "token_secret", "name"), token.name, remedy)


def host_without_role(config: StackConfig) -> Iterator[Problem]:
    """A host for a role that no backend has: a misspelt role, or one that is gone."""
    roles = {role for _, role in _roles(config)}
    for role, host in config.nodes.items():
        if role not in roles:
            yield problem(("nodes", role), host, "no backend has this role: correct it, or remove the line")


def host_taken(config: StackConfig) -> Iterator[Problem]:
    """Two roles on one host: a node has one label ai.llm.role, and GPUs for one backend."""
    first: dict[str, str] = {}
    for role, host in config.nodes.items():
        holder = first.setdefault(host, role)
        if holder != role:
            remedy = f"is the host of {key_path(('nodes', holder))} too: a node has one role, name another one"
            yield problem(("nodes", role), host, remedy)


def bad_digest(config: StackConfig) -> Iterator[Problem]:
    """A digest that no registry can have."""
    for where, image in _images(config):
        digest = image.partition("@")[2]
        if digest and not _DIGEST.fullmatch(digest):
            yield problem(where, image, "its digest must be sha256: and 64 hex digits, as the registry reports it")


def image_not_pinned(config: StackConfig) -> Iterator[Problem]:
    """A steady stack's image without a digest: what runs could change without a change here."""
    for where, image in _images(config):
        if config.steady and "@" not in image:
            remedy = (
                "a steady stack takes images by digest: add @sha256:<64 hex digits>, or set llama-chat:steady to false"
            )
            yield problem(where, image, remedy)


def floating_tag(config: StackConfig) -> Iterator[Problem]:
    """An image of another content every day."""
    for where, image in _images(config):
        reference, _, digest = image.partition("@")
        tag = reference.rpartition("/")[2].partition(":")[2]
        if not tag and not digest:
            yield problem(where, image, "has no tag, which means latest: add the tag of a release")
        elif _floats(tag):
            yield problem(where, image, "nightly, latest and main tags change under you: write the tag of a release")


def _floats(tag: str) -> bool:
    """Whether a tag moves; LiteLLM's releases are called `main-v1.80.5-stable`, which does not."""
    words = set(re.split(r"[-_.]", tag.lower()))
    moving = _FLOATING & words
    return bool(moving - {"main"}) or ("main" in moving and not re.search(r"v?\d+\.\d+", tag))


def namespace_too_late(config: StackConfig) -> Iterator[Problem]:
    """A Secret that must be there before the namespace that would hold it."""
    pull_secrets = config.pull_secrets or any(entry.pull_secrets for _, entry in entries(config))
    too_late = pull_secrets or any(secret.external is None for secret in config.named_secrets)
    if config.cluster.create_namespace and too_late:
        remedy = (
            "the Secrets that the stack names must be there before it: make namespace and Secrets and write false, "
            "or keep the master key in the stack (pulumi config set --secret llama-chat:master_key) and no hub token, "
            "or have them made (external); pull_secrets must always be there before"
        )
        yield problem(("cluster", "create_namespace"), config.cluster.create_namespace, remedy)


def grace_too_short(config: StackConfig) -> Iterator[Problem]:
    """A grace period in which a long answer cannot end."""
    graces: list[tuple[Where, int | None]] = [(("grace_seconds",), config.grace_seconds)]
    graces += [((*where, "grace_seconds"), entry.grace_seconds) for where, entry in entries(config)]
    for where, seconds in graces:
        if seconds is not None and seconds < MIN_GRACE_SECONDS:
            remedy = f"must be at least {MIN_GRACE_SECONDS} seconds, so that a running answer ends before its pod does"
            yield problem(where, seconds, remedy)


def answer_over_context(config: StackConfig) -> Iterator[Problem]:
    """An answer longer than a slot's context: it would be cut."""
    for where, runtime, own in _runtimes(config):
        written = [key for key in ("max_tokens", "context_size") if key in own]
        if runtime.max_tokens > runtime.context_size and written:
            remedy = f"max_tokens ({runtime.max_tokens}) must fit into context_size ({runtime.context_size})"
            value = getattr(runtime, written[0])
            yield problem((*where, written[0]), value, f"{remedy}: lower the one or raise the other")


def argument_taken(config: StackConfig) -> Iterator[Problem]:
    """A flag of llama-server's that the program itself sets, or that would hold a secret."""
    for where, runtime, own in _runtimes(config):
        for name in runtime.extra_args if "extra_args" in own else ():
            if name in _TAKEN:
                yield problem((*where, "extra_args", name), runtime.extra_args[name], _TAKEN[name])


def layers_without_gpu(config: StackConfig) -> Iterator[Problem]:
    """Layers for a GPU that a backend does not have: its smoke test would look for them in vain."""
    by_place = dict(entries(config))
    for where, runtime, _ in _runtimes(config):
        entry = by_place.get(where[:2])
        if entry and runtime.gpu_layers and filled(config.gpu, entry.gpu).resource == NO_GPU:
            remedy = "without a GPU (gpu.resource: none) nothing is offloaded: write gpu_layers: 0"
            yield problem((*where, "gpu_layers"), runtime.gpu_layers, remedy)


def pool_without_image(config: StackConfig) -> Iterator[Problem]:
    """A pool of llama-swap, and no image of it."""
    for i, pool in enumerate(config.pools):
        if pool.engine == "llama-swap" and not (pool.image or config.images.llama_swap):
            remedy = f"{key_path(('pools', i))} runs llama-swap: add its image, or write engine: llama-server there"
            yield Problem(key=key_path(("images", "llama_swap")), value=MISSING, remedy=remedy)


def frontend_name_taken(config: StackConfig) -> Iterator[Problem]:
    """A name that LibreChat keeps for an endpoint of its own: it refuses the whole document."""
    name = config.frontend.endpoint_name
    if name.casefold() in _LIBRECHATS_OWN:
        yield problem(("frontend", "endpoint_name"), name, "is LibreChat's own endpoint: write another name")


def router_swaps(config: StackConfig) -> Iterator[Problem]:
    """llama-server's own router cuts running answers when it swaps models."""
    for i, pool in enumerate(config.pools):
        if config.steady and pool.engine == "llama-server" and pool.max_loaded < len(pool.models):
            remedy = (
                f"this engine cuts answers when it swaps: on a steady stack use llama-swap, "
                f"or set max_loaded to {len(pool.models)}, so that all models stay loaded"
            )
            yield problem(("pools", i, "engine"), pool.engine, remedy)


def plain_secret(config: StackConfig) -> Iterator[Problem]:
    """A secret in plain config, from where it goes into git, state and logs."""
    for where, text in _texts((), config.model_dump(mode="json", exclude={"master_key", "nodes"})):
        if looks_secret(text):
            remedy = "looks like a secret: revoke it, put a new one into a Secret and name that Secret and its key here"
            yield Problem(key=key_path(where), value=HIDDEN, remedy=remedy)


REFUSALS: tuple[Callable[[StackConfig], Iterator[Problem]], ...] = (
    name_taken,
    alias_as_name,
    role_taken,
    role_without_host,
    name_of_another,
    host_without_role,
    host_taken,
    toleration_of_nothing,
    secret_made_twice,
    bad_digest,
    image_not_pinned,
    floating_tag,
    namespace_too_late,
    grace_too_short,
    answer_over_context,
    argument_taken,
    layers_without_gpu,
    pool_without_image,
    frontend_name_taken,
    router_swaps,
    plain_secret,
)


def _roles(config: StackConfig) -> Iterator[tuple[Where, str]]:
    yield from ((where, entry.role) for where, entry in entries(config))


def entries(config: StackConfig) -> Iterator[tuple[Where, Entry]]:
    """Every backend's entry, statics first, with where it stands."""
    yield from ((("statics", i), static) for i, static in enumerate(config.statics))
    yield from ((("pools", i), pool) for i, pool in enumerate(config.pools))


def _runtimes(config: StackConfig) -> Iterator[tuple[Where, Runtime, set[str]]]:
    """Every `runtime` of the stack with the values that hold there, and the keys that are written there."""
    yield ("runtime",), config.runtime, config.runtime.model_fields_set
    for where, entry in entries(config):
        runtime = filled(config.runtime, entry.runtime)
        yield (*where, "runtime"), runtime, entry.runtime.model_fields_set
        for j, model in enumerate(entry.models if isinstance(entry, Pool) else ()):
            own = filled(runtime, model.runtime)
            yield (*where, "models", j, "runtime"), own, model.runtime.model_fields_set


def _images(config: StackConfig) -> Iterator[tuple[Where, str]]:
    for name, image in config.images.model_dump(exclude_none=True).items():
        yield ("images", name), image
    yield from (((*where, "image"), entry.image) for where, entry in entries(config) if entry.image)


def _texts(where: Where, value: JsonValue) -> Iterator[tuple[Where, str]]:
    match value:
        case str():
            yield where, value
        case dict():
            for key, item in value.items():
                yield from _texts((*where, key), item)
        case list():
            for i, item in enumerate(value):
                yield from _texts((*where, i), item)
        case _:
            pass
