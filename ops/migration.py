"""The operator's commands that move a stack along its migration, or away."""

from contextlib import ExitStack
from typing import Annotated

import typer

from local.bring_up import sole_user
from ops.at_hand import ConfigFile, agrees, engine_of, kube_of, own_machine
from ops.stack import ROOT, Stack, read_stack
from ops.worktree import Checkout

app = typer.Typer()

Moved = Annotated[str, typer.Option("--stack", help="stack: Pulumi.<STACK>.yaml says what it is")]
Agreed = Annotated[bool, typer.Option("--yes", help="without asking")]


@app.command("promote")
def run_promote(stack: Moved, config_file: ConfigFile = None) -> None:
    """Check the live stack, then write the next phase into its file and commit it; the cluster stays as it is."""
    from ops.promote import promote  # noqa: PLC0415 - what it stands on takes longer to load than other commands take

    chosen = read_stack(stack, config_file)
    promote(chosen, kube_of(chosen, "pulumi"), _checkout(chosen))


@app.command("demote")
def run_demote(
    stack: Moved,
    config_file: ConfigFile = None,
    *,
    to: Annotated[str | None, typer.Option(help="an earlier phase; without it, the one before")] = None,
) -> None:
    """Write an earlier phase into the stack's file and commit it; the cluster stays as it is."""
    from ops.promote import demote  # noqa: PLC0415 - as with promote

    chosen = read_stack(stack, config_file)
    kube_of(chosen, "pulumi")
    demote(chosen, _checkout(chosen), to)


@app.command("retire")
def run_retire(stack: Moved, config_file: ConfigFile = None, *, yes: Agreed = False) -> None:
    """Save, commit, then remove the Deployments and Services that answered before, once the migration is done."""
    from ops.retire import retire  # noqa: PLC0415 - as with promote

    chosen = read_stack(stack, config_file)
    retire(chosen, kube_of(chosen, "pulumi"), _checkout(chosen), lambda question: yes or agrees(question))


@app.command("destroy")
def run_destroy(stack: Moved, config_file: ConfigFile = None, *, yes: Agreed = False) -> None:
    """Delete all that a stack has made, but for its claims; an adopted gateway gets its own routes back first."""
    from ops.destroy import destroy  # noqa: PLC0415 - as with promote

    chosen = read_stack(stack, config_file)
    with ExitStack() as held:
        if chosen.is_local:
            held.enter_context(sole_user(own_machine(chosen)))
        kube = kube_of(chosen, "pulumi")
        destroy(chosen, engine_of(chosen), kube, ROOT, lambda question: yes or agrees(question))


def _checkout(stack: Stack) -> Checkout:
    return Checkout(folder=ROOT, file=stack.file)
