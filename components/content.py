"""Config by content: an immutable ConfigMap whose name holds the hash of what it holds."""

from collections.abc import Mapping

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from components.pods import metadata
from config.errors import Problem
from render.document import content_name

LIMIT_BYTES = 1024 * 1024
"""The most that a ConfigMap may hold (https://kubernetes.io/docs/concepts/configuration/configmap/)."""


def config_map(  # noqa: PLR0913 - an object's identity, content and place
    logical: str, *, name: str, namespace: str, app: str, data: Mapping[str, str], parent: pulumi.Resource
) -> tuple[str, ConfigMap]:
    """Make the ConfigMap and return its full name with it; RunError when it passes the API server's limit."""
    size = sum(len(key) + len(text.encode()) for key, text in data.items())
    if size > LIMIT_BYTES:
        remedy = f"a ConfigMap holds at most {LIMIT_BYTES} bytes: list fewer models, or split the pool in two"
        raise pulumi.RunError(str(Problem(key=f"ConfigMap {name}", value=f"{size} bytes", remedy=remedy)))
    full_name = content_name(name, data)
    made = ConfigMap(
        logical,
        metadata=metadata(namespace, full_name, app),
        immutable=True,
        data=dict(data),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    return full_name, made
