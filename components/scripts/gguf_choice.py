"""Which files of a repository a model triple means: one GGUF, or all shards of one.

Lies beside fetch_model.py in pods, and is what `make lock` asks, too: nothing but the standard library of Python 3.9
or newer.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)  # as gguf-split names them
_LISTED = 12


class Unclear(Exception):  # noqa: N818 - it is a verdict, not a fault of the program
    """No one model is meant: what there is, and what to do."""


def choose(paths: Iterable[str], quant: str, filename: str | None) -> list[str]:
    """The one model's files, shards in order; Unclear where none or several are meant, or a shard is missing."""
    models: dict[str, list[str]] = {}
    for path in sorted(paths):
        name = PurePosixPath(path).name.casefold()
        if name.endswith(".gguf") and "mmproj" not in name:
            shard = _SHARD.fullmatch(path)
            models.setdefault(f"{shard['stem']}/{shard['count']}" if shard else path, []).append(path)
    if filename:
        what, found = f"file {filename}", [model for model in models.values() if filename in model]
    else:
        what, found = f"GGUF of quant {quant}", [model for model in models.values() if has_quant(model[0], quant)]
    if len(found) != 1:
        names = _names(found or models.values())
        raise Unclear(f"has {'several' if found else 'no'} {what}: set filename to one of: {names}")
    model = found[0]
    shard = _SHARD.fullmatch(model[0])
    if shard and len(model) != int(shard["count"]):
        raise Unclear(f"has {len(model)} of {int(shard['count'])} shards of {shard['stem']}: set another revision")
    return model


def has_quant(path: str, quant: str) -> bool:
    """Whether a file's name holds the quant as a whole token: `Q4_K_M` is neither `Q4_K_M_L` nor `IQ4_K_M`."""
    return quant.casefold() in re.split(r"[-.]", PurePosixPath(path).name.casefold())


def is_shard(path: str) -> bool:
    """Whether it is one file of a split GGUF, which the loader finds by its own name alone."""
    return bool(_SHARD.fullmatch(path))


def _names(models: Iterable[list[str]]) -> str:
    names = [model[0] for model in models]
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "") if names else "(it has no GGUF)"
