"""An adopted Deployment as it is kept: as it was before the stack's own patches, and without a secret in it."""

import json
import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any, cast

from config.secrecy import looks_secret
from ops.inline_keys import HIDDEN, names_key
from ops.kube import Object
from ops.live import items, owned

_WRITTEN_BY_KUBERNETES = {
    *("managedFields", "uid", "resourceVersion", "generation", "creationTimestamp", "selfLink", "ownerReferences"),
}
_GENERATED = re.compile(r"kubectl\.kubernetes\.io/last-applied-|deployment\.kubernetes\.io/|pulumi\.com/")
"""Annotations of tools; the first holds the whole object once more, values in plain among it."""
_LISTS = ("containers", "initContainers")


def kept(live: Object, before: Mapping[str, Any]) -> Object:
    """The Deployment without its status and all that the cluster writes.

    Fields that the stack's patches own are as they were in `before`, the copy that was kept earlier.
    """
    thing = deepcopy(live)
    fields = owned(thing)
    made: Object = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": _own(thing), "spec": thing["spec"]}
    _restore(made, before, {key: fields[key] for key in ("f:metadata", "f:spec") if key in fields})
    return made


def kept_service(live: Object) -> Object:
    """A Service without its status and all that the cluster gives it: an address of its own, unless it has none."""
    given = {"clusterIPs", "healthCheckNodePort", *(() if live["spec"].get("clusterIP") == "None" else ("clusterIP",))}
    spec = {key: value for key, value in live["spec"].items() if key not in given}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _own(live), "spec": spec}


def with_references(deployment: Object, secret: str) -> tuple[Object, dict[str, str]]:
    """The copy whose variables refer to a Secret where they held a secret, and the values that go there."""
    made, values = deepcopy(deployment), dict[str, str]()
    for env in _variables(made):
        if _is_secret(env):
            key = env["name"]
            while values.get(key, env["value"]) != env["value"]:  # another container's, of the same name
                key += "_"
            values[key] = env["value"]
            del env["value"]
            env["valueFrom"] = {"secretKeyRef": {"name": secret, "key": key}}
    return made, values


def without_secrets(deployment: Object) -> Object:
    """The copy with every value hidden that is a secret: for one that is never made again from it."""
    made = deepcopy(deployment)
    for env in _variables(made):
        if _is_secret(env):
            env["value"] = HIDDEN
    for holder, key, _ in list(secrets(made)):
        holder[key] = HIDDEN
    return made


def inline_secrets(deployment: Object) -> Iterator[str]:
    """Where a Deployment holds what looks like a secret: each variable by its name, all else by its path."""
    rest, values = with_references(deployment, "")
    yield from (f"variable {name}" for name in values)
    yield from (path for _, _, path in secrets(rest))


def secrets(thing: Any, path: str = "") -> Iterator[tuple[Any, Any, str]]:  # noqa: ANN401 - JSON of whatever shape
    """What looks like a secret anywhere in an object: what holds it, its key there, and its path."""
    pairs: list[tuple[Any, Any, str]] = []
    if isinstance(thing, dict):
        pairs = [(key, value, f"{path}.{key}".removeprefix(".")) for key, value in cast("Object", thing).items()]
    elif isinstance(thing, list):
        pairs = [(i, value, f"{path}[{i}]") for i, value in enumerate(cast("list[Any]", thing))]
    option = ""
    for key, value, where in pairs:
        if isinstance(value, str) and (looks_secret(value) or _gives_key(option, value)):
            yield thing, key, where
        option = value if isinstance(thing, list) and isinstance(value, str) else ""
        yield from secrets(value, where)


def _own(thing: Object) -> Object:
    """The metadata that somebody wrote."""
    meta = {key: value for key, value in thing["metadata"].items() if key not in _WRITTEN_BY_KUBERNETES}
    annotations = cast("dict[str, str]", meta.pop("annotations", None) or {})
    annotations = {key: value for key, value in annotations.items() if not _GENERATED.match(key)}
    return {**meta, "annotations": annotations} if annotations else meta


def _gives_key(option: str, argument: str) -> bool:
    """Whether an argument is a key: `--api-key=…`, or what follows `--api-key`."""
    name, _, value = argument.partition("=")
    own = name.startswith("-") and bool(value) and names_key(name)
    return own or (option.startswith("-") and "=" not in option and names_key(option) and not name.startswith("-"))


def _variables(deployment: Object) -> Iterator[Object]:
    pod = deployment["spec"]["template"]["spec"]
    for name in _LISTS:
        for container in items(pod, name):
            yield from items(container, "env")


def _is_secret(env: Object) -> bool:
    value = env.get("value")
    return bool(value) and (names_key(env["name"]) or looks_secret(value))


def _restore(thing: Any, before: Any, fields: Mapping[str, Any]) -> None:  # noqa: ANN401 - as above
    """Undo what a field manager owns (the `fieldsV1` of https://kubernetes.io/docs/reference/using-api/server-side-apply/)."""
    for mark, inner in fields.items():
        kind, _, name = mark.partition(":")
        if kind == "f" and isinstance(thing, dict):
            earlier = cast("Object", before) if isinstance(before, dict) else {}
            _restore_field(cast("Object", thing), earlier, name, inner)
        elif kind == "k" and isinstance(thing, list):
            known = cast("list[Object]", before) if isinstance(before, list) else []
            _restore_item(cast("list[Object]", thing), known, json.loads(name), inner)


def _restore_field(thing: Object, before: Mapping[str, Any], name: str, inner: Mapping[str, Any]) -> None:
    if name not in thing:
        return
    below = {mark: it for mark, it in inner.items() if mark != "."}
    if below:
        _restore(thing[name], before.get(name), below)
        if not thing[name] and name not in before:
            del thing[name]
    elif name in before:
        thing[name] = deepcopy(before[name])
    else:
        del thing[name]


def _restore_item(things: list[Object], before: list[Object], key: Object, inner: Mapping[str, Any]) -> None:
    def found(where: list[Object]) -> Object | None:
        return next((it for it in where if key.items() <= it.items()), None)

    thing, earlier = found(things), found(before)
    if thing is None:
        return
    below = {mark: it for mark, it in inner.items() if mark not in {".", *(f"f:{name}" for name in key)}}
    _restore(thing, earlier, below)
    if earlier is None and thing.keys() <= key.keys():
        things.remove(thing)
