"""`python -m config`: check stack files, and print what is made of their shape."""

import json
from pathlib import Path
from typing import Annotated

import typer

from config.errors import UserError
from config.load import load_file
from config.lock import load_lock
from config.lock_policy import warnings
from config.model import StackConfig
from config.reference import reference
from config.schema import project_text, stack_schema

app = typer.Typer(
    help="Stack files of llama-chat.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)


@app.command()
def check(files: Annotated[list[Path], typer.Argument(help="stack files, Pulumi.<stack>.yaml")]) -> None:
    """Check stack files as `pulumi up` will; one line a problem."""
    failed = False
    for file in files:
        try:
            config = load_file(file, load_lock())
        except UserError as error:
            failed = True
            typer.echo(str(error), err=True)
        else:
            for warning in warnings(config):
                typer.echo(f"{file}: warning: {warning}", err=True)
            typer.echo(f"{file}: ok, {len(config.exposed_names)} models: {_where(config)}")
    raise typer.Exit(1 if failed else 0)


def _where(config: StackConfig) -> str:
    return ", ".join(
        f"{' '.join(served.name for served in backend.models)} on {backend.host}" for backend in config.backends
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of a stack file, for editors."""
    typer.echo(json.dumps(stack_schema(), indent=2))


@app.command()
def project() -> None:
    """Print Pulumi.yaml."""
    typer.echo(project_text(), nl=False)


@app.command("reference")
def print_reference() -> None:
    """Print the reference of all keys, as Markdown."""
    typer.echo(reference(), nl=False)


if __name__ == "__main__":
    app()
