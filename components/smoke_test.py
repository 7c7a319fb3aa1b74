"""An awaited Job that asks what was just deployed, and fails the update when the answer is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import EnvVarArgsDict, PodSpecArgsDict, ServiceAccount
from pulumi_kubernetes.rbac.v1 import Role, RoleBinding

from components.budget import SMOKE_SECONDS, timeouts
from components.content import config_map
from components.gateway_routes import GatewayRoutes
from components.pods import (
    JOB_ANNOTATIONS,
    config_volume,
    job_spec,
    metadata,
    pod_security,
    script_container,
    scripts,
    secret_env,
    selector,
)
from components.static_backend import StaticBackend
from config.model import Backend, StackConfig
from render.document import Document, content_hash, to_json
from render.smoke import backend_expectation, gateway_expectation


@dataclass(frozen=True, kw_only=True)
class SmokeTestArgs:
    """What is asked, and of what."""

    config: StackConfig
    target: str
    """`backend` or `gateway`: which checks smoke.py runs."""
    expectation: Document
    """smoke.json; see render/smoke.py."""
    env: Sequence[EnvVarArgsDict] = ()
    after: tuple[pulumi.Resource, ...] = ()


class SmokeTest(pulumi.ComponentResource):
    """One smoke test; its verdict is the pod's termination message.

    The expectation names the content of the pods under test: another content is another Job, so a change is tested
    once, and the Job never takes a pod that is on its way out for the one that was just deployed.
    """

    job: Job

    def __init__(self, name: str, args: SmokeTestArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:check:SmokeTest", name, None, opts)
        namespace = args.config.cluster.namespace
        files, files_map = config_map(
            f"{name}-files",
            name=name,
            namespace=namespace,
            app=name,
            data={"smoke.json": to_json(args.expectation), **scripts("smoke.py", "smoke_client.py")},
            parent=self,
        )
        access = self._pod_access(name, namespace)
        command = ["/smoke/smoke.py", args.target, "--config", "/smoke/smoke.json"]
        pod: PodSpecArgsDict = {
            "service_account_name": name,
            "security_context": pod_security(),
            "containers": [
                script_container("smoke", args.config.images.python, command, {"smoke": "/smoke"}, args.env)
            ],
            "volumes": [config_volume("smoke", files)],
        }
        spec = job_spec(name, pod, deadline_seconds=SMOKE_SECONDS + 60, retries=0)
        self.job = Job(
            f"{name}-job",
            metadata=metadata(namespace, f"{name}-{content_hash(spec)}", name, JOB_ANNOTATIONS),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.after, *access, files_map],
                custom_timeouts=timeouts(SMOKE_SECONDS + 60),
            ),
        )
        self.register_outputs({"job": self.job.metadata.name})

    def _pod_access(self, name: str, namespace: str) -> list[pulumi.Resource]:
        """A service account that may list pods and read their logs in this namespace, and nothing else."""
        child = pulumi.ResourceOptions(parent=self)
        meta = metadata(namespace, name, name)
        account = ServiceAccount(f"{name}-account", metadata=meta, opts=child)
        role = Role(
            f"{name}-role",
            metadata=meta,
            rules=[{"api_groups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}],
            opts=child,
        )
        binding = RoleBinding(
            f"{name}-binding",
            metadata=meta,
            role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            subjects=[{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
            opts=child,
        )
        return [account, role, binding]


def pods_under_test(config: StackConfig, app: str, content: str) -> Document:
    """Which pods must answer: those of `app` that were just deployed, and no older ones."""
    labels = ",".join(f"{key}={value}" for key, value in selector(app).items())
    return {"namespace": config.cluster.namespace, "selector": labels, "content": content}


def backend_test(config: StackConfig, backend: Backend, standing: StaticBackend) -> SmokeTestArgs:
    """Ask a backend at its own Service, before any route leads to it."""
    return SmokeTestArgs(
        config=config,
        target="backend",
        expectation=backend_expectation(
            config, backend, pods_under_test(config, backend.name, standing.content), SMOKE_SECONDS
        ),
        after=(standing.service,),
    )


def gateway_test(config: StackConfig, standing: GatewayRoutes) -> SmokeTestArgs:
    """Ask the gateway for every exposed name, after its rollout."""
    return SmokeTestArgs(
        config=config,
        target="gateway",
        expectation=gateway_expectation(
            config, pods_under_test(config, config.gateway.deployment, standing.content), SMOKE_SECONDS
        ),
        env=secret_env("LITELLM_MASTER_KEY", config.gateway.master_key_secret),
        after=(standing.service,),
    )
