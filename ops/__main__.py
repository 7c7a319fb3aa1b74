"""The operator's commands, as `make` calls them: `python -m ops up --stack local`."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from config.errors import UserError
from local import machine
from local.bring_up import bring_up, build_tools, sole_user
from local.console import run_command, say
from local.paths import CONTEXT, Instance, current_instance
from local.stack_state import pulumi_environment
from local.system import require_linux_root
from local.toolchain import ensure
from local.uv import uv_command
from ops.chat import QUESTION, curl_line, first_reply
from ops.engine import Engine, local_engine, own_engine, refuse_running
from ops.fit import print_fit
from ops.kube import Kube
from ops.pin import pin
from ops.preflight import preflight
from ops.smoke import smoke
from ops.stack import Stack, read_stack, stack_file
from ops.verify import print_table, verify

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)

StackName = Annotated[str, typer.Option(help="stack: Pulumi.<STACK>.yaml says what it is")]
ConfigFile = Annotated[Path | None, typer.Option(help="another file than Pulumi.<STACK>.yaml")]


@app.command()
def up(
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="apply without asking (a local stack never asks)")] = False,
) -> None:
    """Bring a stack up; the local one with everything that it stands on."""
    chosen = read_stack(stack, config_file)
    if chosen.is_local:
        _up_here(chosen)
    else:
        _engine(chosen).up(*(["--yes", "--skip-preview"] if yes else []))


@app.command()
def preview(
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    expect_no_changes: Annotated[bool, typer.Option("--expect-no-changes", help="fail where it shows any")] = False,
) -> None:
    """Show what `up` would change, after the same look at the cluster."""
    chosen = read_stack(stack, config_file)
    options = ["--diff", *(["--expect-no-changes"] if expect_no_changes else [])]
    with ExitStack() as held:
        if chosen.is_local:
            held.enter_context(sole_user(_own_machine(chosen)))
        raise typer.Exit(_engine(chosen).preview(*options))


@app.command("verify")
def run_verify(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Run the whole validation checklist against the live stack; exit 1 when a check fails."""
    chosen = read_stack(stack, config_file)
    checks = verify(chosen.config, _kube(chosen))
    print_table(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command("smoke")
def run_smoke(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Run the smoke tests of the live stack again, all models; exit 1 when one fails."""
    chosen = read_stack(stack, config_file)
    verdicts = smoke(chosen.config, _kube(chosen))
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


@app.command("pin")
def run_pin(
    stack: Annotated[str, typer.Option(help="stack: Pulumi.<STACK>.yaml is read and written")],
    *,
    update: Annotated[bool, typer.Option("--update", help="read digests anew that are there already")] = False,
) -> None:
    """Write into a stack file the digest that each image's registry reports for its tag."""
    for image in pin(stack_file(stack), update=update):
        said = "as before" if image.after == image.before else f"was {image.before}"
        say(f"{image.key}: {image.after} ({said})")


@app.command("lock")
def run_lock(
    stack: StackName = "local",
    *,
    update: Annotated[str | None, typer.Option(help="a model's name: move it to its newest revision")] = None,
) -> None:
    """Write into models.lock.yaml the commit, files and digests that the hub reports for each model of a stack."""
    from ops.lock import lock  # noqa: PLC0415 - its libraries take longer to load than other commands take

    lock(stack_file(stack), update=update)


@app.command("rename")
def run_rename(
    stack: Annotated[str, typer.Option(help="stack whose LibreChat it is about; MONGO_URI leads to its database")],
    config_file: ConfigFile = None,
    *,
    pairs: Annotated[list[str] | None, typer.Option("--map", help="old=new; once for each name")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="rename; without it, nothing is changed")] = False,
    undo: Annotated[Path | None, typer.Option(help="put back what this file of an earlier renaming tells")] = None,
) -> None:
    """Rename models in LibreChat's stored chats, presets, agents and pinned models; a dry run first."""
    from ops.rename import rename_stored, undo_renaming  # noqa: PLC0415 - only this command loads MongoDB's driver

    chosen = read_stack(stack, config_file)
    if undo is None:
        rename_stored(chosen, pairs or (), apply=apply)
    elif pairs or apply:
        raise UserError("--undo goes alone: --map and --apply are for renaming.")
    else:
        undo_renaming(undo)


@app.command()
def cluster(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Start or repair this machine's cluster, without a stack."""
    chosen = read_stack(stack, config_file)
    instance = _own_machine(chosen)
    with sole_user(instance):
        bring_up(instance, build_tools(), chosen.config)
    say(f"the cluster stands; kubeconfig: {instance.kubeconfig}")


@app.command()
def tools() -> None:
    """Build or find every tool that the local stack needs."""
    built = build_tools()
    say(f"tools stand; pulumi is {built.path('pulumi')}")


@app.command()
def down(stack: StackName = "local") -> None:
    """Remove this machine's cluster, its volumes and its state; what is cached stays."""
    instance = _own_machine(read_stack(stack))
    with sole_user(instance):
        refuse_running(instance)
        machine.down(instance)
    say(f"the cluster {instance.name} is gone")


@app.command()
def status() -> None:
    """Show what of this machine's cluster stands; exit 1 when a part does not."""
    require_linux_root()
    table = Table("part", "", "detail", box=None)
    rows = machine.status(current_instance())
    for part, sound, detail in rows:
        table.add_row(part, "[green]ok[/]" if sound else "[red]down[/]", detail)
    Console().print(table)
    if not all(sound for _, sound, _ in rows):
        raise typer.Exit(1)


def _up_here(stack: Stack) -> None:
    instance, config = _own_machine(stack), stack.config
    with sole_user(instance):
        built = build_tools()
        bring_up(instance, built, config)
        # what was repaired may lack what Pulumi set: a node that came back has lost its label
        _engine(stack).up("--yes", "--skip-preview", "--refresh")
    say(f"you: {QUESTION}")
    for model in config.exposed_names:
        say(f"{model}: {first_reply(instance, model)}")
    say("Go on with:")
    sys.stdout.write(curl_line(instance, str(built.path("kubectl")), config, config.exposed_names[0]) + "\n")


def _own_machine(stack: Stack) -> Instance:
    """This machine's cluster; UserError for a stack that runs elsewhere."""
    if not stack.is_local:
        context = stack.config.cluster.context
        raise UserError(f"Stack {stack.name} runs in context {context}: only one in {CONTEXT} has a cluster here.")
    return current_instance()


def _kube(stack: Stack, *tools: str) -> Kube:
    """Kubectl in the stack's context, with other tools that are needed beside it."""
    os.environ.update(ensure("kubectl", *tools).env())
    if stack.is_local:
        os.environ.update(pulumi_environment(current_instance()))
        os.environ.pop("PULUMI_CONFIG_PASSPHRASE", None)  # an operator's own would win over the kept one
    return Kube(context=stack.config.cluster.context, namespace=stack.config.cluster.namespace)


def _engine(stack: Stack) -> Engine:
    """Pulumi for the stack, once the cluster was found to hold all that the stack names."""
    kube = _kube(stack, "pulumi")
    # Pulumi's Python host starts the program with uv
    os.environ["PATH"] += os.pathsep + str(Path(uv_command()).parent)
    preflight(stack.config, kube, stack.name)
    print_fit(stack.config)
    engine = local_engine(stack, current_instance()) if stack.is_local else own_engine(stack)
    engine.refuse_lost_claims({backend.claim for backend in stack.config.backends})
    return engine


if __name__ == "__main__":
    run_command(app)
