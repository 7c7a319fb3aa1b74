"""Whether users have what answered before a stack: its documents, its gateway, and the models behind that."""

from collections.abc import Callable, Iterator
from functools import partial

from config.errors import UserError
from config.model import StackConfig
from ops.checklist import Check, made
from ops.forward import Gateway
from ops.kube import Kube
from ops.live import read_live
from ops.rollout import full_strength
from ops.router_checks import completion, listed
from render.litellm import gateway_routes


def as_adopted(config: StackConfig, kube: Kube) -> str:
    """What is read by gateway and LibreChat; UserError where it is not the adopted documents."""
    adopted = config.adopted
    documents = {"gateway": adopted.litellm, "frontend": adopted.librechat if config.frontend.mode == "adopt" else ""}
    for part in ("gateway", "frontend"):
        if documents[part] and read_live(config, kube, part).text != documents[part]:
            raise UserError(f"the live document of the {part} is not the adopted one")
    return "the adopted documents"


def led_elsewhere(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> list[str]:
    """Why users may have other routes than the legacy ones, which `config` is to lead to; nothing where they have."""

    def checks() -> Iterator[Check]:
        yield made("legacy", "documents", "as adopted", partial(as_adopted, config, kube))
        for it in (config.gateway, *((config.frontend,) if config.frontend.mode == "adopt" else ())):
            yield made("legacy", it.deployment, "rolled", partial(full_strength, kube, it.deployment))
        # pods may have read a document before it was put back
        yield made("legacy", config.gateway.deployment, "/v1/models", partial(listed, gateway_routes(config), reach))

    return _failed(checks())


def unserved(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> list[str]:
    """Which legacy routes are not answered by what answered them before."""

    def checks() -> Iterator[Check]:
        for name, replicas in config.legacy.workers.items():
            if replicas:
                yield made("legacy", name, "at full strength", partial(full_strength, kube, name, replicas))
        for routed in gateway_routes(config):
            if routed.api_base:
                yield made("legacy", routed.name, "completion", partial(completion, routed, routed.api_base, reach))

    return _failed(checks())


def _failed(checks: Iterator[Check]) -> list[str]:
    return [f"{check.subject}: {check.detail}" for check in checks if not check.ok]
