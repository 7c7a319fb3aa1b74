"""What is looked at of each backend: its pods, its GPUs, its server."""

from collections.abc import Callable, Iterator
from functools import partial

from config.backend import Backend
from config.errors import UserError
from config.model import StackConfig
from config.parts import NO_GPU, ROLE_LABEL
from ops.checklist import Check, made, same_names
from ops.forward import model_ids
from ops.gpus import holders, holds, names, taken
from ops.kube import Kube, Object, name_of
from ops.room import Owners

RESTART_LOOP = 3
"""From so many restarts on a pod is in a loop; one or two are a node's reboot or a lost probe."""


def backend_checks(config: StackConfig, kube: Kube, backend: Backend) -> Iterator[Check]:
    """The checks of one backend, in the order of the list."""
    looks: dict[str, Callable[[], str]] = {
        "on its role's node": partial(_on_its_node, kube, backend),
        "one GPU, its own": partial(_own_gpu, config, kube, backend),
        "ready, no restart loop": partial(_steady, kube, backend),
        "/health": lambda: _through_service(config, kube, backend, "health"),
        "/v1/models": lambda: same_names(
            model_ids(_through_service(config, kube, backend, "v1/models")), [served.name for served in backend.models]
        ),
    }
    for what, look in looks.items():
        yield made("backend", backend.name, what, look)


def _pods(kube: Kube, deployment: str) -> list[Object]:
    """The pods that stand for a Deployment; UserError where there are fewer or more than it wants."""
    spec: Object = kube.get("deployment", deployment)["spec"]
    labels = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    pods = [pod for pod in kube.listed("pods", "-l", labels) if _stands(pod)]
    if not pods or len(pods) != spec["replicas"]:
        raise UserError(f"{len(pods)} pods stand where the Deployment wants {spec['replicas']}")
    return pods


def _on_its_node(kube: Kube, backend: Backend) -> str:
    nodes = set[str]()
    for pod in _pods(kube, backend.name):
        node = pod["spec"].get("nodeName")
        if node != backend.host:
            raise UserError(f"{name_of(pod)} is on {node or 'no node yet'}, the stack says {backend.host}")
        nodes.add(node)
    label = kube.get("node", backend.host)["metadata"].get("labels", {}).get(ROLE_LABEL)
    if label != backend.role:
        raise UserError(f"node {backend.host} has {ROLE_LABEL}={label or '(none)'}, the stack says {backend.role}")
    return f"{backend.host} has {ROLE_LABEL}={label}"


def _own_gpu(config: StackConfig, kube: Kube, backend: Backend) -> str:
    resource, owners = backend.gpu.resource, Owners.of(config, frozenset())
    pods = _pods(kube, backend.name)
    if resource == NO_GPU:
        asked = {name for pod in pods for name in taken(pod)}
        if asked:
            raise UserError(f"asks for {', '.join(sorted(asked))}, the stack says none")
        return "none, as the stack says"
    beside: list[Object] = []
    for pod in pods:
        count = taken(pod)[resource]
        if count != backend.gpu.count:
            raise UserError(f"{name_of(pod)} has {count} of {resource}, the stack says {backend.gpu.count}")
        node = pod["spec"].get("nodeName")
        if not node:
            raise UserError(f"{name_of(pod)} has no node yet, so no GPU")
        others = [it for it in holders(kube, node, resource) if it["metadata"]["uid"] != pod["metadata"]["uid"]]
        # vLLM keeps its own until the migration is done
        strangers = [other for other in others if owners.answers(other) is None]
        if strangers:
            raise UserError(f"{node}'s {resource} goes to other pods too: {names(strangers)}")
        beside += others
    if beside:
        return f"{backend.gpu.count} of {resource}; others of the node are {names(beside)}'s until phase done"
    return f"{backend.gpu.count} of {resource}, to no other pod of the node"


def _steady(kube: Kube, backend: Backend) -> str:
    restarts = 0
    for pod in _pods(kube, backend.name):
        status: Object = pod["status"]
        containers: list[Object] = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        waits = [it["state"]["waiting"] for it in containers if "waiting" in it["state"]]
        for container in containers:
            count: int = container["restartCount"]
            restarts += count
            looping = container["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
            if looping or count >= RESTART_LOOP:
                raise UserError(f"{name_of(pod)}: {container['name']} restarted {count} times{_last_end(container)}")
        conditions: list[Object] = status.get("conditions", [])
        if not any(it["type"] == "Ready" and it["status"] == "True" for it in conditions):
            # what a container waits for says more than that it is not ready
            told = [*waits, *(it for it in conditions if it["status"] != "True")]
            reasons = (f"{it.get('reason', '')} {it.get('message', '')}".strip() for it in told)
            raise UserError(f"{name_of(pod)} is not ready: {next(reasons, status.get('phase'))}")
    return f"ready, {restarts} restarts"


def _last_end(container: Object) -> str:
    ended: Object | None = container.get("lastState", {}).get("terminated")
    return f", last ended with {ended.get('reason')} (exit code {ended['exitCode']})" if ended else ""


def _through_service(config: StackConfig, kube: Kube, backend: Backend, path: str) -> str:
    return kube.raw(f"/api/v1/namespaces/{config.cluster.namespace}/services/{backend.name}:http/proxy/{path}")


def _stands(pod: Object) -> bool:
    """Whether it serves, or is on its way to."""
    return holds(pod) and "deletionTimestamp" not in pod["metadata"]
