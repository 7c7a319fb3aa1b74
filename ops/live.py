"""What runs in front of the models: LiteLLM's and LibreChat's ConfigMaps and Deployments, as the cluster has them."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from config.errors import ConfigError, Problem
from config.legacy import FIELD_MANAGER, litellm_document, part
from config.model import StackConfig
from ops.kube import Kube, Object, name_of

Part = Literal["gateway", "frontend"]
_GITOPS = re.compile(r"((?:kustomize|helm)\.toolkit\.fluxcd\.io|argocd\.argoproj\.io)/")
_TRACKING = "argocd.argoproj.io/tracking-id"
_PAUSED = ("kustomize.toolkit.fluxcd.io/reconcile", "disabled")
_HELM = "meta.helm.sh/release-name"
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_TRUE = {"true", "1", "yes", "on"}


@dataclass(frozen=True, kw_only=True)
class Live:
    """One of the two, as it runs."""

    part: Part
    config_map: Object
    deployment: Object
    text: str
    """The document that it reads."""

    @property
    def containers(self) -> list[Object]:
        """Those of its pods."""
        return self.deployment["spec"]["template"]["spec"]["containers"]


def read_live(config: StackConfig, kube: Kube, which: Part) -> Live:
    """The objects that the stack file names; ConfigError with all that it names wrongly."""
    wanted = config.gateway if which == "gateway" else config.frontend
    names = {"config_map": wanted.config_map, "deployment": wanted.deployment}
    kinds = {"config_map": "configmaps", "deployment": "deployments"}
    standing = {key: sorted(kube.labels(kind)) for key, kind in kinds.items()}
    missing = [
        Problem(
            key=f"llama-chat:{which}.{key}",
            value=name,
            remedy=f"namespace {kube.namespace} has none of that name: it has {', '.join(standing[key]) or 'none'}",
        )
        for key, name in names.items()
        if name not in standing[key]
    ]
    if missing:
        raise ConfigError(tuple(missing))
    config_map = whole(kube, "configmap", wanted.config_map)
    data: dict[str, str] = config_map.get("data") or {}
    if wanted.config_key not in data:
        remedy = f"ConfigMap {wanted.config_map} has no such key: it has {', '.join(data) or 'none'}"
        raise ConfigError((Problem(key=f"llama-chat:{which}.config_key", value=wanted.config_key, remedy=remedy),))
    return Live(
        part=which,
        config_map=config_map,
        deployment=whole(kube, "deployment", wanted.deployment),
        text=data[wanted.config_key],
    )


def secret_values(kube: Kube, name: str) -> dict[str, str]:
    """What a Secret holds, for memory alone; nothing where there is none."""
    if kube.secret_labels(name) is None:
        return {}
    data = cast("dict[str, str]", kube.get("secret", name).get("data") or {})
    return {key: b64decode(value).decode(errors="replace") for key, value in data.items()}


def whole(kube: Kube, kind: str, name: str) -> Object:
    """One object with the record of who wrote which field of it."""
    return json.loads(kube.run("get", kind, name, "-o", "json", "--show-managed-fields"))


def owned(thing: Object) -> Object:
    """The fields that the stack's patches have written and nobody has changed since, as Kubernetes records them."""
    entries = items(thing["metadata"], "managedFields")
    ours = [it for it in entries if it.get("manager") == FIELD_MANAGER and it.get("operation") == "Apply"]
    return ours[0].get("fieldsV1") or {} if ours else {}


def unfit(config: StackConfig, live: Live) -> Iterator[Problem]:
    """What cannot be patched, or whose patches would be undone or do nothing."""
    name = live.config_map["metadata"]["name"]
    if live.config_map.get("immutable"):
        remedy = "is immutable, so no route in it can change: let the Deployment mount a copy that is not"
        yield Problem(key=f"llama-chat:{live.part}.config_map", value=name, remedy=remedy)
    if not mounting(live):
        remedy = (
            f"no container of Deployment {live.deployment['metadata']['name']} mounts it: name the one that it reads, "
            "or have it read this one"
        )
        yield Problem(key=f"llama-chat:{live.part}.config_map", value=name, remedy=remedy)
    if not config.legacy.gitops_released:
        things = {"config_map": live.config_map, "deployment": live.deployment}
        found = (released(f"llama-chat:{live.part}.{key}", thing) for key, thing in things.items())
        yield from filter(None, found)
    if live.part == "gateway":
        yield from _elsewhere(config, live)


def managed(thing: Object) -> str | None:
    """What of an object says that Flux or Argo CD puts it back; None where nothing does."""
    labels: Mapping[str, str] = thing["metadata"].get("labels") or {}
    annotations: Mapping[str, str] = thing["metadata"].get("annotations") or {}
    if annotations.get(_PAUSED[0]) == _PAUSED[1]:
        return None
    marks = [f"{key}: {value}" for key, value in labels.items() if _GITOPS.match(key)]
    marks += [f"{_TRACKING}: {annotations[_TRACKING]}"] if _TRACKING in annotations else []
    return marks[0] if marks else None


def released(key: str, thing: Object) -> Problem | None:
    """The problem of an object that is put back; None where nobody does."""
    mark = managed(thing)
    if mark is None:
        return None
    who = "Argo CD" if mark.startswith("argocd") else "Flux"
    remedy = (
        f"{who} would undo what this stack changes in it ({mark}): keep it from being pruned, then take it out of "
        "git (docs/migration.md), or pause it there; then write legacy.gitops_released: true"
    )
    return Problem(key=key, value=str(thing["metadata"]["name"]), remedy=remedy)


def warned(live: Live) -> Iterator[str]:
    """What the operator has to know of: who else may write these objects."""
    for thing in (live.config_map, live.deployment):
        annotations: Mapping[str, str] = thing["metadata"].get("annotations") or {}
        told = f"{thing['kind']} {thing['metadata']['name']}"
        if _HELM in annotations:
            yield f"{told} is of the Helm release {annotations[_HELM]}: its next upgrade would undo the routes"
        elif _APPLIED in annotations:
            yield f"{told} was made with kubectl apply: take it out of what you apply, or that undoes the routes"


def mounting(live: Live) -> list[Object]:
    """The containers that mount the ConfigMap."""
    name = live.config_map["metadata"]["name"]
    volumes = items(live.deployment["spec"]["template"]["spec"], "volumes")
    holding = {volume["name"] for volume in volumes if name in _maps(volume)}
    return [it for it in live.containers if any(mount["name"] in holding for mount in items(it, "volumeMounts"))]


def variables(live: Live) -> dict[str, Object]:
    """The environment of the containers that mount the ConfigMap, by name."""
    return {env["name"]: env for container in mounting(live) for env in items(container, "env")}


def items(thing: Object, key: str) -> list[Object]:
    """A list inside an object; empty where it has none."""
    return cast("list[Object]", thing.get(key) or [])


def _maps(volume: Object) -> list[str]:
    """The ConfigMaps in a volume."""
    sources = [volume, *items(volume.get("projected") or {}, "sources")]
    return [source["configMap"]["name"] for source in sources if "configMap" in source]


def _elsewhere(config: StackConfig, live: Live) -> Iterator[Problem]:
    """LiteLLM's routes that are not in its document."""
    env = variables(live)
    key, name = "llama-chat:gateway.deployment", str(live.deployment["metadata"]["name"])
    if "LITELLM_CONFIG_BUCKET_NAME" in env:
        remedy = "reads its document from a bucket (LITELLM_CONFIG_BUCKET_NAME): have it read the ConfigMap"
        yield Problem(key=key, value=name, remedy=remedy)
    if config.legacy.database_checked:
        return
    try:
        settings = part(litellm_document(live.text), "general_settings")
    except ValueError:
        settings = {}
    where: dict[str, Any] = {
        "general_settings.store_model_in_db": settings.get("store_model_in_db") is True,
        "general_settings.database_url": settings.get("database_url"),
        "STORE_MODEL_IN_DB": str(env.get("STORE_MODEL_IN_DB", {}).get("value", "")).lower() in _TRUE,
        "DATABASE_URL": "DATABASE_URL" in env,
    }
    found = [it for it, there in where.items() if there]
    if found:
        remedy = (
            f"has a database ({', '.join(found)}), whose models stand beside those of its document: look through them "
            "(GET /model/info), delete those that this stack replaces, then write legacy.database_checked: true"
        )
        yield Problem(key=key, value=name, remedy=remedy)


def serving(config: StackConfig, kube: Kube) -> None:
    """ConfigError where no Service leads to the gateway at the stack's port."""
    gateway = config.gateway
    services = {it["metadata"]["name"]: it for it in kube.listed("services")}
    found = services.get(gateway.deployment)
    ports = [int(it["port"]) for it in items(found["spec"], "ports")] if found else []
    if gateway.port not in ports:
        told = f"has {', '.join(map(str, ports)) or 'no port'}" if found else "is not there"
        remedy = f"Service {gateway.deployment}, by which users reach the gateway, {told}: correct the port, or it"
        raise ConfigError((Problem(key="llama-chat:gateway.port", value=str(gateway.port), remedy=remedy),))


def autoscaled(kube: Kube, deployments: Mapping[str, str]) -> Iterator[Problem]:
    """Autoscalers of Deployments, by name, whose number of pods the stack states; KEDA's by what made them."""
    for scaler in kube.listed("horizontalpodautoscalers"):
        target: Object = scaler["spec"]["scaleTargetRef"]
        key = deployments.get(target["name"]) if target["kind"] == "Deployment" else None
        if key is None:
            continue
        made_by = [it for it in items(scaler["metadata"], "ownerReferences") if it.get("controller")]
        who = f"{made_by[0]['kind']} {made_by[0]['name']}" if made_by else f"HorizontalPodAutoscaler {name_of(scaler)}"
        remedy = (
            f"{who} changes the number of its pods, which this stack states: take that away (out of git too), scale "
            "it to the number that you want, then run make adopt again"
        )
        yield Problem(key=key, value=str(target["name"]), remedy=remedy)
