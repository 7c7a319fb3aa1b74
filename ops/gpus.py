"""Who has a node's GPUs, counted as the scheduler counts them."""

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal

from ops.kube import Kube, Object

_SCALE = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def whole(quantity: str) -> int:
    """A quantity of an extended resource; the API server writes 48000 as 48k."""
    digits = quantity.rstrip("kMGKi")
    return int(Decimal(digits) * _SCALE[quantity.removeprefix(digits)])


def taken(pod: Object) -> Counter[str]:
    """How many of each extended resource, whose name has a slash, a pod takes of its node.

    Containers and sidecars run together, other init containers one by one and beside the sidecars before them
    (https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/#resource-sharing-within-containers).
    """
    sidecars, most = Counter[str](), Counter[str]()
    for container in pod["spec"].get("initContainers", ()):
        if container.get("restartPolicy") == "Always":
            sidecars += _limits(container)
        else:
            most |= sidecars + _limits(container)
    return most | sum(map(_limits, pod["spec"]["containers"]), sidecars)


def holds(pod: Object) -> bool:
    """Whether it has what it asks of its node; what ended has given it back."""
    return pod["status"].get("phase") not in {"Failed", "Succeeded"}


def holders(kube: Kube, node: str, resource: str) -> list[Object]:
    """The pods of all namespaces that have any of a resource of a node."""
    on_node = kube.listed("pods", "--all-namespaces", f"--field-selector=spec.nodeName={node}")
    return [pod for pod in on_node if holds(pod) and taken(pod)[resource]]


def names(pods: Iterable[Object]) -> str:
    """Pods as `namespace/name`."""
    return ", ".join(f"{pod['metadata']['namespace']}/{pod['metadata']['name']}" for pod in pods)


def _limits(container: Object) -> Counter[str]:
    # an extended resource's request is its limit
    limits: dict[str, str] = container.get("resources", {}).get("limits", {})
    return Counter({name: whole(count) for name, count in limits.items() if "/" in name})
