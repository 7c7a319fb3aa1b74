"""What is looked at of the gateway: its pods, the names that it lists, and who answers each."""

from collections.abc import Callable, Iterator
from functools import partial

from config.backend import Backend
from config.errors import UserError
from config.model import StackConfig
from local.console import say
from ops.checklist import Check, made, same_names
from ops.forward import Gateway, quoted
from ops.kube import Kube
from render.budget import budget
from render.litellm import api_base


def router_checks(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    """The checks of the gateway, then of each route through it."""
    deployment = config.gateway.deployment
    yield made("router", deployment, "at full strength", partial(_full_strength, config, kube))
    yield made("router", deployment, "/v1/models", lambda: same_names(reach().names(), config.exposed_names))
    for backend in config.backends:
        for served in backend.models:
            look = partial(_completion, config, backend, served.name, reach)
            yield made("router", served.name, "completion", look)


def _full_strength(config: StackConfig, kube: Kube) -> str:
    deployment = kube.get("deployment", config.gateway.deployment)
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    if config.gateway.mode == "deploy" and wanted != config.gateway.replicas:
        raise UserError(f"the Deployment wants {wanted} pods, the stack {config.gateway.replicas}")
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        raise UserError("its last change is not rolled out yet")
    counts = {kind: status.get(f"{kind}Replicas", 0) for kind in ("updated", "ready", "available")}
    seen = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if not wanted or any(count != wanted for count in counts.values()) or status.get("replicas") != wanted:
        raise UserError(f"of {wanted} pods: {seen}; {status.get('replicas', 0)} stand")
    return f"of {wanted} pods: {seen}"


def _completion(config: StackConfig, backend: Backend, model: str, reach: Callable[[], Gateway]) -> str:
    gateway = reach()
    say(f"asking {model}")
    done = gateway.complete(model, budget(backend).request)
    expected = api_base(config, backend)
    if done.answered_by.rstrip("/") != expected.rstrip("/"):
        raise UserError(f"answered by {done.answered_by or '(nobody tells)'}, expected {expected}")
    return f"{backend.name}: {quoted(done.text)}"
