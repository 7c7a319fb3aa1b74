"""The LiteLLM gateway and its routes, in mode `deploy`: our own, one Service that users' frontends know."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment
from pulumi_kubernetes.core.v1 import ContainerArgsDict, PodSpecArgsDict, ProbeArgsDict, Service

from components.budget import GATEWAY_START_SECONDS, timeouts
from components.content import config_map
from components.pods import RESTRICTED, config_volume, metadata, pod_security, pod_template, secret_env, selector
from config.model import StackConfig
from render.document import content_hash, to_yaml
from render.litellm import litellm

KEY_ANNOTATION = "llama-chat/master-key-version"
ENDPOINT_REMOVAL_SECONDS = 8
"""How long a stopping pod goes on accepting requests, until no node sends any more."""


@dataclass(frozen=True, kw_only=True)
class GatewayRoutesArgs:
    """The stack whose models are routed."""

    config: StackConfig
    key_version: pulumi.Output[str] | None = None
    """Changes with the master key, where the stack keeps it: LiteLLM reads it at its start only."""
    after: tuple[pulumi.Resource, ...] = ()
    """The backends' smoke tests: no route leads to a backend that did not pass."""


class GatewayRoutes(pulumi.ComponentResource):
    """ConfigMap with one route a model, Deployment and Service of LiteLLM."""

    service: Service
    content: str
    """The hash of the gateway's pod; its ConfigMap's name tells its routes."""

    def __init__(self, name: str, args: GatewayRoutesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:gateway:GatewayRoutes", name, None, opts)
        config, gateway = args.config, args.config.gateway
        namespace, app = config.cluster.namespace, gateway.deployment
        files, files_map = config_map(
            f"{name}-config",
            name=gateway.config_map,
            namespace=namespace,
            app=app,
            data={"config.yaml": to_yaml(litellm(config))},
            parent=self,
        )
        longest = max(backend.grace_seconds for backend in config.backends)
        pod: PodSpecArgsDict = {
            "automount_service_account_token": False,
            "security_context": pod_security(),
            "termination_grace_period_seconds": longest + ENDPOINT_REMOVAL_SECONDS,
            "containers": [gateway_container(config, longest)],
            "volumes": [config_volume("config", files)],
        }
        self.content = content_hash(pod)
        key = {KEY_ANNOTATION: args.key_version} if args.key_version else None
        deployment = Deployment(
            f"{name}-deployment",
            metadata=metadata(namespace, app, app),
            spec={
                "replicas": 1,
                "strategy": {"type": "RollingUpdate", "rolling_update": {"max_unavailable": 0, "max_surge": 1}},
                "progress_deadline_seconds": GATEWAY_START_SECONDS,
                "revision_history_limit": 2,
                "selector": {"match_labels": selector(app)},
                "template": pod_template(app, pod, key),
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[*args.after, files_map],
                custom_timeouts=timeouts(GATEWAY_START_SECONDS + longest),
            ),
        )
        self.service = Service(
            f"{name}-service",
            metadata=metadata(namespace, app, app),
            spec={
                "selector": selector(app),
                "ports": [{"name": "http", "port": gateway.port, "target_port": "http"}],
            },
            opts=pulumi.ResourceOptions(parent=self, depends_on=[deployment]),
        )
        self.register_outputs({"service": self.service.metadata.name, "config_map": files})


def gateway_container(config: StackConfig, longest_seconds: int) -> ContainerArgsDict:
    """LiteLLM's proxy with one worker; a running answer of up to `longest_seconds` ends before the pod does."""
    port = config.gateway.port
    return {
        "name": "litellm",
        "image": config.images.litellm,
        "args": ["--config", "/etc/litellm/config.yaml", "--port", str(port)],
        "env": [
            *secret_env("LITELLM_MASTER_KEY", config.gateway.master_key_secret),
            {"name": "LITELLM_LOCAL_MODEL_COST_MAP", "value": "True"},  # else it waits for a download at each start
            {"name": "GRACEFUL_SHUTDOWN_TIMEOUT", "value": str(longest_seconds)},
            {"name": "HOME", "value": "/tmp"},  # noqa: S108 - a pod's own
        ],
        "ports": [{"name": "http", "container_port": port}],
        "resources": {"requests": {"cpu": "250m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}},
        "security_context": RESTRICTED,
        "startup_probe": probe(port, "liveliness", period_seconds=2, failures=GATEWAY_START_SECONDS // 2),
        "readiness_probe": probe(port, "readiness", period_seconds=2, failures=3),
        "liveness_probe": probe(port, "liveliness", period_seconds=15, failures=6),
        "lifecycle": {"pre_stop": {"exec_": {"command": ["sleep", str(ENDPOINT_REMOVAL_SECONDS)]}}},
        "volume_mounts": [{"name": "config", "mount_path": "/etc/litellm"}],
    }


def probe(port: int, path: str, *, period_seconds: int, failures: int) -> ProbeArgsDict:
    """LiteLLM's own probe routes; `/health` itself would call every model."""
    return {
        "http_get": {"path": f"/health/{path}", "port": port},
        "period_seconds": period_seconds,
        "timeout_seconds": 5,
        "failure_threshold": failures,
    }
