"""What `make adopt` would write of what runs, and all that is in the way of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from config import migration_policy
from config.errors import ConfigError, Problem
from config.legacy import (
    DEPLOYMENTS,
    HOOK_VARIABLES,
    TEXTS,
    Adopted,
    Legacy,
    librechat_document,
    litellm_document,
    part,
)
from config.migration_policy import KEY
from config.model import StackConfig
from config.parts import SecretKey
from ops.inline_keys import REFERENCE, Reader, inline_keys, replaced, secret_lines
from ops.kube import Kube, Object
from ops.live import Live, autoscaled, items, mounting, read_live, secret_values, serving, unfit, variables, warned
from ops.manifest import kept, secrets, with_references, without_secrets
from ops.workers import find_routes
from render.document import Document, to_yaml

OURS = {"app.kubernetes.io/part-of": "llama-chat"}
"""The label by which a Secret is known to be one of `make adopt`'s."""
HEAD = "# Written by `make adopt`: what ran before this stack.\n"
VARIABLE = "LEGACY_KEY_"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be written, and where."""

    files: Mapping[str, str]
    """By their names in the stack's folder."""
    legacy: Legacy
    values: Mapping[str, str] = field(repr=False)
    """What the Secret lacks; it stands nowhere else."""
    master_key: SecretKey | None
    """Where LiteLLM finds its master key; None where that cannot be told."""
    told: tuple[str, ...]


def make_plan(config: StackConfig, kube: Kube, before: Adopted) -> Plan:
    """What is to be written of what runs; ConfigError with all that is in the way."""
    problems: list[Problem] = []
    serving(config, kube)
    gateway = read_live(config, kube, "gateway")
    frontend = read_live(config, kube, "frontend") if config.frontend.mode == "adopt" else None
    found = [live for live in (gateway, frontend) if live]
    for live in found:
        problems += [*unfit(config, live), *_unread(config, live)]
    if problems:
        raise ConfigError(tuple(problems))
    secret = config.legacy.keys_secret or f"{config.gateway.deployment}-legacy-keys"
    text, values = _without_keys(gateway.text)
    deployment, hidden = with_references(kept(gateway.deployment, before.gateway), secret)
    values |= hidden
    adopted = Adopted(
        litellm=text,
        librechat=frontend.text if frontend else "",
        gateway=deployment,
        frontend=without_secrets(kept(frontend.deployment, before.frontend)) if frontend else {},
    )
    routes = find_routes(config, kube, adopted.routes)
    keys = tuple(sorted(set(KEY.findall(text)), key=lambda name: int(name.removeprefix(VARIABLE))))
    made = {"keys_secret": secret if keys or values else None, "keys": keys, "routes": routes.routes}
    legacy = config.legacy.model_copy(update=made)
    problems += [*routes.problems, *_in_the_open(deployment), *_secret_taken(kube, secret, keys, values)]
    problems += _hook_taken(config, kube, gateway)
    workers = dict.fromkeys(legacy.workers, "llama-chat:legacy.routes")
    problems += autoscaled(kube, {**workers, config.gateway.deployment: "llama-chat:gateway.deployment"})
    problems += _unwanted(config, adopted, legacy)
    if problems:
        raise ConfigError(tuple(problems))
    held = secret_values(kube, secret)
    return Plan(
        files=_files(adopted),
        legacy=legacy,
        values={key: value for key, value in values.items() if held.get(key) != value},
        master_key=_master_key(kube, gateway, adopted, secret),
        told=(*(line for live in found for line in warned(live)), *routes.told),
    )


def _unread(config: StackConfig, live: Live) -> Iterator[Problem]:
    """What is wrong with a document, or stands in it and must not be written down."""
    where = config.gateway if live.part == "gateway" else config.frontend
    reader: Reader = "litellm" if live.part == "gateway" else "librechat"

    def said(remedy: str) -> Problem:
        return Problem(key=f"llama-chat:{live.part}.config_map", value=where.config_map, remedy=remedy)

    try:
        _ = (litellm_document if reader == "litellm" else librechat_document)(live.text)
        keys = inline_keys(live.text, reader)
    except ValueError as error:
        yield said(f"its document {error}: correct it")
        return
    for key in keys:
        if reader == "librechat":
            remedy = "put it into a Secret that LibreChat has as a variable, and write ${VARIABLE} there"
            yield said(f"its document holds a key at {key.path}: {remedy}")
        elif key.in_list:
            remedy = "where LiteLLM reads no variable: write it at a key of its own"
            yield said(f"its document holds a key in a list, at {key.path}, {remedy}")
    rest = replaced(live.text, dict.fromkeys(keys, ""))
    for number in secret_lines(rest):
        yield said(f"its document holds what looks like a secret in line {number}, perhaps a comment: remove it")


def _without_keys(text: str) -> tuple[str, dict[str, str]]:
    """LiteLLM's document with variables in the place of keys, and the keys' values by variable."""
    used = [int(name.removeprefix(VARIABLE)) for name in KEY.findall(text)]
    names: dict[str, str] = {}
    keys = inline_keys(text, "litellm")
    for key in keys:
        names.setdefault(key.value, f"{VARIABLE}{max(used, default=0) + len(names) + 1}")
    changed = replaced(text, {key: REFERENCE + names[key.value] for key in keys})
    return changed, {name: value for value, name in names.items()}


def _in_the_open(deployment: Object) -> Iterator[Problem]:
    """Secrets in the gateway's Deployment that are no variable of its own."""
    for _, _, path in secrets(deployment):
        remedy = f"holds what looks like a secret at {path}: put it into a Secret and refer to that"
        yield Problem(key="llama-chat:gateway.deployment", value=deployment["metadata"]["name"], remedy=remedy)


def _hook_taken(config: StackConfig, kube: Kube, gateway: Live) -> Iterator[Problem]:
    """A variable of the stack's hook that the gateway has from a whole Secret or ConfigMap: it would be replaced."""
    wanted = set(HOOK_VARIABLES) - variables(gateway).keys() if config.gateway.close_connections else set[str]()
    for source in _sources(gateway):
        kind = "secret" if "secretRef" in source else "configmap"
        reference: Object = source.get("secretRef") or source.get("configMapRef") or {}
        name, prefix = str(reference.get("name", "")), str(source.get("prefix", ""))
        for variable in sorted(wanted & {prefix + key for key in _keys(kube, kind, name)}):
            remedy = (
                f"has {variable} from {kind} {name}, in whose place the stack would set its own: make it a variable of "
                "the Deployment itself, or write gateway.close_connections: false"
            )
            yield Problem(key="llama-chat:gateway.deployment", value=config.gateway.deployment, remedy=remedy)


def _sources(gateway: Live) -> list[Object]:
    """The whole Secrets and ConfigMaps that the gateway has variables from."""
    return [it for container in mounting(gateway) for it in items(container, "envFrom")]


def _keys(kube: Kube, kind: str, name: str) -> list[str]:
    if kind == "secret":
        return kube.secret_keys(name) or []
    found = [it for it in kube.listed("configmaps") if it["metadata"]["name"] == name]
    return [key for it in found for key in cast("Object", it.get("data") or {})]


def _secret_taken(kube: Kube, secret: str, keys: tuple[str, ...], values: Mapping[str, str]) -> Iterator[Problem]:
    """A Secret that is somebody else's, or lacks what the document refers to."""
    labels = kube.secret_labels(secret) if keys or values else None
    key = "llama-chat:legacy.keys_secret"
    if labels is not None and not OURS.items() <= labels.items():
        remedy = f"namespace {kube.namespace} has this Secret, and it is not one of make adopt's: write another name"
        yield Problem(key=key, value=secret, remedy=remedy)
    missing = sorted(set(keys) - {*values, *(kube.secret_keys(secret) or ())})
    if missing:
        remedy = f"the document refers to {', '.join(missing)}, which this Secret lacks: put it back there"
        yield Problem(key=key, value=secret, remedy=remedy)


def _unwanted(config: StackConfig, adopted: Adopted, legacy: Legacy) -> Iterator[Problem]:
    """What the policy has against the documents themselves; the routes are for the operator to complete."""
    then = config.model_copy(update={"legacy": legacy}).with_adopted(adopted)
    for refusal in (migration_policy.endpoint_gone, migration_policy.unlistable, migration_policy.name_of_ours):
        yield from refusal(then)


def _master_key(kube: Kube, gateway: Live, adopted: Adopted, secret: str) -> SecretKey | None:
    """The Secret and key that LiteLLM's master key comes from."""
    reference = part(adopted.routes, "general_settings").get("master_key") or f"{REFERENCE}LITELLM_MASTER_KEY"
    variable = str(reference).removeprefix(REFERENCE)
    if KEY.fullmatch(str(reference)):
        return SecretKey(name=secret, key=variable)
    env = variables(gateway).get(variable)
    if env and env.get("value"):
        return SecretKey(name=secret, key=variable)
    if env and "secretKeyRef" in (env.get("valueFrom") or {}):
        found = env["valueFrom"]["secretKeyRef"]
        return SecretKey(name=found["name"], key=found["key"])
    for source in _sources(gateway):
        name = str(source.get("secretRef", {}).get("name", ""))
        if name and variable in (kube.secret_keys(name) or ()):
            return SecretKey(name=name, key=variable)
    return None


def _files(adopted: Adopted) -> dict[str, str]:
    texts = {TEXTS["litellm"]: adopted.litellm, TEXTS["librechat"]: adopted.librechat}
    manifests: dict[str, Document] = {"gateway": dict(adopted.gateway), "frontend": dict(adopted.frontend)}
    texts |= {DEPLOYMENTS[name]: HEAD + to_yaml(manifest) for name, manifest in manifests.items() if manifest}
    return {name: text for name, text in texts.items() if text}
