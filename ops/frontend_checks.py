"""What is looked at of LibreChat: the document that it reads, and conversations as it holds them."""

from collections.abc import Callable, Iterator
from functools import partial

import yaml

from config.backend import Backend
from config.errors import UserError
from config.model import StackConfig
from config.naming import is_alias
from local.console import say
from ops.checklist import Check, made
from ops.forward import Gateway, quoted
from ops.kube import Kube, Object
from render.budget import budget
from render.smoke import gateway_url


def frontend_checks(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    """The checks of the model picker's document, then a conversation with a model of each backend."""
    looks: dict[str, Callable[[StackConfig, Object], str]] = {
        "models.default": _picker,
        "no role alias": _no_alias,
        "models.fetch": _no_fetch,
        "baseURL": _base_url,
        "titleModel": _title_model,
    }
    for what, look in looks.items():
        seen = partial(_of_endpoint, config, kube, look)
        yield made("frontend", config.frontend.config_map, what, seen)
    for backend in config.backends:
        # of a pool the one that its last completion left loaded
        model = backend.models[-1].name
        yield made("frontend", model, "conversation", partial(_conversation, backend, model, reach))


def _of_endpoint(config: StackConfig, kube: Kube, look: Callable[[StackConfig, Object], str]) -> str:
    """What `look` sees of our entry in `librechat.yaml`; UserError where there is none."""
    frontend = config.frontend
    text: str = kube.get("configmap", frontend.config_map)["data"]["librechat.yaml"]
    try:
        entries: list[Object] = yaml.safe_load(text)["endpoints"]["custom"]
    except yaml.YAMLError as error:
        raise UserError(f"librechat.yaml is no YAML: {error}") from None
    for entry in entries:
        if entry["name"] == frontend.endpoint_name:
            return look(config, entry)
    raise UserError(f"librechat.yaml has no endpoint named {frontend.endpoint_name} in endpoints.custom")


def _picker(config: StackConfig, endpoint: Object) -> str:
    listed, expected = ", ".join(map(str, endpoint["models"]["default"])), ", ".join(config.exposed_names)
    if listed != expected:
        raise UserError(f"lists {listed or 'nothing'}; expected {expected}")
    return listed


def _no_alias(_: StackConfig, endpoint: Object) -> str:
    aliases = [name for name in map(str, endpoint["models"]["default"]) if is_alias(name)]
    if aliases:
        raise UserError(f"users are shown roles instead of models: {', '.join(aliases)}")
    return "none"


def _no_fetch(_: StackConfig, endpoint: Object) -> str:
    return _same(endpoint["models"].get("fetch"), expected=False)


def _base_url(config: StackConfig, endpoint: Object) -> str:
    return _same(endpoint.get("baseURL"), expected=f"{gateway_url(config)}/v1")


def _title_model(_: StackConfig, endpoint: Object) -> str:
    # any other is one that the gateway may not know, or that makes a pool swap for a title
    return _same(endpoint.get("titleModel"), expected="current_model")


def _same(found: object, *, expected: object) -> str:
    if found != expected:
        raise UserError(f"is {found!r}, expected {expected!r}")
    return str(found)


def _conversation(backend: Backend, model: str, reach: Callable[[], Gateway]) -> str:
    gateway = reach()
    say(f"talking with {model}")
    said = gateway.converse(model, budget(backend).request)
    return f"{backend.name}: {len(said)} turns, each streamed to [DONE]: {quoted(said[-1])}"
