"""What is looked at of LibreChat: the document that it reads, and conversations as it holds them."""

from collections.abc import Callable, Iterator
from functools import partial

from config.errors import UserError
from config.legacy import Parsed, endpoint, librechat_document, listed_names, part
from config.model import StackConfig
from config.naming import is_alias
from local.console import say
from ops.checklist import Check, made
from ops.forward import Gateway, quoted
from ops.kube import Kube
from ops.rollout import full_strength
from ops.router_checks import request_seconds, server
from render.librechat import frontend_text
from render.litellm import Routed, gateway_routes

Look = Callable[[Parsed, Parsed], str]
"""What is seen of an endpoint's entry, and of the one that is expected; UserError where it is wrong."""


def frontend_checks(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    """The checks of the model picker's document, then a conversation with each server behind the gateway.

    What is expected is the document that the stack renders in this phase. Of an adopted one all but the names is as it
    was found, and the rows say so.
    """
    frontend = config.frontend
    if frontend.mode == "adopt":
        # it reads the document at its start alone
        strength = partial(full_strength, kube, frontend.deployment)
        yield made("frontend", frontend.deployment, "at full strength", strength)
    same = partial(_same, " as adopted" if frontend.mode == "adopt" else "")
    looks: dict[str, Look] = {
        "models.default": _picker,
        "no role alias": _no_alias,
        "models.fetch": lambda found, expected: same(*(part(it, "models").get("fetch") for it in (found, expected))),
        "baseURL": lambda found, expected: same(found.get("baseURL"), expected.get("baseURL")),
        # any other is one that the gateway may not know, or that makes a pool swap for a title
        "titleModel": lambda found, expected: same(found.get("titleModel"), expected.get("titleModel")),
    }
    for what, look in looks.items():
        yield made("frontend", frontend.config_map, what, partial(_of_endpoint, config, kube, look))
    # of a pool the name that its last completion left loaded
    last = {routed.api_base: routed for routed in gateway_routes(config) if routed.api_base and not routed.hidden}
    for routed in last.values():
        yield made("frontend", routed.name, "conversation", partial(_conversation, routed, reach))


def _of_endpoint(config: StackConfig, kube: Kube, look: Look) -> str:
    """What `look` sees of our entry in LibreChat's document; UserError where there is none."""
    frontend = config.frontend
    key = frontend.config_key if frontend.mode == "adopt" else "librechat.yaml"
    text: str = kube.get("configmap", frontend.config_map)["data"][key]
    return look(_endpoint(config, key, text), _endpoint(config, key, frontend_text(config)))


def _endpoint(config: StackConfig, key: str, text: str) -> Parsed:
    name = config.frontend.endpoint_name
    try:
        entry = endpoint(librechat_document(text), name)
    except ValueError as error:
        raise UserError(f"{key} {error}") from None
    if entry is None:
        raise UserError(f"{key} has no endpoint named {name} in endpoints.custom")
    return entry


def _picker(found: Parsed, expected: Parsed) -> str:
    listed = ", ".join(listed_names(found))
    if listed_names(found) != listed_names(expected):
        raise UserError(f"lists {listed or 'nothing'}; expected {', '.join(listed_names(expected))}")
    return listed


def _no_alias(found: Parsed, expected: Parsed) -> str:
    aliases = [name for name in listed_names(found) if is_alias(name)]
    # no model of ours has such a name: those that are due are legacy ones
    undue = [name for name in aliases if name not in listed_names(expected)]
    if undue:
        raise UserError(f"users are shown roles instead of models: {', '.join(undue)}")
    return f"none but legacy names, which this phase lists: {', '.join(aliases)}" if aliases else "none"


def _same(remark: str, found: object, expected: object) -> str:
    if found != expected:
        raise UserError(f"is {found!r}, expected {expected!r}{remark}")
    return f"{'absent' if found is None else found}{remark and f',{remark}'}"


def _conversation(routed: Routed, reach: Callable[[], Gateway]) -> str:
    gateway = reach()
    say(f"talking with {routed.name}")
    said = gateway.converse(routed.name, request_seconds(routed))
    return f"{server(routed)}: {len(said)} turns, each streamed to [DONE]: {quoted(said[-1])}"
