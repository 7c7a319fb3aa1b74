"""From nothing to a cluster on this machine that is ready for a stack."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import contextmanager

from config.errors import UserError
from config.model import StackConfig
from config.parts import SecretKey
from local import machine, models
from local.console import say
from local.images import catalog, publish
from local.paths import Instance, cache_dir
from local.stack_state import MASTER_KEY, pulumi_environment, secret
from local.system import require_commands, require_linux_root, require_packages
from local.toolchain import Tools, ensure

POD_SECURITY = "pod-security.kubernetes.io/enforce"
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
    # curl: for the line that people go on with
    require_packages("ca-certificates", "curl", "debootstrap", *machine.PACKAGES)
    return ensure(*COMMANDS)


def bring_up(instance: Instance, tools: Tools, config: StackConfig) -> None:
    """Cluster, images, hub and what an operator's cluster has beforehand, each repaired or made as needed."""
    os.environ.update(tools.env())
    os.environ.update(pulumi_environment(instance))
    _refuse_unforwarded(config)
    models.publish(cache_dir() / "hub")
    forget_lost(instance, machine.up(instance, tools, sorted(config.nodes)))
    publish(f"http://127.0.0.1:{instance.registry_port}", catalog(tools))
    if not config.has_master_key:
        put_secret(tools, instance, config.cluster.namespace, config.gateway.master_key_secret)


def _refuse_unforwarded(config: StackConfig) -> None:
    """127.0.0.1 leads to one Service: another would come up and never be reached."""
    gateway = config.gateway
    if (gateway.deployment, config.cluster.namespace, gateway.port) != ("llm-gateway", "ai", 4000):
        raise UserError(
            "On this machine's own cluster, cluster.namespace must be ai, gateway.deployment llm-gateway and"
            " gateway.port 4000: write these, or name a context of your own."
        )


def forget_lost(instance: Instance, identity: str) -> None:
    """Drop Pulumi's state when the cluster that it describes was lost: its objects are gone."""
    kept = instance.state / "pulumi" / "cluster"
    known = kept.read_text() if kept.exists() else identity
    if known != identity:
        say("the cluster was lost, with all that stood in it: Pulumi's state of it is dropped too")
        shutil.rmtree(instance.state / "pulumi")
        os.environ.update(pulumi_environment(instance))
    if known != identity or not kept.exists():
        partial = kept.with_suffix(".part")
        partial.write_text(identity)
        partial.rename(kept)


def put_secret(tools: Tools, instance: Instance, namespace: str, where: SecretKey) -> None:
    """Put the kept master key into the cluster as an operator would have: a Secret that the stack only names."""
    manifests: list[dict[str, object]] = [
        # the API server itself then refuses a pod of ours that asks for more than it needs
        {"kind": "Namespace", "metadata": {"name": namespace, "labels": {POD_SECURITY: "restricted"}}},
        {
            "kind": "Secret",
            "metadata": {"name": where.name, "namespace": namespace},
            "stringData": {where.key: secret(instance, MASTER_KEY)},
        },
    ]
    done = subprocess.run(
        [tools.path("kubectl"), "--kubeconfig", instance.kubeconfig, "apply", "--server-side", "-f", "-"],
        input="".join(json.dumps({"apiVersion": "v1", **manifest}) + "\n" for manifest in manifests),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"The Secret {where.name} could not be put into namespace {namespace}: {done.stderr.strip()}")
