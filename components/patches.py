"""Patches of objects that are somebody else's: what we state is ours, all else stays as it is.

The whole live object comes back with each patch, keys that it holds in plain among it: in the state it is encrypted.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pulumi
from pulumi_kubernetes.apps.v1 import DeploymentPatch, DeploymentSpecPatchArgsDict
from pulumi_kubernetes.core.v1 import ConfigMapPatch
from pulumi_kubernetes.meta.v1 import ObjectMetaPatchArgsDict

from config.legacy import FIELD_MANAGER


def config_map_patch(
    name: str, *, namespace: str, config_map: str, data: Mapping[str, str], opts: pulumi.ResourceOptions
) -> ConfigMapPatch:
    """Keys of a live ConfigMap; it must exist."""
    hidden = pulumi.ResourceOptions(additional_secret_outputs=["metadata", "data", "binary_data"])
    made = _metadata(namespace, config_map)
    return ConfigMapPatch(name, metadata=made, data=dict(data), opts=pulumi.ResourceOptions.merge(opts, hidden))


def deployment_patch(
    name: str, *, namespace: str, deployment: str, spec: Mapping[str, Any], opts: pulumi.ResourceOptions
) -> DeploymentPatch:
    """Fields of a live Deployment, spelled as Kubernetes does; its rollout is awaited as that of one of ours is."""
    hidden = pulumi.ResourceOptions(additional_secret_outputs=["metadata", "spec"])
    typed, made = cast("DeploymentSpecPatchArgsDict", spec), _metadata(namespace, deployment)
    return DeploymentPatch(name, metadata=made, spec=typed, opts=pulumi.ResourceOptions.merge(opts, hidden))


def _metadata(namespace: str, name: str) -> ObjectMetaPatchArgsDict:
    return {
        "name": name,
        "namespace": namespace,
        "annotations": {
            "pulumi.com/patchFieldManager": FIELD_MANAGER,
            "pulumi.com/patchForce": "true",  # kubectl owns what it applied
        },
    }


def left_in_place(
    parent: pulumi.Resource,
    *,
    after: Sequence[pulumi.Resource] = (),
    protect: bool = False,
    timeouts: pulumi.CustomTimeouts | None = None,
) -> pulumi.ResourceOptions:
    """Options of a patch that outlives the stack: taken away, it would take what it states with it."""
    return pulumi.ResourceOptions(
        parent=parent,
        depends_on=list(after),
        protect=protect or None,
        retain_on_delete=True,
        custom_timeouts=timeouts,
    )
