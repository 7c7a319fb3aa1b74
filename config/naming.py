"""What a chat user may be shown as a model's name: the model's own, each once, never a role."""

import re
from collections.abc import Iterator

from config.errors import Problem
from config.model import StackConfig
from config.parts import Model
from config.secrecy import key_path, problem

ALIASES = (
    "general",
    "chat",
    "code",
    "coder",
    "reasoning",
    "default",
    "main",
    "fast",
    "smart",
    "small",
    "large",
    "best",
    "assistant",
)
"""Names of what a model is for, not of what it is; each also with the affixes below around it."""

_ALIAS = re.compile(rf"(vllm-)?({'|'.join(ALIASES)})(-chat|-model)*", re.IGNORECASE)

Where = tuple[str | int, ...]


def is_alias(name: str) -> bool:
    """Whether a name is a role alias, in any case, with or without `vllm-`, `-chat` and `-model` around it."""
    return _ALIAS.fullmatch(name) is not None


def models(config: StackConfig) -> Iterator[tuple[Where, Model]]:
    """Every model of a stack, statics first, with where it stands."""
    for i, static in enumerate(config.statics):
        yield ("statics", i, "model"), static.model
    for i, pool in enumerate(config.pools):
        for j, model in enumerate(pool.models):
            yield ("pools", i, "models", j), model


def name_taken(config: StackConfig) -> Iterator[Problem]:
    """Two models with one name: the gateway routes by name, and some clients fold its case."""
    first: dict[str, Where] = {}
    for where, model in models(config):
        holder = first.setdefault(model.name.casefold(), where)
        if holder != where:
            remedy = f"is the name of {key_path(holder)} too (case does not count): give each model a name of its own"
            yield problem((*where, "name"), model.name, remedy)


def alias_as_name(config: StackConfig) -> Iterator[Problem]:
    """A role alias as a model's name: users pick models, not roles."""
    for where, model in models(config):
        if is_alias(model.name):
            remedy = "is a role, not a model: write the model's own name, such as GLM-4.7-Flash"
            yield problem((*where, "name"), model.name, remedy)
