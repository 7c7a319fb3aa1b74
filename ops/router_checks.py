"""What is looked at of the gateway: its pods, the names that it lists, and who answers each."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from config.errors import UserError
from config.model import StackConfig
from local.console import say
from ops.checklist import Check, made, same_names
from ops.forward import Gateway, quoted
from ops.kube import Kube
from ops.rollout import full_strength
from render.budget import SMOKE_SECONDS, budget
from render.litellm import Routed, gateway_routes


def router_checks(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    """The checks of the gateway, then of each name that it answers to in this phase, hidden ones too.

    A name that leads elsewhere is listed alone: asking it may cost.
    """
    deployment, routes = config.gateway.deployment, gateway_routes(config)
    strength = partial(full_strength, kube, deployment, config.gateway_pods)
    yield made("router", deployment, "at full strength", strength)
    yield made("router", deployment, "/v1/models", partial(listed, routes, reach))
    for routed in routes:
        if routed.api_base:
            look = partial(completion, routed, routed.api_base, reach)
            yield made("router", routed.name, "completion", look)


def server(routed: Routed) -> str:
    """Who answers a name, for people."""
    return routed.backend.name if routed.backend else str(routed.api_base)


def request_seconds(routed: Routed) -> int:
    """What a request by a name may take."""
    return budget(routed.backend).request if routed.backend else SMOKE_SECONDS


def listed(routes: Sequence[Routed], reach: Callable[[], Gateway]) -> str:
    """The names that the gateway lists; UserError where they are not the routed ones."""
    told = same_names(reach().names(), [routed.name for routed in routes if not routed.hidden])
    others = ", ".join(routed.name for routed in routes if not routed.api_base)
    return f"{told}; not asked, leading elsewhere: {others}" if others else told


def completion(routed: Routed, expected: str, reach: Callable[[], Gateway]) -> str:
    """Who answers a name, and what; UserError where it is somebody else than expected, or nobody."""
    gateway = reach()
    say(f"asking {routed.name}")
    done = gateway.complete(routed.name, request_seconds(routed))
    if done.answered_by.rstrip("/") != expected.rstrip("/"):
        raise UserError(f"answered by {done.answered_by or '(nobody tells)'}, expected {expected}")
    return f"{server(routed)}: {quoted(done.text)}"
