"""The LiteLLM gateway's `config.yaml`: one route for each model name that users see.

In mode `adopt` the document is somebody else's: `model_list` and the aliases of legacy names are ours, by phase, and
every other key stays as it was found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from config.backend import Backend, Served
from config.legacy import alias_target, is_hidden, part
from config.migration_policy import IN_TEST
from config.model import StackConfig
from render.budget import budget
from render.document import Document, to_yaml
from render.llama_server import base_url


@dataclass(frozen=True, kw_only=True)
class Routed:
    """A name that the gateway answers to, and who does."""

    name: str
    api_base: str | None
    """Who must answer; None where only the adopted document knows: such a name is listed, and not asked."""
    backend: Backend | None = None
    """Of ours; None for a legacy one."""
    served: Served | None = None
    entries: tuple[Document, ...] = ()
    """What `model_list` says of it; nothing where it is an alias."""
    alias: object = None
    """What `router_settings.model_group_alias` says of it."""

    @property
    def hidden(self) -> bool:
        """Whether `/v1/models` keeps silent of it."""
        return is_hidden(self.alias)


def litellm(config: StackConfig) -> Document:
    """LiteLLM's document in mode deploy (https://docs.litellm.ai/docs/proxy/configs).

    It names the master key, never holds it.
    """
    return {
        "model_list": [route(config, *it) for it in _models(config)],
        # a second try would outlive the drain that the first one fits into, and cost the GPU the answer twice
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def gateway_text(config: StackConfig) -> str:
    """The text that the gateway reads; in phase parallel the adopted one, byte for byte."""
    if config.gateway.mode == "deploy":
        return to_yaml(litellm(config))
    if config.migration.phase == "parallel":
        return config.adopted.litellm
    return to_yaml(_adopted(config))


def gateway_routes(config: StackConfig) -> list[Routed]:
    """Every name that the gateway answers to in this phase, in its document's order."""
    ours = [_ours(config, *it) for it in _models(config)]
    if config.gateway.mode == "deploy":
        return ours
    found = [_found(config, name) for name in config.adopted.names]
    match config.migration.phase:
        case "parallel":
            return found
        case "test":
            return [*found, *(_ours(config, *it, name=f"{it[1].name}{IN_TEST}") for it in _models(config))]
        case "cutover" | "frontend":
            return [*_grouped(config, ours), *(_moved(config, legacy) for legacy in found)]
        case "done":
            return [*_grouped(config, ours), *_left(config, found)]


def api_base(config: StackConfig, backend: Backend) -> str:
    """Where LiteLLM sends a backend's requests, as its answers' `x-litellm-model-api-base` header tells."""
    return f"{base_url(config, backend)}/v1"


def route(config: StackConfig, backend: Backend, served: Served) -> Document:
    """One entry of `model_list`."""
    seconds = budget(backend).request
    return {
        "model_name": served.name,
        "litellm_params": {
            "model": f"openai/{served.name}",
            "api_base": api_base(config, backend),
            "api_key": "unused",  # LiteLLM's OpenAI client wants one; llama-server asks for none
            "timeout": seconds,
            "stream_timeout": seconds,
            # llama-server hangs up after a stream and says keep-alive nevertheless (b11434): 46 of 1739 requests that
            # LiteLLM sent along a kept connection failed under 8 clients, and with this 0 of 1290
            "extra_headers": {"Connection": "close"},
            # an adopted router may try twice
            **({"num_retries": 0} if config.gateway.mode == "adopt" else {}),
        },
    }


def _models(config: StackConfig) -> Iterator[tuple[Backend, Served]]:
    yield from ((backend, served) for backend in config.backends for served in backend.models)


def _ours(config: StackConfig, backend: Backend, served: Served, *, name: str | None = None) -> Routed:
    """A model of ours, under its own name or another one."""
    entry = route(config, backend, served)
    return Routed(
        name=name or served.name,
        api_base=api_base(config, backend),
        backend=backend,
        served=served,
        entries=({**entry, "model_name": name or served.name},),
    )


def _grouped(config: StackConfig, ours: Sequence[Routed]) -> Iterator[Routed]:
    """Our names for whoever may use the names that they replace, where LiteLLM's keys are bound to groups."""
    entries = {str(entry["model_name"]): entry for entry in config.adopted.entries}
    for routed in ours:
        replaced = [old for old, new in config.legacy.replaced.items() if new == routed.name]
        groups = [it for old in replaced for it in part(entries.get(old, {}), "model_info").get("access_groups") or ()]
        info = {"model_info": {"access_groups": list(dict.fromkeys(groups))}} if groups else {}
        yield replace(routed, entries=tuple({**entry, **info} for entry in routed.entries))


def _found(config: StackConfig, name: str) -> Routed:
    """A legacy name as it was found; where one Deployment of the stack's namespace serves it, that is who answers.

    Nobody does where that Deployment had no pods.
    """
    adopted = config.adopted
    # LiteLLM takes a name for an alias first
    alias = adopted.aliases.get(name)
    target = name if alias is None else alias_target(alias)
    entries = [entry for entry in adopted.entries if entry["model_name"] == target]
    bases = {entry["litellm_params"].get("api_base") for entry in entries}
    known = [base for base in bases if isinstance(base, str) and not base.startswith("os.environ/")]
    ours = any(it.deployment and it.replicas for it in config.legacy.routes if it.name == name)
    return Routed(
        name=name,
        api_base=known[0] if ours and len(bases) == len(known) == 1 else None,
        entries=() if alias is not None else tuple(entries),
        alias=alias,
    )


def _moved(config: StackConfig, legacy: Routed) -> Routed:
    """A legacy name that a model of ours answers; one that none replaces stays as it was found."""
    new = config.legacy.replaced.get(legacy.name)
    if new is None:
        return legacy
    backend, served = next(it for it in _models(config) if it[1].name == new)
    if legacy.alias is not None:
        alias = {"model": new, "hidden": legacy.hidden}
        return Routed(name=legacy.name, api_base=api_base(config, backend), backend=backend, served=served, alias=alias)
    moved = _ours(config, backend, served, name=legacy.name)
    # who may use the name, where keys are bound to groups, stands there
    info = {"model_info": legacy.entries[0]["model_info"]} if "model_info" in legacy.entries[0] else {}
    return replace(moved, entries=tuple({**entry, **info} for entry in moved.entries))


def _left(config: StackConfig, found: Sequence[Routed]) -> Iterator[Routed]:
    """What stays of the legacy names once vLLM is gone."""
    for legacy in found:
        moved = _moved(config, legacy)
        if moved.served is None:
            # LiteLLM looks an alias up once: what it stands for may be one itself now
            target = config.legacy.replaced.get(alias_target(legacy.alias)) if legacy.alias is not None else None
            yield replace(legacy, alias={"model": target, "hidden": legacy.hidden}) if target else legacy
        elif config.migration.keep_aliases:
            yield replace(moved, entries=(), alias={"model": moved.served.name, "hidden": True})


def _adopted(config: StackConfig) -> Document:
    """The adopted document with the routes of this phase."""
    routes = gateway_routes(config)
    document: Document = {**config.adopted.routes, "model_list": [it for routed in routes for it in routed.entries]}
    settings = part(config.adopted.routes, "router_settings")
    aliases = {routed.name: routed.alias for routed in routes if routed.alias is not None}
    if aliases or "model_group_alias" in settings:
        document["router_settings"] = {**settings, "model_group_alias": aliases}
    return document
