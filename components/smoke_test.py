"""An awaited Job that asks what was just deployed, and fails the update when the answer is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    EnvVarArgsDict,
    PodSpecArgsDict,
    VolumeArgsDict,
)
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from components.access import ACCOUNT, service_account
from components.content import config_map, job
from components.model_backend import ModelBackend
from components.pods import (
    UNPRIVILEGED,
    config_volume,
    script_container,
    scripts,
    selector,
)
from components.script_job import script_pod
from config.backend import Backend
from config.model import StackConfig
from render.document import Document, to_json
from render.smoke import backend_expectation, smoke_seconds

READABLE: list[PolicyRuleArgsDict] = [
    {"api_groups": [""], "resources": ["pods", "pods/log", "configmaps"], "verbs": ["get", "list"]},
    {"api_groups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]},
]
"""What the script may look at: the pods under test and their logs, and what earlier tests found."""

SPARE_SECONDS = 60
"""What the Job may take beside the script, whose verdict is the one to be shown."""


@dataclass(frozen=True, kw_only=True)
class SmokeTestArgs:
    """What is asked, and of what."""

    config: StackConfig
    target: str
    """`backend` or `gateway`: which checks smoke.py runs."""
    expectation: Document
    """smoke.json; see render/smoke.py."""
    seconds: int
    """The most that the script may take."""
    env: Sequence[EnvVarArgsDict] = ()
    candidate: Sequence[ContainerArgsDict] = ()
    """Sidecars: what is asked, where it runs in the test's own pod."""
    volumes: Sequence[VolumeArgsDict] = ()
    candidate_pod: PodSpecArgsDict | None = None
    """What the sidecars ask of the pod, users and all, where they are not ours."""
    after: tuple[pulumi.Resource, ...] = ()


class SmokeTest(pulumi.ComponentResource):
    """One smoke test; its verdict is the pod's termination message.

    The expectation names the content of what is under test: another content is another Job, so a change is tested
    once, and the Job never takes a pod that is on its way out for the one that was just deployed.
    """

    job: Job

    def __init__(self, name: str, args: SmokeTestArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:check:SmokeTest", name, None, opts)
        namespace = args.config.cluster.namespace
        files, files_map = config_map(
            name,
            namespace=namespace,
            app=name,
            data={"smoke.json": to_json(args.expectation), **scripts("smoke.py", "smoke_client.py", "smoke_pods.py")},
            parent=self,
        )
        access = service_account(name, namespace, READABLE, self)
        self.job = job(
            name,
            namespace=namespace,
            pod=smoke_pod(name, args, files),
            deadline_seconds=args.seconds + SPARE_SECONDS,
            parent=self,
            after=[*args.after, *access, files_map],
            # what is not ours may hold keys in plain
            hidden=args.candidate_pod is not None,
        )
        self.register_outputs({"job": self.job.metadata.name})


def smoke_pod(name: str, args: SmokeTestArgs, files: str) -> PodSpecArgsDict:
    """The script, with the service account for it alone, and what it asks beside it where that is not up yet."""
    command = ["/smoke/smoke.py", args.target, "--config", "/smoke/smoke.json", "--test", name]
    mounts = {"smoke": "/smoke", "account": ACCOUNT}
    script = script_container("smoke", args.config.images.python, command, mounts, args.env)
    pod = script_pod(name, args.config, script, config_volume("smoke", files), args.seconds + SPARE_SECONDS)
    pod["init_containers"] = list(args.candidate)
    pod["volumes"] = [*cast("list[VolumeArgsDict]", pod.get("volumes")), *args.volumes]
    if args.candidate_pod:
        script["security_context"] = UNPRIVILEGED
        pod.update(args.candidate_pod)
    return pod


def backend_test(config: StackConfig, backend: Backend, standing: ModelBackend) -> SmokeTestArgs:
    """Ask a backend at its own Service, before any route leads to it."""
    labels = ",".join(f"{key}={value}" for key, value in selector(backend.name).items())
    pods: Document = {"selector": labels, "content": standing.content, "container": standing.container}
    return SmokeTestArgs(
        config=config,
        target="backend",
        expectation=backend_expectation(config, backend, pods),
        seconds=smoke_seconds(backend),
        after=(standing.service,),
    )
