"""The reference of a stack file's keys, made of the models."""

from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from config.explain import bare, description
from config.model import NAMESPACE, StackConfig

_HEAD = """\
<!-- Generated: python -m config reference > docs/config.md -->
# Keys of a stack file

Each is written `{namespace}:<key>` below `config:` in `Pulumi.<stack>.yaml`. An unknown key is an error. A backend's
own `runtime`, `gpu`, `resources` and `storage` need only the values that differ from the stack's.
"""


def reference() -> str:
    """Markdown: the top-level keys, then a table for each kind of object below them."""
    parts = [_HEAD.format(namespace=NAMESPACE), _table(StackConfig)]
    for key, model in _objects():
        parts.append(f"## {key}\n\n{(model.__doc__ or '').partition(chr(10))[0]}\n\n{_table(model)}")
    return "\n".join(parts)


def _objects() -> Iterator[tuple[str, type[BaseModel]]]:
    """Every kind of object, with the first key that holds one; deeper ones after what holds them."""
    seen: set[type[BaseModel]] = set()
    waiting: list[tuple[str, type[BaseModel]]] = [("", StackConfig)]
    for key, model in waiting:  # grows while it is walked
        for name, field in model.model_fields.items():
            inner = _model(field.annotation)
            if inner and inner not in seen:
                seen.add(inner)
                path = f"{key}.{name}".removeprefix(".") + ("[]" if _is_list(field.annotation) else "")
                waiting.append((path, inner))
                yield path, inner


def _table(model: type[BaseModel]) -> str:
    rows = [f"| `{name}` | {_default(field)} | {_about(field)} |" for name, field in model.model_fields.items()]
    return "\n".join(["| key | default | what it is |", "|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is PydanticUndefined or field.default in (None, (), {}) or isinstance(field.default, BaseModel):
        return ""
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


def _about(field: FieldInfo) -> str:
    choices = [f"`{choice}`" for choice in get_args(bare(field.annotation)) if isinstance(choice, str)]
    more = f" ({', '.join(choices)})" if choices else ""
    return f"{description(field)}{more}".replace("|", "\\|")


def _model(kind: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type expression is of no type of its own
    """The model that a field holds: alone, in a list or with None beside it."""
    for part in (kind, *get_args(kind)):
        inner = bare(part)
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _is_list(kind: Any) -> bool:  # noqa: ANN401 - as above
    return Ellipsis in get_args(bare(kind))
