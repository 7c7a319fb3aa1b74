"""The operator's commands, as `make` calls them: `python -m ops up --stack local`."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from config.errors import UserError
from config.kubeconfig import require_context
from local import machine
from local.bring_up import bring_up, build_tools, sole_user
from local.console import run_command, say
from local.paths import current_instance
from local.system import require_linux_root
from ops import migration
from ops.adopt import adopt
from ops.at_hand import (
    ConfigFile,
    Overwrite,
    StackName,
    agrees,
    checked_engine,
    engine_of,
    kube_of,
    own_machine,
    updating_engine,
)
from ops.chat import QUESTION, curl_line, first_reply
from ops.engine import refuse_running
from ops.pin import pin
from ops.smoke import smoke
from ops.stack import ROOT, Stack, read_stack, read_unadopted, stack_file
from ops.verify import print_table, verify
from ops.worktree import Checkout
from render.litellm import gateway_routes

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)
app.add_typer(migration.app)


@app.command()
def up(
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="apply without asking (a local stack never asks)")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Bring a stack up; the local one with everything that it stands on."""
    chosen = read_stack(stack, config_file)
    if chosen.is_local:
        _up_here(chosen, overwrite=overwrite)
    else:
        updating_engine(chosen, overwrite=overwrite).up(*(["--yes", "--skip-preview"] if yes else []))


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
            held.enter_context(sole_user(own_machine(chosen)))
        raise typer.Exit(checked_engine(chosen).preview(*options))


@app.command("verify")
def run_verify(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Run the whole validation checklist against the live stack; exit 1 when a check fails."""
    chosen = read_stack(stack, config_file)
    checks = verify(chosen.config, kube_of(chosen))
    print_table(checks)
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command("smoke")
def run_smoke(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Run the smoke tests of the live stack again, all models; exit 1 when one fails."""
    chosen = read_stack(stack, config_file)
    verdicts = smoke(chosen.config, kube_of(chosen))
    if not all(verdict.ok for verdict in verdicts):
        raise typer.Exit(1)


@app.command("adopt")
def run_adopt(
    stack: Annotated[str, typer.Option(help="stack: Pulumi.<STACK>.yaml names what is adopted")],
    config_file: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="put keys into their Secret without asking")] = False,
) -> None:
    """Read the LiteLLM and LibreChat that run, and write legacy/<STACK>/ and the stack file's legacy part."""
    chosen = read_unadopted(stack, config_file)
    kube = kube_of(chosen)
    require_context(kube.context)
    adopt(chosen, kube, lambda question: yes or agrees(question))


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


@app.command("history")
def run_history(
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    last: Annotated[int, typer.Option(min=1, help="how many updates, counted from the newest")] = 30,
) -> None:
    """List what was applied when, of which commit, what it changed, and whether a rollback can go there."""
    from ops.updates import show_history  # noqa: PLC0415 - as with lock

    chosen = read_stack(stack, config_file)
    kube_of(chosen, "pulumi")
    show_history(chosen.name, Checkout(folder=ROOT, file=chosen.file), last)


@app.command("rollback")
def run_rollback(  # noqa: PLR0913 - each is an option of its own
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    to: Annotated[str | None, typer.Option(help="a commit, or a time: what stood then; else the update before")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="a key of the stack file that stays as it is today")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show it, and change nothing")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="roll back without asking")] = False,
    allow_deletes: Annotated[
        bool, typer.Option("--allow-deletes", help="let claims, namespaces, providers and what is protected go")
    ] = False,
    online: Annotated[bool, typer.Option("--online", help="fetch packages that uv's cache lacks")] = False,
) -> None:
    """Bring a stack back to an earlier update, and hold it there until `resume`."""
    from ops.restored_checks import look_first, smoke_there  # noqa: PLC0415 - as with lock
    from ops.rollback import Wishes, roll_back  # noqa: PLC0415

    chosen = read_stack(stack, config_file)
    wishes = Wishes(
        to=to, dry_run=dry_run, agreed=yes, allow_deletes=allow_deletes, online=online, keep=tuple(keep or ())
    )
    with ExitStack() as held:
        if chosen.is_local:
            held.enter_context(sole_user(own_machine(chosen)))
        kube = kube_of(chosen, "pulumi")
        roll_back(
            engine_of(chosen),
            Checkout(folder=ROOT, file=chosen.file),
            wishes,
            before=partial(look_first, kube),
            after=smoke_there,
        )


@app.command("resume")
def run_resume(
    stack: StackName = "local",
    config_file: ConfigFile = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="apply without asking (a local stack never asks)")] = False,
    overwrite: Overwrite = False,
) -> None:
    """Lift a rollback's hold: apply this checkout, after a preview."""
    from ops.hold import lift  # noqa: PLC0415 - as with lock

    chosen = read_stack(stack, config_file)
    with ExitStack() as held:
        if chosen.is_local:
            held.enter_context(sole_user(own_machine(chosen)))
        lift(updating_engine(chosen, overwrite=overwrite), agreed=yes or chosen.is_local)


@app.command()
def cluster(stack: StackName = "local", config_file: ConfigFile = None) -> None:
    """Start or repair this machine's cluster, without a stack."""
    chosen = read_stack(stack, config_file)
    instance = own_machine(chosen)
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
    instance = own_machine(read_stack(stack))
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


def _up_here(stack: Stack, *, overwrite: bool) -> None:
    instance, config = own_machine(stack), stack.config
    with sole_user(instance):
        built = build_tools()
        bring_up(instance, built, config)
        updating_engine(stack, overwrite=overwrite).up("--yes", "--skip-preview")
    say(f"you: {QUESTION}")
    # what only an adopted document knows may cost, or be no chat model
    names = [it.name for it in gateway_routes(config) if it.api_base and not it.hidden]
    for model in names:
        say(f"{model}: {first_reply(instance, model)}")
    say("Go on with:")
    sys.stdout.write(curl_line(instance, str(built.path("kubectl")), config, names[0]) + "\n")


if __name__ == "__main__":
    run_command(app)
