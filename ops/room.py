"""Whether the GPUs that pods ask for are free, and what to do about the pods that have them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from config.backend import Backend
from config.errors import Problem
from config.model import StackConfig
from config.parts import NO_GPU
from ops.gpus import holders, names, taken, whole
from ops.kube import Kube, Object, name_of


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Whose pods are whose: this stack's own, and those that a legacy route leads to."""

    namespace: str
    made: frozenset[str]
    """Deployments that this stack has made already."""
    legacy: Mapping[str, str]
    """Deployments of legacy routes, and the names that each answers."""

    @classmethod
    def of(cls, config: StackConfig, made: frozenset[str]) -> Self:
        """As the stack file tells it."""
        legacy: dict[str, str] = {}
        for route in config.legacy.routes:
            if route.deployment:
                before = f"{legacy[route.deployment]}, " if route.deployment in legacy else ""
                legacy[route.deployment] = before + route.name
        return cls(namespace=config.cluster.namespace, made=made, legacy=legacy)

    def role(self, pod: Object) -> str | None:
        """The role whose Deployment a pod is of; None where it is of none of this stack's."""
        name = self._deployment(pod)
        return name.removeprefix("llama-") if name in self.made else None

    def answers(self, pod: Object) -> str | None:
        """The legacy names that a pod answers, if any."""
        return self.legacy.get(self._deployment(pod))

    def _deployment(self, pod: Object) -> str:
        """The Deployment that a pod is of, by its ReplicaSet's name; labels alone may be a debugging copy's."""
        owners: list[Object] = pod["metadata"].get("ownerReferences", [])
        sets = [str(owner["name"]) for owner in owners if owner["kind"] == "ReplicaSet"]
        return sets[0].rpartition("-")[0] if sets and pod["metadata"]["namespace"] == self.namespace else ""


def lacking(backend: Backend, node: Object, kube: Kube, owners: Owners) -> Iterator[str]:
    """Too few GPUs that are free on a backend's node, or that there are at all."""
    resource, wanted = backend.gpu.resource, backend.gpu.count
    if resource == NO_GPU:
        return
    there = _allocatable(node, resource)
    if there < wanted:
        yield f"node {backend.host} has {there} of {resource}: correct the node, gpu or its driver"
        return
    # its own pods go before a new one comes
    others = [pod for pod in holders(kube, backend.host, resource) if owners.role(pod) != backend.role]
    free = _left(there, others, resource)
    if free < wanted:
        yield f"of {there} {resource} {free} are free, {wanted} wanted: {'; '.join(_remedies(others, owners))}"


def starting_again(config: StackConfig, kube: Kube, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    """Legacy Deployments that stand still, are to run in this phase, and find no node with a GPU left for them.

    Each counts alone, and may run wherever its `nodeSelector` lets it: what is told is so for certain.
    """
    if config.gateway.mode != "adopt" or config.migration.phase == "done":
        return
    standing = {name_of(it): it for it in kube.listed("deployments")}
    wanted = {route.deployment: number for number, route in enumerate(config.legacy.routes) if route.replicas}
    for name, number in wanted.items():
        live = standing.get(name or "")
        if live is None or live["spec"].get("replicas", 1):
            continue
        template = live["spec"]["template"]
        fitting = {host: node for host, node in nodes.items() if _selected(template, node)}
        for resource, count in taken(template).items():
            held = {host: holders(kube, host, resource) for host in fitting}
            left = [_left(_allocatable(node, resource), held[host], resource) for host, node in fitting.items()]
            pods = names(pod for each in held.values() for pod in each)
            if pods and max(left) < count:
                remedy = (
                    f"starts again in phase {config.migration.phase}, and none of its nodes ({', '.join(fitting)}) has "
                    f"{count} {resource} free: {pods} has them. Free one (a role of this stack's: take it out, then "
                    "make up), or leave the phase as it was"
                )
                yield Problem(key=f"llama-chat:legacy.routes[{number}].deployment", value=name_of(live), remedy=remedy)


def _allocatable(node: Object, resource: str) -> int:
    return whole(node["status"].get("allocatable", {}).get(resource, "0"))


def _left(there: int, pods: list[Object], resource: str) -> int:
    return max(0, there - sum(taken(pod)[resource] for pod in pods))


def _selected(template: Object, node: Object) -> bool:
    wanted: dict[str, str] = template["spec"].get("nodeSelector") or {}
    return wanted.items() <= node.get("metadata", {}).get("labels", {}).items()


def _remedies(others: list[Object], owners: Owners) -> Iterator[str]:
    """What to do about the pods that have the GPUs."""
    strangers = [pod for pod in others if owners.role(pod) is None and owners.answers(pod) is None]
    if strangers:
        yield f"stop {names(strangers)}, or name another node"
    for answered in sorted({it for it in map(owners.answers, others) if it}):
        pods = names(pod for pod in others if owners.answers(pod) == answered)
        yield (
            f"{pods} answers {answered} until phase done: name a node that has a GPU to spare, or add this backend "
            "once done stands"
        )
    for role in sorted({role for role in map(owners.role, others) if role}):
        pods = names(pod for pod in others if owners.role(pod) == role)
        yield (
            f"{pods} is this stack's role {role}: take that out first (pulumi state unprotect for its claim, then"
            " make up), then add this one"
        )
