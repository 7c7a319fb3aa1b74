"""From nothing to a cluster on this machine that is ready for a stack."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager

from config.errors import UserError
from config.model import SecretKey
from local import machine, models
from local.images import catalog, publish
from local.paths import Instance, cache_dir
from local.stack_state import MASTER_KEY, pulumi_environment, secret
from local.system import require_commands, require_linux_root
from local.toolchain import Tools, ensure

COMMANDS = (
    "pulumi",
    "kubectl",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "coredns",
    "llama-server",
    "pause",
)


@contextmanager
def sole_user(instance: Instance) -> Generator[None]:
    """One command at a time may change an instance; a killed one leaves no lock behind."""
    instance.state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (instance.state.parent / f"{instance.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"Another command is changing the cluster {instance.name}: wait for it to end.") from None
        yield


def build_tools() -> Tools:
    """Everything that is compiled; UserError names what the machine lacks before anything long starts."""
    require_linux_root()
    require_commands({"gcc": "apt-get install gcc", "g++": "apt-get install g++"})
    return ensure(*COMMANDS)


def bring_up(instance: Instance, tools: Tools, nodes: Mapping[str, str]) -> None:
    """Cluster, images and hub, each repaired or made as needed; `nodes` maps a role to its host."""
    os.environ.update(tools.env())
    os.environ.update(pulumi_environment(instance))
    models.publish(cache_dir() / "hub")
    forget_lost(instance, machine.up(instance, tools, sorted(nodes)))
    publish(f"http://127.0.0.1:{instance.registry_port}", catalog(tools))


def forget_lost(instance: Instance, identity: str) -> None:
    """Drop Pulumi's state when the cluster that it describes was lost: its objects are gone."""
    kept = instance.state / "pulumi" / "cluster"
    if kept.exists() and kept.read_text() != identity:
        shutil.rmtree(instance.state / "pulumi")
        os.environ.update(pulumi_environment(instance))
    kept.write_text(identity)


def put_secret(
    tools: Tools, instance: Instance, namespace: str, where: SecretKey, value_name: str = MASTER_KEY
) -> None:
    """Put a kept random value into the cluster as an operator would have: a Secret that the stack only names."""
    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": where.name, "namespace": namespace},
        "stringData": {where.key: secret(instance, value_name)},
    }
    subprocess.run(
        [tools.path("kubectl"), "--kubeconfig", instance.kubeconfig, "apply", "--server-side", "-f", "-"],
        input=json.dumps(manifest),
        text=True,
        check=True,
        stdout=subprocess.DEVNULL,
    )
