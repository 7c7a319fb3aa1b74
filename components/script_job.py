"""A Job that runs one of our scripts with a record of what it is to do, and rights of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvVarArgsDict, PodSpecArgsDict, VolumeArgsDict
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from components.access import ACCOUNT, service_account
from components.content import config_map, fitting, job
from components.pods import (
    SCRATCH,
    account_volume,
    config_volume,
    pod_security,
    pull_secrets,
    script_container,
    scripts,
)
from config.model import StackConfig
from render.document import to_json


@dataclass(frozen=True, kw_only=True)
class Script:
    """It lies in `/<name>/<name>.py` beside its modules, and reads `/<name>/<name>.json`."""

    name: str
    modules: tuple[str, ...]
    record: Mapping[str, object]
    rules: Sequence[PolicyRuleArgsDict]
    """What it may do in the stack's namespace."""
    env: Sequence[EnvVarArgsDict] = ()
    seconds: int
    """Its deadline."""


def script_job(
    name: str, config: StackConfig, script: Script, parent: pulumi.Resource, after: Sequence[pulumi.Resource]
) -> Job:
    """The Job, its ConfigMap and its service account, all called `name`, or as much of it as fits."""
    name = fitting(name)
    namespace, folder = config.cluster.namespace, f"/{script.name}"
    data = {f"{script.name}.json": to_json(dict(script.record)), **scripts(f"{script.name}.py", *script.modules)}
    files, files_map = config_map(name, namespace=namespace, app=name, data=data, parent=parent)
    command = [f"{folder}/{script.name}.py", "--config", f"{folder}/{script.name}.json"]
    mounts = {script.name: folder, "account": ACCOUNT}
    container = script_container(script.name, config.images.python, command, mounts, script.env)
    access = service_account(name, namespace, script.rules, parent)
    return job(
        name,
        namespace=namespace,
        pod=script_pod(name, config, container, config_volume(script.name, files), script.seconds),
        deadline_seconds=script.seconds,
        parent=parent,
        after=[*after, files_map, *access],
    )


def script_pod(
    account: str, config: StackConfig, container: ContainerArgsDict, files: VolumeArgsDict, seconds: int
) -> PodSpecArgsDict:
    """A Job's pod for a script's container, which alone has the service account, for as long as the Job may take."""
    return {
        "service_account_name": account,
        "automount_service_account_token": False,
        "security_context": pod_security(),
        "image_pull_secrets": pull_secrets(config.pull_secrets),
        "containers": [container],
        "volumes": [SCRATCH, files, account_volume("account", seconds)],
    }
