"""What a command needs of its stack: its cluster, its Pulumi, and the person at the terminal."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from config.errors import UserError
from local.paths import CONTEXT, Instance, current_instance
from local.stack_state import pulumi_environment
from local.toolchain import ensure
from local.uv import uv_command
from ops.ended_pods import remove_ended_pods
from ops.engine import Engine, local_engine, own_engine
from ops.fit import print_fit
from ops.kube import Kube
from ops.preflight import preflight
from ops.stack import Stack

StackName = Annotated[str, typer.Option(help="stack: Pulumi.<STACK>.yaml says what it is")]
ConfigFile = Annotated[Path | None, typer.Option(help="another file than Pulumi.<STACK>.yaml")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="write over what somebody else has changed in an adopted document")
]


def own_machine(stack: Stack) -> Instance:
    """This machine's cluster; UserError for a stack that runs elsewhere."""
    if not stack.is_local:
        context = stack.config.cluster.context
        raise UserError(f"Stack {stack.name} runs in context {context}: only one in {CONTEXT} has a cluster here.")
    return current_instance()


def kube_of(stack: Stack, *tools: str) -> Kube:
    """Kubectl in the stack's context, with other tools that are needed beside it."""
    os.environ.update(ensure("kubectl", *tools).env())
    if stack.is_local:
        os.environ.update(pulumi_environment(current_instance()))
        os.environ.pop("PULUMI_CONFIG_PASSPHRASE", None)  # an operator's own would win over the kept one
    return Kube(context=stack.config.cluster.context, namespace=stack.config.cluster.namespace)


def agrees(question: str) -> bool:
    """What the person at the terminal says; UserError where there is none."""
    if not sys.stdin.isatty():
        raise UserError(f"{question} Nobody is there to answer: run it again with YES=1.")
    return typer.confirm(question, err=True)


def checked_engine(stack: Stack, *, overwrite: bool = False) -> Engine:
    """Pulumi for the stack, once the cluster was found to hold all that the stack names."""
    kube = kube_of(stack, "pulumi")
    preflight(stack.config, kube, stack.name, overwrite=overwrite)
    print_fit(stack.config)
    engine = engine_of(stack)
    engine.refuse_lost_claims({backend.claim for backend in stack.config.backends})
    return engine


def updating_engine(stack: Stack, *, overwrite: bool) -> Engine:
    """The same for an update, with what would stand in its way removed."""
    engine = checked_engine(stack, overwrite=overwrite)
    remove_ended_pods(kube_of(stack))
    return engine


def engine_of(stack: Stack) -> Engine:
    """Pulumi for the stack, whatever the cluster has."""
    # Pulumi's Python host starts the program with uv
    os.environ["PATH"] += os.pathsep + str(Path(uv_command()).parent)
    return local_engine(stack, current_instance()) if stack.is_local else own_engine(stack)
