"""No-op previews of stacks that differ in one thing, side by side on the one-machine cluster."""

import os
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from bench.command import Command, interleaved
from bench.ground import finish_jobs, ground
from bench.stacks import PROD, Stack
from config.errors import UserError
from config.load import load_file
from local import machine
from local.console import say
from local.paths import Instance
from local.system import require_linux_root
from local.toolchain import ensure
from local.uv import uv_command

FEW, MANY = 5, 500
TITLES = {
    "empty": "an empty program",
    "bare": "the same objects, none of our layers",
    "prod": "prod",
    "few": f"prod with {FEW} pool models",
    "many": f"prod with {MANY} pool models",
}


@dataclass(frozen=True, kw_only=True)
class Previews:
    """By stack, one value a round."""

    seconds: Mapping[str, Sequence[float]]
    peak_mib: Mapping[str, Sequence[float]]


def measure(instance: Instance, folder: Path, runs: int) -> Previews:
    """Apply every stack, make sure that its preview is a no-op, and measure that; the cluster is left as it was."""
    config = load_file(PROD)
    require_standing(instance)
    with environment(instance, folder, config.cluster.context):
        stacks = {name: Stack(name=name, title=title, folder=folder / name) for name, title in TITLES.items()}
        write(stacks)
        with_objects = [stack for stack in stacks.values() if stack.name != "empty"]
        with ground(config, [stack.namespace for stack in with_objects]):
            for stack in stacks.values():
                stack.apply()
            for stack in with_objects:
                finish_jobs(config.cluster.context, stack.namespace)
            return _measured({name: stack.preview for name, stack in stacks.items()}, runs)


def write(stacks: Mapping[str, Stack]) -> None:
    """Every program and its stack file."""
    stacks["empty"].write_empty()
    stacks["bare"].write_bare()
    stacks["few"].write_prod(FEW)
    stacks["many"].write_prod(MANY)
    stacks["prod"].write_prod()


def _measured(previews: Mapping[str, Command], runs: int) -> Previews:
    say("a first round, not counted: each must be a no-op")
    interleaved(previews, 1, Command.seconds)
    say(f"{runs} rounds for their time")
    seconds = interleaved(previews, runs, Command.seconds)
    say(f"{runs} rounds for their memory")
    return Previews(seconds=seconds, peak_mib=interleaved(previews, runs, Command.peak_mib))


def require_standing(instance: Instance) -> None:
    """UserError while the one-machine cluster does not stand."""
    require_linux_root()
    unwell = next(((part, detail) for part, sound, detail in machine.status(instance) if not sound), None)
    if unwell:
        raise UserError(f"The cluster {instance.name} does not stand ({unwell[0]}: {unwell[1]}): run `make up` first.")


@contextmanager
def environment(instance: Instance, folder: Path, context: str) -> Generator[None]:
    """This process's, and so that of all it starts: a Pulumi state and a kubeconfig that end with the folder."""
    kubeconfig, state = folder / "kubeconfig", folder / "state"
    kubeconfig.touch(mode=0o600)
    kubeconfig.write_text(renamed(instance.kubeconfig.read_text(), context))
    state.mkdir()
    tools = ensure("pulumi", "kubectl").env()
    # Pulumi's Python host asks uv
    path = os.pathsep.join((tools["PATH"], str(Path(uv_command()).parent)))
    before = dict(os.environ)
    os.environ.update(
        tools,
        PATH=path,
        KUBECONFIG=str(kubeconfig),
        PULUMI_BACKEND_URL=f"file://{state}",
        PULUMI_CONFIG_PASSPHRASE=secrets.token_urlsafe(16),
        PULUMI_SKIP_UPDATE_CHECK="true",
    )
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def renamed(kubeconfig: str, context: str) -> str:
    """A kubeconfig whose one context has another name."""
    document = yaml.safe_load(kubeconfig)
    (only,) = document["contexts"]
    return yaml.safe_dump({**document, "contexts": [{**only, "name": context}], "current-context": ""})
