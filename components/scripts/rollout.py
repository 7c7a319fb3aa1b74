"""Waits until Deployments stand as they are wanted: `rollout.py --config /rollout/rollout.json`.

Pulumi's own wait for a patched Deployment may end before its controller has seen the patch. The verdict is printed and
left as the pod's termination message, starting with `ok:` where all is well.

Runs in pods, beside cluster_objects.py, smoke_client.py and smoke_pods.py: nothing but the standard library of Python
3.9 or newer.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster_objects import Cluster, Object
from smoke_client import Failure, Run, Terminated
from smoke_pods import own_cluster

if TYPE_CHECKING:
    from collections.abc import Sequence


def wait_for(plan: dict[str, Any], cluster: Cluster, run: Run) -> str:
    """The verdict once each Deployment has so many pods of its newest template, all available.

    Failure where it has not in time; where the plan says that it bars nothing, a verdict all the same.
    """
    run.begin(plan["seconds"])
    for name in plan["deployments"]:
        while (found := cluster.get("deployments", name)) is None or not (
            annotated(found, plan["annotations"]) and stands(found)
        ):
            if found is None:
                raise Failure(f"namespace {plan['namespace']} has no Deployment {name}: bring it back")
            if not run.pause():
                replicas, new = found["spec"]["replicas"], available_new(found)
                remedy = f"look at its pods: kubectl -n {plan['namespace']} describe deployment {name}"
                told = f"{name}: of {replicas} new pods {new} are there after {plan['seconds']} s: {remedy}"
                if plan["bars"]:
                    raise Failure(told)
                return f"ok: the update goes on all the same: {told}"
    return f"ok: {', '.join(plan['deployments'])} at full strength"


def annotated(deployment: Object, wanted: dict[str, str | None]) -> bool:
    """Whether the newest template says what it should, in its annotations; None is one that it should not have."""
    told: dict[str, str] = deployment["spec"]["template"]["metadata"].get("annotations") or {}
    return all(told.get(name) == value for name, value in wanted.items())


def stands(deployment: Object) -> bool:
    """Whether the controller has seen the newest template, and all pods are of it."""
    status = deployment.get("status", {})
    seen = status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]
    counts = [status.get(kind, 0) for kind in ("replicas", "updatedReplicas", "availableReplicas")]
    return seen and counts == [deployment["spec"]["replicas"]] * 3


def available_new(deployment: Object) -> int:
    """How many pods of the newest template answer, at least: the others that do may be old ones."""
    status = deployment.get("status", {})
    old = status.get("replicas", 0) - status.get("updatedReplicas", 0)
    return max(0, status.get("availableReplicas", 0) - old)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description="Waits until Deployments stand as they are wanted.")
    parser.add_argument("--config", type=Path, required=True, help="JSON: what is waited for, and for how long")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    run, status = Run(), 1
    try:
        plan: dict[str, Any] = json.loads(args.config.read_text(encoding="utf-8"))
        verdict = wait_for(plan, Cluster(own_cluster(run), run, plan["namespace"]), run)
        status = 0
    except Failure as failure:
        verdict = str(failure)
    except Terminated:
        status, verdict = 128 + signal.SIGTERM, "Kubernetes ended this pod: run it again"
    print(verdict)
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(verdict, encoding="utf-8")
    return status


def terminate(*_: object) -> None:
    """What SIGTERM does: process 1 would ignore it otherwise."""
    raise Terminated


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
