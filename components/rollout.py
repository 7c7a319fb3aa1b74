"""The wait for patched Deployments: Pulumi's own may end before their controller has seen the patch."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import pulumi
from pulumi_kubernetes.batch.v1 import Job

from components.script_job import Script, script_job
from config.model import StackConfig
from render.document import content_hash

SPARE_SECONDS = 120
"""What the Job that waits may take beside the pods' start."""


def rolled_out(  # noqa: PLR0913 - an object's identity, content and place
    name: str,
    config: StackConfig,
    stated: Mapping[str, Mapping[str, object]],
    seconds: int,
    *,
    parent: pulumi.Resource,
    after: Sequence[pulumi.Resource],
    annotations: Mapping[str, str | None] = MappingProxyType({}),
    bars: bool = True,
    phase: str | None = None,
) -> Job:
    """A Job that ends once each Deployment has all its pods, of its newest template; it fails after so many `seconds`.

    `stated` is what we patched in each one's `spec`: another patch is another Job, and so is another `phase` where
    one is given: after an update that failed, a Job of an earlier one may still stand. What is not known before the
    update, as the version of a master key, is not in it: such a change alone is left to Pulumi's wait.

    By `annotations` of that template it is known to have come, where the Job does not wait for the patch; None is one
    that must be gone. A Job that `bars` nothing ends well after its seconds too.
    """
    deployments = {deployment: content_hash(spec) for deployment, spec in stated.items()}
    script = Script(
        name="rollout",
        modules=("cluster_objects.py", "smoke_client.py", "smoke_pods.py"),
        record={
            "namespace": config.cluster.namespace,
            "seconds": seconds,
            "deployments": deployments,
            "annotations": dict(annotations),
            "bars": bars,
            "phase": phase,
        },
        rules=[
            {"api_groups": ["apps"], "resources": ["deployments"], "resource_names": [*deployments], "verbs": ["get"]}
        ],
        seconds=seconds + SPARE_SECONDS,
    )
    return script_job(name, config, script, parent, after)
