"""Which Deployment serves each of LiteLLM's routes, where its pods are, and how many there are."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from config.errors import Problem
from config.legacy import LegacyRoute, Parsed, alias_target, part
from config.model import StackConfig
from ops.kube import Kube, Object, name_of
from ops.live import released


@dataclass(frozen=True, kw_only=True)
class Found:
    """The routes of a document, and what there is to say of them."""

    routes: tuple[LegacyRoute, ...]
    problems: tuple[Problem, ...]
    told: tuple[str, ...]
    """Routes that lead to no Deployment, and why."""


@dataclass(frozen=True, kw_only=True)
class _Cluster:
    """What the namespace has, read once."""

    namespace: str
    services: Mapping[str, Object]
    deployments: Mapping[str, Object]
    pods: list[Object]

    def behind(self, service: str) -> list[Object]:
        """The Deployments whose pods a Service leads to."""
        wanted: dict[str, str] = self.services[service]["spec"].get("selector") or {}
        every = [it for _, it in sorted(self.deployments.items())] if wanted else []
        return [it for it in every if wanted.items() <= _labels(it["spec"]["template"]).items()]

    def node(self, deployment: Object) -> str | None:
        """Where its pods are; of several nodes the first by name."""
        wanted: dict[str, str] = deployment["spec"]["selector"].get("matchLabels") or {}
        pods = [pod for pod in self.pods if wanted.items() <= _labels(pod).items()]
        return min((str(pod["spec"]["nodeName"]) for pod in pods if pod["spec"].get("nodeName")), default=None)


def _labels(thing: Object) -> dict[str, str]:
    return thing["metadata"].get("labels") or {}


def find_routes(config: StackConfig, kube: Kube, document: Parsed) -> Found:
    """A route for each name and each Deployment that serves it, in the document's order, aliases last.

    What the stack file says of a route already stays: what replaces it, and that its Deployment is not ours to stop.
    """
    cluster = _Cluster(
        namespace=kube.namespace,
        services={name_of(it): it for it in kube.listed("services")},
        deployments={name_of(it): it for it in kube.listed("deployments")},
        pods=kube.listed("pods"),
    )
    routes: dict[tuple[str, str | None], LegacyRoute] = {}
    problems: dict[tuple[str, str], Problem] = {}
    told: dict[str, str] = {}
    for entry in document["model_list"]:
        name = str(entry["model_name"])
        service, why = _service(cluster, entry["litellm_params"].get("api_base"))
        deployments = cluster.behind(service) if service else []
        if not deployments:
            told[name] = f"{name} stays as it is: {why or f'Service {service} leads to no Deployment'}"
        for route in [_route(name, it, cluster) for it in deployments] or [LegacyRoute(name=name)]:
            routes[name, route.deployment] = route
        found = [_of_ours(config, name, service), *(_put_back(config, it) for it in deployments)]
        problems |= {(it.key, it.value): it for it in found if it}
    for name, alias in part(document, "router_settings", "model_group_alias").items():
        served = [it for it in routes.values() if it.name == alias_target(alias)] or [LegacyRoute(name=name)]
        # LiteLLM takes a name for an alias first
        routes = {key: it for key, it in routes.items() if it.name != name}
        routes |= {(name, it.deployment): it.model_copy(update={"name": name}) for it in served}
    made = tuple(dict.fromkeys(_again(config, it) for it in routes.values()))
    return Found(routes=made, problems=tuple(problems.values()), told=tuple(told.values()))


def _of_ours(config: StackConfig, name: str, service: str | None) -> Problem | None:
    """A document that the stack has written itself, in a later phase."""
    if service not in {backend.name for backend in config.backends}:
        return None
    remedy = f"its document leads {name} to this stack's own {service}: bring the stack back to phase parallel first"
    return Problem(key="llama-chat:gateway.config_map", value=config.gateway.config_map, remedy=f"{remedy} (make up)")


def _put_back(config: StackConfig, deployment: Object) -> Problem | None:
    """A Deployment that would come back from its last 0 pods."""
    return None if config.legacy.gitops_released else released("llama-chat:legacy.routes", deployment)


def _service(cluster: _Cluster, api_base: Any) -> tuple[str | None, str]:  # noqa: ANN401 - YAML
    """The Service of the stack's namespace that an address names; else why there is none."""
    if not isinstance(api_base, str) or "://" not in api_base:
        return None, "its entry says no server's address"
    host = urlsplit(api_base).hostname or ""
    service, *rest = host.split(".")
    # `service`, `service.namespace`, `service.namespace.svc…`
    inside = rest in ([], [cluster.namespace]) or rest[:2] == [cluster.namespace, "svc"]
    if not inside or service not in cluster.services:
        return None, f"{host} is no Service of namespace {cluster.namespace}"
    return service, ""


def _route(name: str, deployment: Object, cluster: _Cluster) -> LegacyRoute:
    replicas = deployment["spec"].get("replicas")
    return LegacyRoute(
        name=name,
        deployment=name_of(deployment),
        node=cluster.node(deployment),
        replicas=1 if replicas is None else replicas,
    )


def _again(config: StackConfig, route: LegacyRoute) -> LegacyRoute:
    """With what the stack file says already; where there is but one model, that replaces what is served here."""
    before = [it for it in config.legacy.routes if it.name == route.name]
    if before and all(it.deployment is None for it in before):
        return LegacyRoute(name=route.name, replaced_by=before[0].replaced_by)
    only = config.exposed_names[0] if len(config.exposed_names) == 1 and route.deployment else None
    return route.model_copy(update={"replaced_by": before[0].replaced_by if before else only})


def lines(routes: tuple[LegacyRoute, ...]) -> Iterator[str]:
    """What a person reads of each."""
    for route in routes:
        pods = f"{route.deployment} on {route.node or 'no node'}, {route.replicas} pods" if route.deployment else "kept"
        yield f"{route.name}: {pods}; replaced by {route.replaced_by or 'nothing'}"
