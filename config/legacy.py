"""What ran before: the routes that lead to vLLM, and the adopted objects as `make adopt` read them.

`make adopt` writes `legacy/<stack>/`: LiteLLM's and LibreChat's documents as they were found, inline keys replaced by
references, and the Deployments that read them.
"""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import Field, JsonValue

from config.errors import UserError
from config.parts import Frozen
from config.scalars import DnsName, EnvName, ModelName, RouteName

LEGACY = Path(__file__).parents[1] / "legacy"
"""Beside the stack files: a folder a stack."""
MAKE_ADOPT = "run `make adopt` with the stack's name as STACK"
TEXTS = {"litellm": "litellm.yaml", "librechat": "librechat.yaml"}
DEPLOYMENTS = {"gateway": "gateway.yaml", "frontend": "frontend.yaml"}
"""The files of a stack's folder, by what of `Adopted` they hold."""
FIELD_MANAGER = "llama-chat"
"""The field manager of the patches of what was adopted: what it owns is as the stack wrote it."""
HOOK_VARIABLES = ("PYTHONPATH", "LITELLM_WORKER_STARTUP_HOOKS")
"""Where LiteLLM looks for what it calls at its start, and what that is."""
RETIRED = "retired"
"""The folder in a stack's folder that keeps what `make retire` took out of the cluster."""

Parsed = dict[str, Any]


class LegacyRoute(Frozen):
    """A name that the adopted gateway routes, and what answers it until a model of ours does."""

    name: RouteName = Field(description="its model_name, or its alias, in LiteLLM's document")
    deployment: DnsName | None = Field(
        default=None, description="the Deployment that serves it; scaled to 0 in phase done; null for what is not ours"
    )
    node: DnsName | None = Field(default=None, description="where its pods are, the first one of several")
    replicas: int = Field(default=1, ge=0, description="how many pods that Deployment had")
    replaced_by: ModelName | None = Field(
        default=None, description="the model that answers it from cutover on; null: it stays as it is in every phase"
    )


class Legacy(Frozen):
    """What `make adopt` found beside the documents; the operator adds what replaces each route."""

    keys_secret: DnsName | None = Field(
        default=None, description="the Secret that keys went to which LiteLLM's document held inline"
    )
    keys: tuple[EnvName, ...] = Field(
        default=(), description="keys of that Secret: the variables that the document now refers to"
    )
    gitops_released: bool = Field(
        default=False,
        description="nothing applies the adopted objects from git any more: taken out there (a `kubectl apply -k` of "
        "old manifests undoes the routes too), or paused in Flux or Argo CD",
    )
    database_checked: bool = Field(
        default=False,
        description="LiteLLM's database was looked through: nothing in it undoes the document",
    )
    routes: tuple[LegacyRoute, ...] = Field(default=(), description="every name, once a Deployment that serves it")
    retired: bool = Field(
        default=False,
        description="those Deployments are gone; `make retire` writes it, and has saved their manifests in "
        "legacy/<stack>/retired/",
    )

    @property
    def replaced(self) -> dict[str, str]:
        """The names that a model of ours takes over, and which one does."""
        return {route.name: route.replaced_by for route in self.routes if route.replaced_by}

    @property
    def workers(self) -> dict[str, int]:
        """The Deployments that answered before, with how many pods each had; none once they are retired."""
        standing = () if self.retired else self.routes
        return {route.deployment: route.replicas for route in standing if route.deployment}

    @property
    def names(self) -> tuple[str, ...]:
        """Every name, once."""
        return tuple(dict.fromkeys(route.name for route in self.routes))


class Adopted(Frozen):
    """What ran before, as it was found; empty where nothing was."""

    litellm: str = ""
    """LiteLLM's document; every key that stood in it is a reference."""
    librechat: str = ""
    gateway: dict[str, JsonValue] = Field(default={})
    """LiteLLM's Deployment, without what the cluster itself writes."""
    frontend: dict[str, JsonValue] = Field(default={})
    retired: str = ""
    """The folder with the manifests that `make retire` saved, as an operator writes it in the checkout."""

    @property
    def gateway_pods(self) -> int:
        """How many pods LiteLLM had; 0 where nothing was adopted."""
        spec = cast("Parsed", self.gateway.get("spec") or {"replicas": 0})
        return int(spec.get("replicas", 1))

    @cached_property
    def routes(self) -> Parsed:
        """LiteLLM's document, as LiteLLM reads it."""
        return litellm_document(self.litellm)

    @cached_property
    def picker(self) -> Parsed:
        """LibreChat's document, as LibreChat reads it."""
        return librechat_document(self.librechat)

    @property
    def entries(self) -> list[Parsed]:
        """LiteLLM's `model_list`."""
        return self.routes["model_list"]

    @property
    def aliases(self) -> dict[str, Any]:
        """Other names of LiteLLM's for those entries: the target, or `{model: target, hidden: true}`."""
        return part(self.routes, "router_settings", "model_group_alias")

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that LiteLLM routes, hidden ones too, once."""
        return tuple(dict.fromkeys((*(str(entry["model_name"]) for entry in self.entries), *self.aliases)))

    def endpoint(self, name: str) -> Parsed | None:
        """An entry of LibreChat's `endpoints.custom`."""
        return endpoint(self.picker, name)


def folder_of(stack: str) -> Path:
    """Where what a stack adopted lies."""
    return LEGACY / stack


def load_adopted(folder: Path) -> Adopted | None:
    """What `make adopt` wrote into a folder; None where there is none.

    UserError, with the file's name, where one is missing or is no longer what it should be.
    """
    if not folder.is_dir():
        return None
    found = Adopted(
        litellm=_text(folder / TEXTS["litellm"]) or "",
        librechat=_text(folder / TEXTS["librechat"], or_none=True) or "",
        gateway=_deployment(folder / DEPLOYMENTS["gateway"]),
        frontend=_deployment(folder / DEPLOYMENTS["frontend"], or_none=True),
        retired=f"{folder.parent.name}/{folder.name}/{RETIRED}" if (folder / RETIRED).is_dir() else "",
    )
    for name in TEXTS if found.librechat else ("litellm",):
        try:
            _ = found.routes if name == "litellm" else found.picker
        except ValueError as error:
            raise UserError(f"{folder / TEXTS[name]}: {error}: restore it from git, or {MAKE_ADOPT}") from None
    return found


def litellm_document(text: str) -> Parsed:
    """LiteLLM's document; ValueError where it is none that has routes."""
    document = _mapping(text, yaml.SafeLoader)
    entries = _entries(document.get("model_list"), "model_name")
    if entries is None or not all(isinstance(entry.get("litellm_params"), dict) for entry in entries):
        raise ValueError("has no model_list of entries with model_name and litellm_params")
    return document


def librechat_document(text: str) -> Parsed:
    """LibreChat's document; ValueError where it is none that has endpoints of its own."""
    document = _mapping(text, _Yaml12)
    if _entries(part(document, "endpoints").get("custom"), "name") is None:
        raise ValueError("has no endpoints.custom of entries with a name")
    return document


def part(document: Parsed, *keys: str) -> Parsed:
    """A mapping inside a document; empty where there is none."""
    for key in keys:
        inner = document.get(key)
        document = cast("Parsed", inner) if isinstance(inner, dict) else {}
    return document


def listed_name(item: object) -> str:
    """The name that an entry of LibreChat's `models.default` shows: itself, or an object that has it."""
    return str(cast("Parsed", item).get("name")) if isinstance(item, Mapping) else str(item)


def listed_names(entry: Parsed) -> list[str]:
    """The names in an endpoint's `models.default`, in its order."""
    return [listed_name(it) for it in cast("list[object]", part(entry, "models").get("default") or [])]


def endpoint(document: Parsed, name: str) -> Parsed | None:
    """An entry of a LibreChat document's `endpoints.custom`."""
    return next((entry for entry in document["endpoints"]["custom"] if entry["name"] == name), None)


def alias_target(alias: object) -> str:
    """Which name of `model_list` an entry of `model_group_alias` stands for."""
    return str(cast("Parsed", alias).get("model")) if isinstance(alias, Mapping) else str(alias)


def is_hidden(alias: object) -> bool:
    """Whether LiteLLM lists an entry of `model_group_alias`."""
    return isinstance(alias, Mapping) and cast("Parsed", alias).get("hidden") is True


def _entries(value: Any, key: str) -> list[Parsed] | None:  # noqa: ANN401 - YAML of whatever shape was found
    """A list of mappings that each have text at a key; None where it is something else."""
    entries = cast("list[Any]", value) if isinstance(value, list) else [None]
    sound = all(isinstance(it, dict) and isinstance(cast("Parsed", it).get(key), str) for it in entries)
    return cast("list[Parsed]", entries) if sound else None


def _mapping(text: str, loader: type[yaml.SafeLoader]) -> Parsed:
    try:
        document = yaml.load(text, Loader=loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError) as error:
        mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
        raise ValueError(f"is not YAML{f' at line {mark.line + 1}' if mark else ''}") from None
    if not isinstance(document, dict):
        raise ValueError("is not a mapping of keys")  # noqa: TRY004 - one kind of error for whatever stands there
    return cast("Parsed", document)


def _text(file: Path, *, or_none: bool = False) -> str | None:
    try:
        return file.read_bytes().decode()  # byte for byte: no line end is another one
    except FileNotFoundError:
        if or_none:
            return None
        raise UserError(f"{file}: is missing: restore it from git, or {MAKE_ADOPT}") from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: cannot be read ({reason}): restore it from git, or {MAKE_ADOPT}") from None


def _deployment(file: Path, *, or_none: bool = False) -> dict[str, JsonValue]:
    text = _text(file, or_none=or_none)
    if text is None:
        return {}
    try:
        found = _mapping(text, yaml.SafeLoader)
        if found.get("kind") != "Deployment" or not isinstance(found.get("spec"), dict):
            raise ValueError("is no Deployment")  # noqa: TRY301 - one way out
    except ValueError as error:
        raise UserError(f"{file}: {error}: restore it from git, or {MAKE_ADOPT}") from None
    return found


class _Yaml12(yaml.SafeLoader):
    """Reads scalars as LibreChat's js-yaml does: `on` and `1:30` are text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - as the parent
        None: [
            (f"tag:yaml.org,2002:{name}", re.compile(rf"^(?:{form})$"))
            for name, form in {
                "null": r"~|null|Null|NULL|",
                "bool": r"true|True|TRUE|false|False|FALSE",
                "int": r"[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+",
                "float": r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?",
                "merge": r"<<",
            }.items()
        ]
    }
