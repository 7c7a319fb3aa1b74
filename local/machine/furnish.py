"""What a cluster must have before anybody uses it: a StorageClass, the namespace, and no nodes of yesterday."""

import time
from typing import Any

from local.machine.api import NOT_FOUND, Api, ApiError
from local.machine.health import LOOPBACK
from local.machine.keeper import NODES_PATH, list_nodes
from local.machine.layout import Layout

NAMESPACES = "/api/v1/namespaces"
STORAGE_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
NAMESPACE = "ai"
STORAGE_CLASS = "local-path"
SECONDS = 30.0


def furnish(layout: Layout) -> str:
    """Create what is missing; returns the cluster's identity, the UID of its namespace kube-system."""
    api = Api(layout.pki, LOOPBACK, layout.api_port)
    api.ensure(NAMESPACES, NAMESPACE, _object("v1", "Namespace", NAMESPACE))
    storage = {"provisioner": "kubernetes.io/host-path", "volumeBindingMode": "WaitForFirstConsumer"}
    api.ensure(STORAGE_CLASSES, STORAGE_CLASS, _object("storage.k8s.io/v1", "StorageClass", STORAGE_CLASS) | storage)
    for name in list_nodes(api).keys() - {node.name for node in layout.nodes}:
        api.delete(f"{NODES_PATH}/{name}")
    # Without its service account a namespace refuses every pod.
    _awaited(api, f"{NAMESPACES}/{NAMESPACE}/serviceaccounts/default")
    return _awaited(api, f"{NAMESPACES}/kube-system")["metadata"]["uid"]


def _awaited(api: Api, path: str) -> dict[str, Any]:
    """What the cluster makes by itself, a moment after it has become ready."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return api.get(path)
        except ApiError as error:
            if error.status != NOT_FOUND or time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def _object(version: str, kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
