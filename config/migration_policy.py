"""What is refused on the way from vLLM: a stack file that does not fit itself, or what was adopted."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any, cast

from config.errors import Problem
from config.legacy import MAKE_ADOPT, LegacyRoute, Parsed, listed_names, part
from config.model import StackConfig
from config.naming import Where, models
from config.phases import LISTED
from config.secrecy import MISSING, key_path, problem

KEY = re.compile(r"os\.environ/(LEGACY_KEY_\d+)")
"""How LiteLLM's document refers to a key that `make adopt` took out of it."""
IN_TEST = "-test"
"""The end of the name that a model of ours has in phase test."""


def problems(config: StackConfig) -> list[Problem]:
    """Everything that is refused of a stack that has a migration before it or behind it."""
    return list(chain.from_iterable(refusal(config) for refusal in REFUSALS))


def not_adopted(config: StackConfig) -> Iterator[Problem]:
    """Mode adopt before `make adopt` read what there is to adopt."""
    read = {"gateway": config.adopted.litellm, "frontend": config.adopted.librechat}
    modes = {"gateway": config.gateway.mode, "frontend": config.frontend.mode}
    for which, mode in modes.items() if config.gateway.mode == "adopt" else ():
        if mode == "adopt" and not read[which]:
            yield problem((which, "mode"), mode, f"what runs was not read yet: {MAKE_ADOPT}")


def frontend_alone(config: StackConfig) -> Iterator[Problem]:
    """An adopted LibreChat in front of a gateway that is ours: no phase would ever change it."""
    if config.frontend.mode == "adopt" and config.gateway.mode == "deploy":
        remedy = "a frontend is adopted with its gateway alone: write gateway.mode: adopt, or none here"
        yield problem(("frontend", "mode"), "adopt", remedy)


def nothing_to_migrate(config: StackConfig) -> Iterator[Problem]:
    """A step, or routes, of a migration that a gateway of ours has not."""
    if config.gateway.mode == "deploy":
        if config.migration.phase != "parallel":
            remedy = "with gateway.mode deploy there is nothing to migrate: write parallel, or gateway.mode: adopt"
            yield problem(("migration", "phase"), config.migration.phase, remedy)
        if config.legacy.routes:
            remedy = "does nothing with gateway.mode deploy: remove it, or write gateway.mode: adopt"
            yield problem(("legacy", "routes"), len(config.legacy.routes), remedy)


def phase_without_frontend(config: StackConfig) -> Iterator[Problem]:
    """The frontend's step, and no frontend."""
    if config.gateway.mode == "adopt" and config.frontend.mode == "none" and config.migration.phase in LISTED:
        remedy = "changes what LibreChat lists, but frontend.mode is none: write cutover, or adopt the frontend too"
        yield problem(("migration", "phase"), config.migration.phase, remedy)


def retired_too_early(config: StackConfig) -> Iterator[Problem]:
    """A phase in which what `make retire` has removed would answer."""
    if config.gateway.mode != "adopt" or not config.legacy.retired:
        return
    if not config.adopted.retired:
        remedy = "no manifests were saved: write false, and let `make retire` save them and write this"
        yield problem(("legacy", "retired"), config.legacy.retired, remedy)
    elif config.migration.phase != "done":
        remedy = (
            "what answers in it is retired: write done, or bring that back first: `kubectl --context "
            f"{config.cluster.context} apply -f {config.adopted.retired}`, then legacy.retired: false"
        )
        yield problem(("migration", "phase"), config.migration.phase, remedy)


def keys_without_secret(config: StackConfig) -> Iterator[Problem]:
    """Variables of the adopted document that the gateway would not have."""
    legacy = config.legacy
    if legacy.keys and not legacy.keys_secret:
        remedy = "is missing: add the name of the Secret that holds legacy.keys"
        yield Problem(key=key_path(("legacy", "keys_secret")), value=MISSING, remedy=remedy)
    for name in sorted(set(KEY.findall(config.adopted.litellm)) - set(legacy.keys)):
        remedy = f"the adopted document refers to {name}: add it, or {MAKE_ADOPT}"
        yield Problem(key=key_path(("legacy", "keys")), value=", ".join(legacy.keys) or MISSING, remedy=remedy)


def replaced_by_nobody(config: StackConfig) -> Iterator[Problem]:
    """A route whose Deployment would be stopped, or whose name would be gone, with nothing in its place."""
    names = ", ".join(config.exposed_names)
    for where, route in _routes(config):
        if route.replaced_by is None and route.deployment:
            remedy = (
                f"name the model that answers {route.name} once {route.deployment} is gone: one of {names}; "
                "or write deployment: null there, if it is to stay"
            )
            yield Problem(key=key_path((*where, "replaced_by")), value=MISSING, remedy=remedy)
        elif route.replaced_by and route.replaced_by not in config.exposed_names:
            yield problem((*where, "replaced_by"), route.replaced_by, f"no model has this name: write one of {names}")


def name_of_ours(config: StackConfig) -> Iterator[Problem]:
    """A legacy name that a model of ours has, in any phase: nobody could tell which one answers."""
    ours = {model.name.casefold(): (*where, "name") for where, model in models(config)}
    ours |= {f"{name}{IN_TEST}": where for name, where in ours.items()}
    for where, route in _routes(config):
        taken = ours.get(route.name.casefold())
        if taken:
            remedy = (
                f"is the name of {key_path(taken)} (case does not count), alone or with {IN_TEST}: give that "
                "model another name"
            )
            yield problem((*where, "name"), route.name, remedy)


def one_name_two_ways(config: StackConfig) -> Iterator[Problem]:
    """A name with several Deployments behind it, and not one replacement."""
    first: dict[str, tuple[Where, LegacyRoute]] = {}
    for where, route in _routes(config):
        holder, before = first.setdefault(route.name, (where, route))
        if before.replaced_by != route.replaced_by:
            remedy = (
                f"{route.name} is replaced by {before.replaced_by or 'nothing'} in {key_path(holder)}: write the same"
            )
            yield problem((*where, "replaced_by"), route.replaced_by, remedy)


def one_deployment_two_sizes(config: StackConfig) -> Iterator[Problem]:
    """A Deployment that serves several names, and has another number of pods at each."""
    first: dict[str, tuple[Where, LegacyRoute]] = {}
    for where, route in _routes(config):
        if route.deployment:
            holder, before = first.setdefault(route.deployment, (where, route))
            if before.replicas != route.replicas:
                remedy = f"{route.deployment} has {before.replicas} in {key_path(holder)}: write the same"
                yield problem((*where, "replicas"), route.replicas, remedy)


def routes_of_another_document(config: StackConfig) -> Iterator[Problem]:
    """Routes that the adopted document does not have, or has and nobody knows what becomes of them."""
    if config.gateway.mode != "adopt" or not config.adopted.litellm:
        return
    names = config.adopted.names
    for where, route in _routes(config):
        if route.name not in names:
            remedy = f"the adopted document has no such name: it has {', '.join(names)}; or {MAKE_ADOPT}"
            yield problem((*where, "name"), route.name, remedy)
    for name in names:
        if name not in config.legacy.names:
            remedy = f"the adopted document routes {name}: add it, or {MAKE_ADOPT}"
            yield Problem(key=key_path(("legacy", "routes")), value=MISSING, remedy=remedy)


def unlistable(config: StackConfig) -> Iterator[Problem]:
    """Routes that are not in the adopted document, or have no name of their own."""
    if config.gateway.mode != "adopt" or not config.adopted.litellm:
        return
    key = key_path(("gateway", "config_map"))
    if "include" in config.adopted.routes:
        remedy = f"its document includes other files: write their content into it, and {MAKE_ADOPT}"
        yield Problem(key=key, value=config.gateway.config_map, remedy=remedy)
    for name in config.adopted.names:
        if "*" in name:
            remedy = f"its document routes {name}, which is any name: write an entry for each that users pick, and "
            yield Problem(key=key, value=config.gateway.config_map, remedy=remedy + MAKE_ADOPT)


def endpoint_gone(config: StackConfig) -> Iterator[Problem]:
    """An adopted LibreChat without the endpoint that is to be changed, or where that is another server's."""
    if config.frontend.mode != "adopt" or not config.adopted.librechat:
        return
    name, custom = config.frontend.endpoint_name, config.adopted.picker["endpoints"]["custom"]
    entry = config.adopted.endpoint(name)
    if entry is None:
        known = ", ".join(str(entry["name"]) for entry in custom)
        remedy = f"the adopted document has no such endpoint: it has {known or 'none'}"
        yield problem(("frontend", "endpoint_name"), name, remedy)
    elif config.adopted.litellm and not _lists_routes(config, entry):
        ours = ", ".join(str(entry["name"]) for entry in custom if _lists_routes(config, entry))
        remedy = f"lists no name that the adopted gateway routes, as {ours or 'no other one'} does: correct it"
        yield problem(("frontend", "endpoint_name"), name, remedy)
    elif part(entry, "models").get("fetch") is True:
        remedy = (
            "fetches its list from the gateway, which in phase test has names for testers and in done hides the legacy "
            f"ones: write fetch: false and the names in LibreChat's document, and {MAKE_ADOPT}"
        )
        yield problem(("frontend", "endpoint_name"), name, remedy)


def _lists_routes(config: StackConfig, entry: Parsed) -> bool:
    return part(entry, "models").get("fetch") is True or not set(listed_names(entry)).isdisjoint(config.adopted.names)


def still_named(config: StackConfig) -> Iterator[Problem]:
    """A legacy name that LibreChat would still send, and nobody would take any more."""
    migration = config.migration
    if config.frontend.mode != "adopt" or migration.phase not in LISTED:
        return
    aliases_gone = migration.phase == "done" and not migration.keep_aliases
    if aliases_gone and not migration.renamed and config.legacy.replaced:
        remedy = (
            "LibreChat still lists legacy names: rename the stored ones, write renamed: true and bring that up before "
            "you write false here"
        )
        yield problem(("migration", "keep_aliases"), migration.keep_aliases, remedy)
    for path, name in _mentions((), config.adopted.picker if config.adopted.librechat else {}, config.legacy.replaced):
        # what is listed is checked against the list; a title's model, say, only against the gateway
        if aliases_gone or (migration.renamed and path[0] == "modelSpecs"):
            key = "keep_aliases" if aliases_gone else "renamed"
            place = key_path(path).partition(":")[2]
            remedy = (
                f"LibreChat's document still says {name} at {place}: go back to phase parallel, write another name "
                f"there, and {MAKE_ADOPT}"
            )
            yield problem(("migration", key), getattr(migration, key), remedy)


REFUSALS: tuple[Callable[[StackConfig], Iterator[Problem]], ...] = (
    not_adopted,
    frontend_alone,
    nothing_to_migrate,
    phase_without_frontend,
    retired_too_early,
    keys_without_secret,
    replaced_by_nobody,
    name_of_ours,
    one_name_two_ways,
    one_deployment_two_sizes,
    routes_of_another_document,
    unlistable,
    endpoint_gone,
    still_named,
)


def _routes(config: StackConfig) -> Iterator[tuple[Where, LegacyRoute]]:
    yield from ((("legacy", "routes", i), route) for i, route in enumerate(config.legacy.routes))


def _mentions(path: Where, value: Any, names: Mapping[str, str]) -> Iterator[tuple[Where, str]]:  # noqa: ANN401 - YAML
    """Where LibreChat's document says one of the names, but for the lists that are ours to change."""
    if isinstance(value, str) and value in names:
        yield path, value
    parts: Iterator[tuple[str | int, Any]] = iter(())
    if isinstance(value, dict):
        parts = ((str(key), item) for key, item in cast("dict[Any, Any]", value).items() if key != "models")
    elif isinstance(value, list):
        parts = iter(enumerate(cast("list[Any]", value)))
    for step, item in parts:
        yield from _mentions((*path, step), item, names)
