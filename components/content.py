"""Objects by content: immutable ConfigMaps and Jobs whose names hold the hash of what they hold.

Their names in Pulumi's state hold the hash too. Under one name there, a content that comes back after a failed update
would be created over the object that still stands, and then deleted as the one that was replaced.
"""

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.core.v1 import ConfigMap, PodSpecArgsDict

from components.pods import job_spec, metadata, timeouts
from config.errors import Problem
from render.document import content_hash, content_name

_JOB_LENGTH = 52  # and a hash make the 63 characters of its pods' label
LIMIT_BYTES = 1024 * 1024
"""The most that a ConfigMap may hold (https://kubernetes.io/docs/concepts/configuration/configmap/)."""


def config_map(  # noqa: PLR0913 - an object's identity, content and place
    name: str, *, namespace: str, app: str, data: Mapping[str, str], parent: pulumi.Resource, retained: bool = False
) -> tuple[str, ConfigMap]:
    """Make the ConfigMap and return its full name with it; RunError when it passes the API server's limit.

    A `retained` one outlives the stack, and may be there before it.
    """
    size = sum(len(key) + len(text.encode()) for key, text in data.items())
    if size > LIMIT_BYTES:
        remedy = f"a ConfigMap holds at most {LIMIT_BYTES} bytes: list fewer models, or split the pool in two"
        raise pulumi.RunError(str(Problem(key=f"ConfigMap {name}", value=f"{size} bytes", remedy=remedy)))
    full_name = content_name(name, data)
    made = ConfigMap(
        full_name,
        metadata=metadata(namespace, full_name, app, {"pulumi.com/patchForce": "true"} if retained else None),
        immutable=True,
        data=dict(data),
        opts=pulumi.ResourceOptions(parent=parent, retain_on_delete=retained or None),
    )
    return full_name, made


def fitting(name: str) -> str:
    """A name to which a Job can add its hash: shortened where need be, and still its own."""
    return name if len(name) <= _JOB_LENGTH else f"{name[: _JOB_LENGTH - 11].rstrip('-')}-{content_hash(name)}"


def job(  # noqa: PLR0913 - an object's identity, content and place
    name: str,
    *,
    namespace: str,
    pod: PodSpecArgsDict,
    deadline_seconds: int,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
    hidden: bool = False,
) -> Job:
    """Make a Job that is awaited to its success; one that failed is run again by the next update.

    A `hidden` one's content is encrypted in the state.
    """
    spec = job_spec(name, pod, deadline_seconds=deadline_seconds)
    full_name = f"{name}-{content_hash(spec)}"
    return Job(
        full_name,
        metadata=metadata(namespace, full_name, name, {"pulumi.com/replaceUnready": "true"}),
        spec=pulumi.Output.secret(spec) if hidden else spec,
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(after), custom_timeouts=timeouts(deadline_seconds)),
    )
