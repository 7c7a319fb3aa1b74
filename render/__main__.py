"""`python -m render litellm FILE`: print the document that a stack file leads to."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from config.errors import UserError
from config.load import load_file
from render.document import to_yaml
from render.litellm import litellm

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback()
def documents() -> None:
    """Print a document that a stack file leads to, without Pulumi or a cluster."""


@app.command("litellm")
def print_litellm(file: Annotated[Path, typer.Argument(help="stack file, such as Pulumi.local.yaml")]) -> None:
    """Print LiteLLM's config.yaml."""
    sys.stdout.write(to_yaml(litellm(load_file(file))))


if __name__ == "__main__":
    try:
        app()
    except UserError as error:
        sys.exit(str(error))
