"""What differs between the configs of two updates, in plain words."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from pydantic import JsonValue

from config.model import NAMESPACE

Config = Mapping[str, JsonValue]
"""Plain values by full key, as an update's record has them: of any age, so nothing in them is sure."""
ROUTES = {f"{NAMESPACE}:statics", f"{NAMESPACE}:pools"}
PHASE = f"{NAMESPACE}:migration"


def phase(config: Config) -> str:
    """How far the migration had come."""
    return str(_mapping(config.get(PHASE)).get("phase", "parallel"))


def changed(before: Config, after: Config) -> list[str]:
    """What the second config has otherwise than the first, a phrase each; nothing where they are alike."""
    told = list(_routes(_models(before), _models(after)))
    if phase(before) != phase(after):
        told.append(f"phase {phase(before)} to {phase(after)}")
    keys = sorted(key for key in {*before, *after} if before.get(key) != after.get(key))
    # a key of routes with no route to tell of has another runtime, another size or the like
    quiet = {PHASE, *(ROUTES if told else ())}
    others = [key.removeprefix(f"{NAMESPACE}:") for key in keys if key not in quiet]
    return [*told, *([f"config: {', '.join(others)}"] if others else [])]


def _routes(before: Mapping[str, tuple[str, Config]], after: Mapping[str, tuple[str, Config]]) -> Iterator[str]:
    if added := sorted(after.keys() - before.keys()):
        yield f"adds {', '.join(added)}"
    if removed := sorted(before.keys() - after.keys()):
        yield f"removes {', '.join(removed)}"
    for name in sorted(before.keys() & after.keys()):
        (role, source), (new_role, new_source) = before[name], after[name]
        if role != new_role:
            yield f"moves {name} from {role} to {new_role}"
        if source != new_source:
            yield f"{name} from other weights"


def _models(config: Config) -> dict[str, tuple[str, Config]]:
    """Each model's name, with the role that serves it and where its weights come from."""
    found: dict[str, tuple[str, Config]] = {}
    for key in sorted(ROUTES):
        for entry in map(_mapping, _items(config.get(key))):
            models = _items(entry.get("models")) or [entry.get("model")]
            for model in filter(None, map(_mapping, models)):
                source = {part: model.get(part) for part in ("repo", "quant", "filename", "revision")}
                found[str(model.get("name"))] = (str(entry.get("role")), source)
    return found


def _items(value: object) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
