"""The pods of an adopted Deployment, as Kubernetes spells them: what of them we change, and how we copy them."""

from collections.abc import Mapping
from typing import Any, cast

import pulumi
from pulumi_kubernetes.core.v1 import ContainerArgsDict, PodSpecArgsDict, VolumeArgsDict
from pydantic import JsonValue

Object = dict[str, Any]

PREFIX = "live-"
"""Before the names of a copy's volumes: the pod that it runs in has volumes of its own."""
_OF_A_SERVER = ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "ports")
"""What a copy must not have: nobody may restart it or send it users, and its node's ports are taken."""
_AS_IT_RUNS = {
    "dnsConfig": "dns_config",
    "dnsPolicy": "dns_policy",
    "hostAliases": "host_aliases",
    "nodeSelector": "node_selector",
    "runtimeClassName": "runtime_class_name",
    "securityContext": "security_context",
    "tolerations": "tolerations",
}
"""What the pod around a copy takes over: where it may run, as which user, and how it finds others."""


def pod_spec(deployment: Mapping[str, JsonValue]) -> Object:
    """`spec.template.spec` of a Deployment."""
    return cast("Object", deployment)["spec"]["template"]["spec"]


def reader(pod: Object, config_map: str) -> Object:
    """The container that mounts a ConfigMap; RunError where none does."""
    holders = {volume["name"] for volume in pod.get("volumes", ()) if _holds(volume, config_map)}
    for container in cast("list[Object]", pod["containers"]):
        if any(mount["name"] in holders for mount in container.get("volumeMounts", ())):
            return container
    names = ", ".join(container["name"] for container in pod["containers"])
    raise pulumi.RunError(
        f"llama-chat:gateway.config_map: {config_map}: no container of the adopted Deployment mounts it ({names}): "
        "name the ConfigMap that holds LiteLLM's document, then run make adopt again"
    )


def with_env(container: Object, *env: Object) -> Object:
    """The container with these variables; one of the same name that it has is replaced where it stands."""
    ours = {it["name"]: it for it in env}
    listed = [ours.pop(it["name"], it) for it in container.get("env", ())]
    return {**container, "env": [*listed, *ours.values()]}


def copied(pod: Object, server: Object) -> list[ContainerArgsDict]:
    """The pod's containers as sidecars of another pod, which end when that one's own do; the server starts last."""
    others = [it for it in pod["containers"] if it["name"] != server["name"]]
    sidecars = [{**_copy(it), "restartPolicy": "Always"} for it in (*others, server)]
    return cast("list[ContainerArgsDict]", [*map(_copy, pod.get("initContainers", ())), *sidecars])


def _copy(container: Object) -> Object:
    kept = {key: value for key, value in container.items() if key not in _OF_A_SERVER}
    mounts = [{**mount, "name": PREFIX + mount["name"]} for mount in container.get("volumeMounts", ())]
    return {**kept, "volumeMounts": mounts}


def copied_volumes(pod: Object, config_map: str, key: str, new: str) -> list[VolumeArgsDict]:
    """The pod's volumes for a copy, one key of a ConfigMap read from another ConfigMap instead.

    What the live pods write to a claim stays theirs: the copy gets an empty folder.
    """
    volumes = [
        {**_copied_volume(it, config_map, key, new), "name": PREFIX + it["name"]} for it in pod.get("volumes", ())
    ]
    return cast("list[VolumeArgsDict]", volumes)


def _copied_volume(volume: Object, config_map: str, key: str, new: str) -> Object:
    if "persistentVolumeClaim" in volume or "ephemeral" in volume:
        return {"emptyDir": {}}
    if not _holds(volume, config_map):
        return volume
    if "projected" not in volume:
        source = volume["configMap"]
        mode = {"defaultMode": source["defaultMode"]} if "defaultMode" in source else {}
        kept = {name: value for name, value in source.items() if name != "defaultMode"}
        volume = {"projected": {"sources": [{"configMap": kept}], **mode}}
    sources: list[Object] = []
    for source in volume["projected"]["sources"]:
        sources += _swapped(source, key, new) if _reads(source, config_map) else [source]
    return {"projected": {**volume["projected"], "sources": sources}}


def _swapped(source: Object, key: str, new: str) -> list[Object]:
    """A projected ConfigMap, then the new one over it (where two sources have one path, the later one counts)."""
    items: list[Object] | None = source["configMap"].get("items")
    if items is None:
        return [source, {"configMap": {"name": new, "items": [{"key": key, "path": key}]}}]
    others = [it for it in items if it["key"] != key]
    old = [{"configMap": {**source["configMap"], "items": others}}] if others else []
    return [*old, {"configMap": {"name": new, "items": [it for it in items if it["key"] == key]}}]


def _holds(volume: Object, config_map: str) -> bool:
    return _reads(volume, config_map) or any(
        _reads(source, config_map) for source in volume.get("projected", {}).get("sources", ())
    )


def _reads(source: Object, config_map: str) -> bool:
    return source.get("configMap", {}).get("name") == config_map


def around_a_copy(pod: Object, pull_secrets: list[str]) -> PodSpecArgsDict:
    """What the copy needs of the pod that it runs in.

    Its user and file system group are the adopted ones, so the pod is as restricted as the adopted one is: an image
    that runs as root does so here, too. The service account is not: one pod has one, and the test needs its own.
    """
    taken = {ours: pod[theirs] for theirs, ours in _AS_IT_RUNS.items() if theirs in pod}
    node = pod.get("affinity", {}).get("nodeAffinity")  # towards other pods only its own labels would count
    names = [*pull_secrets, *(it["name"] for it in pod.get("imagePullSecrets", ()))]
    return cast(
        "PodSpecArgsDict",
        {
            "security_context": {},
            **taken,
            **({"affinity": {"nodeAffinity": node}} if node else {}),
            "image_pull_secrets": [{"name": name} for name in dict.fromkeys(names)],
        },
    )
