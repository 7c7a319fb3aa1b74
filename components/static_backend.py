"""One llama-server with one pinned model on one GPU node."""

import math
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgsDict
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PersistentVolumeClaim,
    PodSpecArgsDict,
    ProbeArgsDict,
    ResourceRequirementsArgsDict,
    Service,
    VolumeArgsDict,
)

from components.budget import Budget, budget, timeouts
from components.content import config_map
from components.pods import (
    JOB_ANNOTATIONS,
    RESTRICTED,
    config_volume,
    job_spec,
    metadata,
    on_role,
    pod_security,
    pod_template,
    script_container,
    scripts,
    secret_env,
    selector,
)
from config.model import Backend, StackConfig
from render.document import content_hash, to_json
from render.llama_server import MODELS, PORT, arguments, model_record, server_record

PROBE_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class StaticBackendArgs:
    """A backend and the stack that it belongs to."""

    config: StackConfig
    backend: Backend
    after: tuple[pulumi.Resource, ...] = ()
    """What must stand before its first pod: the namespace, the node's label."""


class StaticBackend(pulumi.ComponentResource):
    """ConfigMaps, volume, prefetch Job, Deployment and Service of one pinned model.

    A model change costs one load and no download: the prefetch Job fetches into the same volume while the old pod
    still serves, and only then is the Deployment changed.
    """

    service: Service
    deployment: Deployment
    content: str
    """The hash of the server's pod: whatever changes it makes another backend."""

    def __init__(self, name: str, args: StaticBackendArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:backend:StaticBackend", name, None, opts)
        self._name, self._config, self._backend = name, args.config, args.backend
        self._namespace = args.config.cluster.namespace
        self._budget = budget(args.backend)
        model_files, model_map = self._config_map(
            "model",
            {
                "model.json": to_json(model_record(args.config, args.backend, self._budget.fetch)),
                **scripts("fetch_model.py", "model_hub.py"),
            },
        )
        server_files, server_map = self._config_map(
            "server", {"server.json": to_json(server_record(args.backend)), **scripts("drain.sh")}
        )
        volume = self._volume()
        fetched = self._prefetch(model_files, [*args.after, model_map, volume])
        pod = server_pod(args.config, args.backend, self._budget, model_files, server_files)
        self.content = content_hash(pod)
        self.deployment = Deployment(
            f"{name}-deployment",
            metadata=metadata(self._namespace, name, name),
            spec=self._deployment_spec(pod),
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=[fetched, server_map], custom_timeouts=timeouts(self._budget.rollout)
            ),
        )
        self.service = Service(
            f"{name}-service",
            metadata=metadata(self._namespace, name, name),
            spec={"selector": selector(name), "ports": [{"name": "http", "port": PORT, "target_port": "http"}]},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.deployment]),
        )
        self.register_outputs({"model": args.backend.model.name, "service": self.service.metadata.name})

    def _config_map(self, part: str, data: dict[str, str]) -> tuple[str, pulumi.Resource]:
        name = f"{self._name}-{part}"
        return config_map(name, name=name, namespace=self._namespace, app=self._name, data=data, parent=self)

    def _volume(self) -> PersistentVolumeClaim:
        storage = self._backend.storage
        return PersistentVolumeClaim(
            f"{self._name}-cache",
            # a claim binds when its first pod comes, so waiting for it here would wait forever (pulumi-kubernetes 4179)
            metadata=metadata(
                self._namespace, volume_name(self._backend), self._name, {"pulumi.com/skipAwait": "true"}
            ),
            spec={
                "access_modes": ["ReadWriteOnce"],
                "storage_class_name": storage.class_name,
                "resources": {"requests": {"storage": f"{storage.size_gib}Gi"}},
            },
            opts=pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True),
        )

    def _prefetch(self, model_files: str, after: list[pulumi.Resource]) -> Job:
        pod: PodSpecArgsDict = {
            "affinity": on_role(self._backend.role, self._backend.host),
            "automount_service_account_token": False,
            "security_context": pod_security(),
            "containers": [fetch_container(self._config, "fetch")],
            "volumes": model_volumes(self._backend, model_files),
        }
        app = f"{self._name}-fetch"
        spec = job_spec(app, pod, deadline_seconds=self._budget.fetch_job, retries=2)
        return Job(
            app,
            metadata=metadata(self._namespace, f"{app}-{content_hash(spec)}", app, JOB_ANNOTATIONS),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self, depends_on=after, custom_timeouts=timeouts(self._budget.fetch_job)
            ),
        )

    def _deployment_spec(self, pod: PodSpecArgsDict) -> DeploymentSpecArgsDict:
        return {
            "replicas": 1,
            "strategy": {"type": "Recreate"},  # the node has one GPU: the old pod must go before the new one can start
            "progress_deadline_seconds": self._budget.rollout,
            "revision_history_limit": 2,
            "selector": {"match_labels": selector(self._name)},
            "template": pod_template(self._name, pod),
        }


def volume_name(backend: Backend) -> str:
    """The claim that keeps a backend's model files."""
    return f"{backend.name}-cache"


def model_volumes(backend: Backend, model_files: str) -> list[VolumeArgsDict]:
    """The fetch script's volumes: what to fetch, and where it goes."""
    claim: VolumeArgsDict = {"name": "models", "persistent_volume_claim": {"claim_name": volume_name(backend)}}
    return [config_volume("model", model_files), claim]


def fetch_container(config: StackConfig, action: str) -> ContainerArgsDict:
    """The fetch script: `fetch` while the old pod serves, `link` just before the server starts."""
    return script_container(
        action,
        config.images.python,
        ["/model/fetch_model.py", action, "--config", "/model/model.json", "--models", MODELS],
        {"model": "/model", "models": MODELS},
        secret_env("HF_TOKEN", config.hub.token_secret),
    )


def server_pod(
    config: StackConfig, backend: Backend, deadlines: Budget, model_files: str, server_files: str
) -> PodSpecArgsDict:
    """The pod of one llama-server: link the model, load it, serve until drained."""
    return {
        "affinity": on_role(backend.role, backend.host),
        "automount_service_account_token": False,
        "security_context": pod_security(backend.gpu.supplemental_groups),
        "termination_grace_period_seconds": backend.grace_seconds,
        "init_containers": [fetch_container(config, "link")],
        "containers": [
            {
                "name": "llama-server",
                "image": config.images.llama_server,
                "args": arguments(backend),
                "env": [{"name": "HOME", "value": "/tmp"}],  # noqa: S108 - a pod's own, and the one place it may write
                "ports": [{"name": "http", "container_port": PORT}],
                "resources": server_resources(backend),
                "security_context": RESTRICTED,
                "startup_probe": probe(PROBE_SECONDS, failures=math.ceil(deadlines.startup / PROBE_SECONDS)),
                "readiness_probe": probe(PROBE_SECONDS, failures=3),
                "liveness_probe": probe(15, failures=6),
                "lifecycle": {"pre_stop": {"exec_": {"command": ["sh", "/server/drain.sh", str(PORT)]}}},
                "volume_mounts": [
                    {"name": "models", "mount_path": MODELS, "read_only": True},
                    {"name": "server", "mount_path": "/server"},
                ],
            }
        ],
        "volumes": [*model_volumes(backend, model_files), config_volume("server", server_files)],
    }


def server_resources(backend: Backend) -> ResourceRequirementsArgsDict:
    """CPU may burst; memory and the GPU are what was asked for and no more."""
    memory = {"memory": backend.resources.memory}
    gpu = {backend.gpu.resource: str(backend.gpu.count)}
    return {"requests": {"cpu": backend.resources.cpu, **memory, **gpu}, "limits": {**memory, **gpu}}


def probe(period_seconds: int, *, failures: int) -> ProbeArgsDict:
    """llama-server's `/health`: 503 while it loads, 200 when it can answer; a busy one may take seconds."""
    return {
        "http_get": {"path": "/health", "port": PORT},
        "period_seconds": period_seconds,
        "timeout_seconds": 5,
        "failure_threshold": failures,
    }
