"""What pydantic found wrong with a stack file, in an operator's words."""

from difflib import get_close_matches
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from config.errors import Problem
from config.model import StackConfig
from config.secrecy import HIDDEN, MISSING, key_path, problem

_WANTED = {
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a number",
    "string_type": "must be text; put quotes around what looks like a number",
    "model_type": "must be an object with keys of its own",
    "dict_type": "must be an object with keys of its own",
    "tuple_type": "must be a list",
    "greater_than": "must be more than {gt:g}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_short": "must have at least {min_length} entry",
    "literal_error": "must be {expected}",
}


def problems(error: ValidationError) -> tuple[Problem, ...]:
    """Every schema fault of a stack file, in the order of the schema."""
    # A list with a bad entry counts as too short as well: that is said already.
    faults = (details for details in error.errors() if details["type"] != "too_short" or not details["input"])
    return tuple(_problem(details) for details in faults)


def description(field: FieldInfo) -> str:
    """What a field is: its own description, or the first line of its type's."""
    return field.description or (bare(field.annotation).__doc__ or "").partition("\n")[0].rstrip(".")


def _problem(details: ErrorDetails) -> Problem:
    # Pydantic marks a fault in a key of a mapping by one more part.
    where = tuple(part for part in details["loc"] if part != "[key]")
    owner, field = _declared(where)
    if details["type"] == "extra_forbidden":
        return Problem(key=key_path(where), value=HIDDEN, remedy=_unknown(str(where[-1]), owner))
    about = f": {description(field)}" if field else ""
    if details["type"] == "missing":
        return Problem(key=key_path(where), value=MISSING, remedy=f"is missing: add it{about}")
    return problem(where, details["input"], _wanted(details, field) + about)


def _unknown(key: str, owner: type[BaseModel]) -> str:
    known = list(owner.model_fields)
    close = get_close_matches(key, known, n=1)
    return f"is not a key here{f': did you mean {close[0]}?' if close else ':'} known keys: {', '.join(known)}"


def _wanted(details: ErrorDetails, field: FieldInfo | None) -> str:
    kind = details["type"]
    if kind == "string_pattern_mismatch":
        return f"does not have the form wanted, such as {' or '.join(_examples(field))}"
    wanted = _WANTED.get(kind, "is not what is wanted here").format(**details.get("ctx", {}))
    unquoted = kind in {"bool_type", "int_type", "float_type"} and isinstance(details["input"], str)
    return f"{wanted}, without quotes" if unquoted else wanted


def _examples(field: FieldInfo | None) -> list[str]:
    """A field's examples; those of `Form | None` stand with the form."""
    inner = [form for kind in get_args(field.annotation) for form in getattr(kind, "__metadata__", ())] if field else []
    examples = (getattr(form, "examples", None) for form in (field, *inner))
    return [str(example) for example in next(filter(None, examples), ())]


def _declared(where: tuple[str | int, ...]) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost model on the way to a key, and the innermost field."""
    owner: type[BaseModel] = StackConfig
    field: FieldInfo | None = None
    kind: Any = StackConfig
    for part in where:
        kind = bare(kind)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            owner, field = kind, kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        else:
            # `dict[key, item]` or `tuple[item, ...]`
            kind = next((item for item in reversed(get_args(kind)) if item is not Ellipsis), None)
    return owner, field


def bare(kind: Any) -> Any:  # noqa: ANN401 - a type expression is of no type of its own
    """A type without `| None`."""
    return next((item for item in get_args(kind) if type(None) in get_args(kind) and item is not type(None)), kind)
