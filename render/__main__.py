"""`python -m render DOCUMENT FILE`: print a document that a stack file leads to."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from config.backend import PoolBackend
from config.errors import UserError
from config.load import load_file
from config.lock import load_lock
from render.document import to_yaml
from render.librechat import frontend_text
from render.litellm import gateway_text
from render.llama_server import router_presets
from render.llama_swap import llama_swap

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
StackFile = Annotated[Path, typer.Argument(help="stack file, such as Pulumi.local.yaml")]


@app.callback()
def documents() -> None:
    """Print a document that a stack file leads to, without Pulumi or a cluster."""


@app.command("litellm")
def print_litellm(file: StackFile) -> None:
    """Print LiteLLM's document."""
    sys.stdout.write(gateway_text(load_file(file, load_lock())))


@app.command("librechat")
def print_librechat(file: StackFile) -> None:
    """Print LibreChat's document."""
    sys.stdout.write(frontend_text(load_file(file, load_lock())))


@app.command("pool")
def print_pool(
    file: StackFile, role: Annotated[str | None, typer.Option(help="the pool's role, where there are several")] = None
) -> None:
    """Print what a pool's engine reads: llama-swap's config.yaml, or the router's presets.ini."""
    pools = load_file(file, load_lock()).pooled
    chosen = [pool for pool in pools if role in {None, pool.role}]
    if len(chosen) != 1:
        roles = ", ".join(pool.role for pool in pools) or "none"
        raise UserError(f"{file}: name one of its pools with --role: it has {roles}.")
    sys.stdout.write(_pool_text(chosen[0]))


def _pool_text(pool: PoolBackend) -> str:
    return router_presets(pool) if pool.engine == "llama-server" else to_yaml(llama_swap(pool))


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
