"""What every backend is made of, whichever engine serves its models on its node."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

import pulumi
from pulumi_kubernetes.apps.v1 import Deployment, DeploymentSpecArgsDict
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import (
    ContainerArgsDict,
    PersistentVolumeClaim,
    PodSpecArgsDict,
    ResourceRequirementsArgsDict,
    Service,
    VolumeArgsDict,
)

from components.content import config_map, job
from components.pods import (
    RESTRICTED,
    SCRATCH,
    SCRATCH_HOME,
    SCRATCH_MOUNT,
    config_volume,
    metadata,
    on_role,
    pod_security,
    pod_template,
    probe,
    pull_secrets,
    restarting,
    script_container,
    scripts,
    secret_env,
    selector,
    timeouts,
    tolerations,
)
from config.backend import Backend
from config.model import StackConfig
from config.parts import NO_GPU
from render.budget import Budget, budget
from render.document import content_hash, to_json
from render.llama_server import CATALOG, MODELS, PORT, fetch_record, server_record

PROBE_SECONDS = 5
FETCH_SCRIPTS = (
    *("fetch_model.py", "gguf_choice.py", "model_download.py", "model_files.py"),
    *("model_hub.py", "model_record.py", "model_space.py", "model_volume.py"),
)
_B_co = TypeVar("_B_co", bound=Backend, covariant=True)


@dataclass(frozen=True, kw_only=True)
class BackendArgs(Generic[_B_co]):
    """A backend and the stack that it belongs to."""

    config: StackConfig
    backend: _B_co
    after: tuple[pulumi.Resource, ...] = ()
    """What must stand before its first pod: the namespace, the node's label."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """The process that serves a backend's models."""

    container: str
    """The container's name."""
    engine: Literal["llama-server", "router", "llama-swap"]
    """What drain.sh asks whether it is idle."""
    args: list[str]
    command: list[str] = field(default_factory=list[str])
    """Empty where the image's entrypoint is the server."""
    documents: Mapping[str, str] = field(default_factory=dict[str, str])
    """What it reads, by file name, below `CATALOG`."""


class ModelBackend(pulumi.ComponentResource):
    """ConfigMaps, volume, prefetch Job, Deployment and Service of one backend.

    A model change costs one load and no download: the prefetch Job fetches into the same volume while the old pod
    still serves, and only then is the Deployment changed.
    """

    service: Service
    deployment: Deployment
    content: str
    """The hash of the server's pod: whatever changes it makes another backend."""
    container: str
    """The server's container, whose log tells what it does."""

    def __init__(
        self, name: str, args: BackendArgs[Backend], server: Server, opts: pulumi.ResourceOptions | None
    ) -> None:
        # one type for all: a role that turns from a static backend into a pool keeps its volume and its Service
        super().__init__("llama-chat:backend:ModelBackend", name, None, opts)
        config, backend = args.config, args.backend
        self._name, self._config, self._backend = name, config, backend
        self._namespace = config.cluster.namespace
        self._budget = budget(backend)
        models, models_map = self._config_map(
            "models",
            {"models.json": to_json(fetch_record(config, backend)), **scripts(*FETCH_SCRIPTS)},
        )
        documents, documents_map = self._config_map(
            "server", {"server.json": to_json(server_record(backend)), **server.documents, **scripts("drain.sh")}
        )
        volume = self._volume()
        fetched = self._prefetch(models, [*args.after, models_map, volume])
        pod = server_pod(config, backend, server, models, documents)
        self.content, self.container = content_hash(pod), server.container
        self.deployment = Deployment(
            f"{name}-deployment",
            metadata=metadata(self._namespace, name, name),
            spec=self._deployment_spec(pod),
            opts=pulumi.ResourceOptions(
                parent=self,
                depends_on=[fetched, documents_map],
                custom_timeouts=timeouts(self._budget.rollout, drain=self._budget.drain),
            ),
        )
        self.service = Service(
            f"{name}-service",
            metadata=metadata(self._namespace, name, name),
            spec={"selector": selector(name), "ports": [{"name": "http", "port": PORT, "target_port": "http"}]},
            opts=pulumi.ResourceOptions(parent=self, depends_on=[self.deployment]),
        )
        names = [served.name for served in backend.models]
        self.register_outputs({"models": names, "service": self.service.metadata.name})

    def _config_map(self, part: str, data: dict[str, str]) -> tuple[str, pulumi.Resource]:
        name = f"{self._name}-{part}"
        return config_map(name, namespace=self._namespace, app=self._name, data=data, parent=self)

    def _volume(self) -> PersistentVolumeClaim:
        return PersistentVolumeClaim(
            self._backend.claim,
            # a claim binds when its first pod comes, so waiting for it here would wait forever (pulumi-kubernetes 4179)
            metadata=metadata(self._namespace, self._backend.claim, self._name, {"pulumi.com/skipAwait": "true"}),
            spec={
                "access_modes": ["ReadWriteOnce"],
                "storage_class_name": self._backend.storage_class,
                "resources": {"requests": {"storage": f"{self._backend.volume_gib}Gi"}},
            },
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=True,
                retain_on_delete=True,
                # a size that only follows from the models would shrink with them, which no claim can
                ignore_changes=None if self._backend.volume_given else ["spec.resources.requests.storage"],
            ),
        )

    def _prefetch(self, models: str, after: list[pulumi.Resource]) -> Job:
        pod: PodSpecArgsDict = {
            "automount_service_account_token": False,
            "security_context": pod_security(),
            "containers": [fetch_container(self._config, "fetch")],
            "volumes": model_volumes(self._backend, models),
        }
        return job(
            f"{self._name}-fetch",
            namespace=self._namespace,
            pod=on_its_node(self._backend, pod),
            deadline_seconds=self._budget.fetch_job,
            parent=self,
            after=after,
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


def model_volumes(backend: Backend, models: str) -> list[VolumeArgsDict]:
    """The fetch script's volumes: what to fetch, and where it goes."""
    claim: VolumeArgsDict = {"name": "models", "persistent_volume_claim": {"claim_name": backend.claim}}
    return [SCRATCH, config_volume("catalog", models), claim]


def on_its_node(backend: Backend, pod: PodSpecArgsDict) -> PodSpecArgsDict:
    """A pod of a backend, on the node that has its role."""
    return {
        **pod,
        "affinity": on_role(backend.role, backend.host),
        "tolerations": tolerations(backend.tolerations),
        "image_pull_secrets": pull_secrets(backend.pull_secrets),
    }


def fetch_container(config: StackConfig, action: str) -> ContainerArgsDict:
    """The fetch script: `fetch` while the old pod serves, `link` just before the server starts."""
    return script_container(
        action,
        config.images.python,
        ["/catalog/fetch_model.py", action, "--config", "/catalog/models.json", "--models", MODELS],
        {"catalog": "/catalog", "models": MODELS},
        secret_env("HF_TOKEN", config.hub.token_secret),
    )


def server_pod(config: StackConfig, backend: Backend, server: Server, models: str, documents: str) -> PodSpecArgsDict:
    """The pod of one backend: link the models, start the server, serve until drained."""
    deadlines = budget(backend)
    pod: PodSpecArgsDict = {
        "automount_service_account_token": False,
        "security_context": pod_security(backend.gpu.supplemental_groups),
        "termination_grace_period_seconds": deadlines.drain,
        "init_containers": [fetch_container(config, "link")],
        "containers": [server_container(backend, server, deadlines)],
        "volumes": [*model_volumes(backend, models), config_volume("server", documents)],
    }
    if backend.gpu.runtime_class:
        pod["runtime_class_name"] = backend.gpu.runtime_class
    return on_its_node(backend, pod)


def server_container(backend: Backend, server: Server, deadlines: Budget) -> ContainerArgsDict:
    """The engine: its image's entrypoint with arguments, unless it names a command."""
    startup_probes = math.ceil(deadlines.startup / PROBE_SECONDS)
    container: ContainerArgsDict = {
        "name": server.container,
        "image": backend.image,
        "args": server.args,
        "env": [SCRATCH_HOME],
        "ports": [{"name": "http", "container_port": PORT}],
        "resources": server_resources(backend),
        "security_context": RESTRICTED,
        # `/health` of any engine: not 200 while it cannot answer
        "startup_probe": restarting(PORT, "/health", period_seconds=PROBE_SECONDS, failures=startup_probes),
        "readiness_probe": probe(PORT, "/health", period_seconds=PROBE_SECONDS, failures=3),
        "liveness_probe": restarting(PORT, "/health"),
        "lifecycle": {
            "pre_stop": {"exec_": {"command": ["sh", f"{CATALOG}/drain.sh", server.engine, str(PORT)]}},
        },
        "volume_mounts": [
            SCRATCH_MOUNT,
            {"name": "models", "mount_path": MODELS, "read_only": True},
            {"name": "server", "mount_path": CATALOG},
        ],
    }
    if server.command:
        container["command"] = server.command
    return container


def server_resources(backend: Backend) -> ResourceRequirementsArgsDict:
    """CPU may burst; memory and the GPU are what was asked for and no more."""
    bounded = {"memory": backend.memory}
    if backend.gpu.resource != NO_GPU:
        bounded[backend.gpu.resource] = str(backend.gpu.count)
    return {"requests": {"cpu": backend.cpu, **bounded}, "limits": bounded}
