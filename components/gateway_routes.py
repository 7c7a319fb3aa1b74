"""The LiteLLM gateway and its routes, in mode `deploy`: our own, one Service that users' frontends know."""

from dataclasses import dataclass
from typing import NamedTuple, cast

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgsDict
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import ContainerArgsDict, EnvVarArgsDict, PodSpecArgsDict, Service, VolumeArgsDict
from pulumi_kubernetes.policy.v1 import PodDisruptionBudget

from components.connections import ENDPOINT_REMOVAL_SECONDS, hook_env, hook_files, stop_command
from components.content import config_map
from components.pods import (
    RESTRICTED,
    SCRATCH,
    SCRATCH_HOME,
    SCRATCH_MOUNT,
    config_volume,
    metadata,
    pod_security,
    pod_template,
    probe,
    pull_secrets,
    restarting,
    secret_env,
    selector,
    timeouts,
)
from components.scripts.llama_chat_connections import IDLE_SECONDS
from components.smoke_test import SmokeTest, SmokeTestArgs
from config.model import StackConfig
from render.budget import GATEWAY_START_SECONDS, SCHEDULING_SECONDS, longest_request
from render.document import content_hash, to_yaml
from render.litellm import litellm
from render.smoke import gateway_expectation

FOLDER = "/etc/litellm"
"""Where a gateway of our own has its document."""
KEEP_ALIVE_SECONDS = 75
"""Longer than chat clients keep idle connections: LibreChat's undici 4 s, httpx 5 s, nginx in between 60 s."""
ALL_AT_ONCE = "100%"
"""How many new pods may stand beside the old ones: a change, and a way back, takes one start however many there are."""
KEY_ANNOTATION = "llama-chat/master-key-version"
ROLLED_SECONDS = SCHEDULING_SECONDS + GATEWAY_START_SECONDS
"""What one new pod of the gateway may take until it is ready."""


@dataclass(frozen=True, kw_only=True)
class GatewayRoutesArgs:
    """The stack whose models are routed."""

    config: StackConfig
    key_version: pulumi.Output[str] | None = None
    """Changes with the master key, where the stack keeps it: LiteLLM reads it at its start only."""
    after: tuple[pulumi.Resource, ...] = ()
    """The backends' smoke tests: no route leads to a backend that did not pass."""
    first: bool = False
    """Whether the gateway is an adopted one that the stack has not changed yet."""


class GatewayRoutes(pulumi.ComponentResource):
    """ConfigMap with one route a model, a candidate that is asked every name, then Deployment and Service of LiteLLM.

    The candidate is a gateway of the new content in the smoke test's own pod, outside the Service: until it has passed,
    users keep the old routes.
    """

    service: Service
    ready: pulumi.Resource
    """What comes after the gateway waits for it."""
    last: tuple[pulumi.Resource, ...]
    """Once these stand, the gateway does."""

    def __init__(self, name: str, args: GatewayRoutesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:gateway:GatewayRoutes", name, None, opts)
        config, app = args.config, args.config.gateway.deployment
        self._namespace = config.cluster.namespace
        files, files_map = config_map(
            config.gateway.config_map,
            namespace=self._namespace,
            app=app,
            data={"config.yaml": to_yaml(litellm(config)), **hook_files()},
            parent=self,
        )
        candidate = self._candidate(config, files, (*args.after, files_map))
        key = {KEY_ANNOTATION: args.key_version} if args.key_version else None
        deployment = Deployment(
            f"{name}-deployment",
            metadata=metadata(self._namespace, app, app),
            spec=deployment_spec(config, files, key),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[candidate],
                # each old pod drains when the new one beside it is ready, and the next waits for neither
                custom_timeouts=timeouts(config.gateway.replicas * ROLLED_SECONDS, drain=drain_seconds(config)),
            ),
        )
        PodDisruptionBudget(
            f"{name}-budget",
            metadata=metadata(self._namespace, app, app),
            spec={"max_unavailable": 1, "selector": {"match_labels": selector(app)}},
            opts=pulumi.ResourceOptions(parent=self),
        )
        self.service = Service(
            f"{name}-service",
            metadata=metadata(self._namespace, app, app),
            spec={
                "selector": selector(app),
                "ports": [{"name": "http", "port": config.gateway.port, "target_port": "http"}],
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        self.ready = self.service
        self.last = (self.ready,)
        self.register_outputs({"service": self.service.metadata.name, "config_map": files})

    def _candidate(self, config: StackConfig, files: str, after: tuple[pulumi.Resource, ...]) -> Job:
        container = litellm_container(config)
        # a sidecar: it starts first, and ends when the test does
        candidate: ContainerArgsDict = {**container, "restart_policy": "Always"}
        content, volume = content_hash([container, hook_files()]), config_volume("config", files)
        ours = Candidate([candidate], [volume], content, config.gateway.port)
        return SmokeTest(*candidate_test(config, ours, after), pulumi.ResourceOptions(parent=self)).job


class Candidate(NamedTuple):
    """A gateway with the new routes, for a pod that no Service knows."""

    containers: list[ContainerArgsDict]
    volumes: list[VolumeArgsDict]
    content: str
    """The hash of all but its routes."""
    port: int
    pod: PodSpecArgsDict | None = None
    """What it asks of the pod around it, where it is not ours."""


def candidate_test(
    config: StackConfig, candidate: Candidate, after: tuple[pulumi.Resource, ...]
) -> tuple[str, SmokeTestArgs]:
    """Name and arguments of the test that asks a candidate for every name."""
    expectation = gateway_expectation(config, f"http://127.0.0.1:{candidate.port}", candidate.content)
    asked = cast("list[dict[str, int]]", expectation["models"])
    return f"{config.gateway.deployment}-smoke", SmokeTestArgs(
        config=config,
        target="gateway",
        expectation=expectation,
        seconds=GATEWAY_START_SECONDS + sum(name["deadline_seconds"] for name in asked),
        env=secret_env("LITELLM_MASTER_KEY", config.gateway.master_key_secret),
        candidate=candidate.containers,
        volumes=candidate.volumes,
        candidate_pod=candidate.pod,
        after=after,
    )


def drain_seconds(config: StackConfig) -> int:
    """The pods' grace period.

    Requests go on coming until no node sends any more; each may be the longest. On a connection that its client keeps
    another one, the last, may come before it lay idle.
    """
    return last_answer_seconds(config) + IDLE_SECONDS + longest_request(config)


def last_answer_seconds(config: StackConfig) -> int:
    """What a pod without our hook may take to end: each of its connections ends with the answer that is under way."""
    return longest_request(config) + 2 * ENDPOINT_REMOVAL_SECONDS


def deployment_spec(
    config: StackConfig, files: str, annotations: dict[str, pulumi.Output[str]] | None
) -> DeploymentSpecArgsDict:
    """As many pods as the stack says, and never fewer while they change."""
    app = config.gateway.deployment
    pod: PodSpecArgsDict = {
        "automount_service_account_token": False,
        "security_context": pod_security(),
        "image_pull_secrets": pull_secrets(config.pull_secrets),
        "termination_grace_period_seconds": drain_seconds(config),
        "containers": [gateway_container(config)],
        "volumes": [SCRATCH, config_volume("config", files)],
        "topology_spread_constraints": [
            {
                "max_skew": 1,
                "topology_key": "kubernetes.io/hostname",
                "when_unsatisfiable": "ScheduleAnyway",
                "label_selector": {"match_labels": selector(app)},
            }
        ],
    }
    return {
        "replicas": config.gateway.replicas,
        "strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0, "max_surge": ALL_AT_ONCE}},
        "progress_deadline_seconds": ROLLED_SECONDS,
        "revision_history_limit": 2,
        "selector": {"match_labels": selector(app)},
        "template": pod_template(app, pod, annotations),
    }


def litellm_container(config: StackConfig, *env: EnvVarArgsDict) -> ContainerArgsDict:
    """LiteLLM's proxy with one worker, as both the candidate and the gateway run it."""
    port = config.gateway.port
    return {
        "name": "litellm",
        "image": config.images.litellm,
        "args": ["--config", f"{FOLDER}/config.yaml", "--port", str(port)],
        "env": [
            *secret_env("LITELLM_MASTER_KEY", config.gateway.master_key_secret),
            {"name": "LITELLM_LOCAL_MODEL_COST_MAP", "value": "True"},  # else it waits for a download at each start
            SCRATCH_HOME,
            *cast("list[EnvVarArgsDict]", hook_env(FOLDER) if config.gateway.close_connections else ()),
            *env,
        ],
        "ports": [{"name": "http", "container_port": port}],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "security_context": RESTRICTED,
        "volume_mounts": [SCRATCH_MOUNT, {"name": "config", "mount_path": FOLDER}],
    }


def gateway_container(config: StackConfig) -> ContainerArgsDict:
    """The gateway's own: probed, and drained so that every running answer ends before its pod does."""
    port = config.gateway.port
    return {
        **litellm_container(config, *connection_env(config)),
        # LiteLLM's own probe routes: `/health` itself would call every model
        "startup_probe": restarting(port, "/health/liveliness", period_seconds=2, failures=GATEWAY_START_SECONDS // 2),
        "readiness_probe": probe(port, "/health/readiness", period_seconds=2, failures=3),
        "liveness_probe": restarting(port, "/health/liveliness"),
        "lifecycle": {"pre_stop": {"exec_": {"command": stop_command()}}},
    }


def connection_env(config: StackConfig) -> list[EnvVarArgsDict]:
    """When LiteLLM's server closes connections: none before its answer, and no idle one before its client does.

    A request that goes out while the server closes an idle connection is lost; by default it does so after 5 s.
    """
    seconds = {"GRACEFUL_SHUTDOWN_TIMEOUT": longest_request(config), "KEEPALIVE_TIMEOUT": KEEP_ALIVE_SECONDS}
    return [{"name": name, "value": str(value)} for name, value in seconds.items()]
