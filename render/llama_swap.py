"""llama-swap's `config.yaml`, through typed models of its schema (v250's config-schema.json).

https://github.com/mostlygeek/llama-swap/blob/v250/config-schema.json
"""

import shlex
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from config.backend import PoolBackend, Served
from render.budget import budget
from render.document import Document
from render.llama_server import SERVER_FLAGS, command_line, model_flags

COMMAND = "/app/llama-swap"
SERVER = "/app/llama-server"
"""Where the image has the server that it swaps."""
_PORT = "${PORT}"
"""llama-swap's macro: another port for each model."""

Seconds = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=to_camel, populate_by_name=True)


class SwapModel(_Part):
    """How one model's server is started, and when it is stopped."""

    cmd: str = Field(min_length=1)
    proxy: str = Field(pattern=r"^http://")
    check_endpoint: str = Field(pattern=r"^/.*$|^none$")
    ttl: int = Field(ge=-1)
    concurrency_limit: int = Field(ge=0)


class Group(_Part):
    """Models that take turns (`swap`), or that may all be loaded."""

    swap: bool
    exclusive: bool
    members: list[str]


class Matrix(_Part):
    """Which models may be loaded at the same time: `vars` are short names, `sets` expressions over them."""

    vars: dict[Annotated[str, Field(pattern=r"^[a-zA-Z0-9]{1,8}$")], str] = Field(min_length=1)
    sets: dict[str, str] = Field(min_length=1)


class RouterSettings(_Part):
    """The settings of the one router that is used."""

    groups: dict[str, Group] | None = None
    matrix: Matrix | None = None


class Router(_Part):
    """What decides which models may be loaded together."""

    use: Literal["group", "matrix"]
    settings: RouterSettings


class Routing(_Part):
    """The one place for it; the old top-level `groups` must not stand beside."""

    router: Router


class SwapConfig(_Part):
    """The whole document."""

    health_check_timeout: int = Field(ge=15)
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    log_to_stdout: Literal["proxy", "upstream", "both", "none"] = "both"  # the smoke test reads the servers' lines
    capture_buffer: Seconds = 0  # users' requests are not kept
    start_port: int = 5800
    models: dict[str, SwapModel] = Field(min_length=1)
    routing: Routing


def llama_swap(backend: PoolBackend) -> Document:
    """The document of a pool with engine llama-swap."""
    config = SwapConfig(
        health_check_timeout=budget(backend).load,
        models={served.name: _model(backend, served) for served in backend.models},
        routing=Routing(router=_router(backend)),
    )
    return config.model_dump(by_alias=True, exclude_none=True)


def _model(backend: PoolBackend, served: Served) -> SwapModel:
    line = command_line({**model_flags(backend, served), **SERVER_FLAGS})
    return SwapModel(
        # the macro stays as it is, outside any quotes
        cmd=f"{SERVER} --host 127.0.0.1 --port {_PORT} {shlex.join(line)}",
        proxy=f"http://127.0.0.1:{_PORT}",
        check_endpoint="/health",
        ttl=backend.ttl_seconds,
        # one more than slots: LibreChat asks for a title beside the first answer; more would wait unseen
        concurrency_limit=min(served.runtime.parallel + 1, backend.concurrency_limit),
    )


def _router(backend: PoolBackend) -> Router:
    names = [served.name for served in backend.models]
    if backend.max_loaded in {1, len(names)}:
        group = Group(swap=backend.max_loaded < len(names), exclusive=True, members=names)
        return Router(use="group", settings=RouterSettings(groups={"pool": group}))
    short = {f"m{index}": name for index, name in enumerate(names)}
    # so many of them, whichever: naming one twice adds nothing
    any_of_them = f"({' | '.join(short)})"
    sets = {"loaded": " & ".join([any_of_them] * backend.max_loaded)}
    return Router(use="matrix", settings=RouterSettings(matrix=Matrix(vars=short, sets=sets)))
