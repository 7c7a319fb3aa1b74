"""Runs a Pulumi program on a cluster where no pod ever starts: nothing that it registers is waited for.

It imports nothing else of ours, so that a program without our layers can run below it too.
"""

import runpy
from pathlib import Path
from typing import Any, cast

import pulumi

SKIP_AWAIT = "pulumi.com/skipAwait"


def run(program: Path) -> None:
    """Run the program, with an annotation on each Kubernetes object that tells the provider not to wait for it."""
    pulumi.runtime.register_stack_transformation(_without_waiting)
    runpy.run_path(str(program), run_name="__main__")


def _without_waiting(args: pulumi.ResourceTransformationArgs) -> pulumi.ResourceTransformationResult | None:
    """In-process, so that it adds no call to the engine; what is only read, and what is no object, stays as it is."""
    metadata = cast("dict[str, Any] | None", args.props.get("metadata"))
    if args.opts.id is not None or metadata is None:
        return None
    annotations = {**metadata.get("annotations", {}), SKIP_AWAIT: "true"}
    props = {**args.props, "metadata": {**metadata, "annotations": annotations}}
    return pulumi.ResourceTransformationResult(props=props, opts=args.opts)
