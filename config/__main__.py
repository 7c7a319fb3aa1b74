"""`python -m config`: check stack files, and print what is made of their shape."""

import json
from pathlib import Path
from typing import Annotated

import typer

from config.errors import UserError
from config.load import load_file
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
            config = load_file(file)
        except UserError as error:
            failed = True
            typer.echo(str(error), err=True)
        else:
            backends = ", ".join(f"{backend.model.name} on {backend.host}" for backend in config.backends)
            count = len(config.backends)
            typer.echo(f"{file}: ok, {count} backend{'s' if count > 1 else ''}: {backends}")
    raise typer.Exit(1 if failed else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of a stack file, for editors."""
    typer.echo(json.dumps(stack_schema(), indent=2))


@app.command()
def project() -> None:
    """Print Pulumi.yaml."""
    typer.echo(project_text(), nl=False)


if __name__ == "__main__":
    app()
