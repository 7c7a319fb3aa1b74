"""Replaces an adopted gateway's pods, which end without a drain, by ones that drain, without losing a request.

`handover.py --config /handover/handover.json`. A pod of the adopted Deployment as it was ends at once when Kubernetes
replaces it, while nodes still send it requests. So:

1. The Deployment gets the new template and a hold: new pods come up beside the old ones and take requests, and none
   counts as available for years, so that no old one is taken away for it.
2. Once all new ones are ready, the old pods are marked, and their ReplicaSet is deleted without them: nothing makes
   them anew. The hold is lifted.
3. The old pods lose the labels by which the Service knows them: they keep the requests that they have and get no more.
4. When no node sends any more, each is deleted at a moment when it says that it answers nothing: a connection that is
   closed right after an answer may have the client's next request on it already. Clients that keep connections may go
   on asking for ever, so its time for that is bounded. One that cannot say so, an old LiteLLM, is deleted at once. The
   grace period is as long as the longest request, and LiteLLM's server, uvicorn, ends each connection after the answer
   that is under way on it, and itself after the last one.

Every step looks at what stands, so a run that was ended anywhere is completed by the next one; where all pods drain
already there is nothing to do. Until step 3 nothing changes for users; what fails there leaves the old pods answering.
The verdict is printed and left as the pod's termination message, starting with `ok:` where all is well. The gateway's
key is LITELLM_MASTER_KEY in the environment.

Runs in pods, beside cluster_objects.py, smoke_client.py and smoke_pods.py: nothing but the standard library of Python
3.9 or newer.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from cluster_objects import Cluster, Object, selected_by, selector
from handover_pods import drains, named, owned_by, under_way, waits_for
from smoke_client import Failure, Run, Terminated
from smoke_pods import is_ready, own_cluster, stands

if TYPE_CHECKING:
    from collections.abc import Sequence

HOLD_SECONDS = 10**8
"""`minReadySeconds` of the hold: nobody waits three years."""
LEAVING = "llama-chat/handover"
"""The label of a pod that this script takes out; its value is the Deployment's name."""
_STEP_SECONDS = 120.0  # what the API server and its controllers may take for one step
_END_SECONDS = 60.0  # what a pod may take to be gone after its grace period


class Plan(NamedTuple):
    """What is handed over, and to what; handover.json."""

    namespace: str
    deployment: str
    manager: str
    """The field manager of the patch, which is Pulumi's too: its own apply then finds nothing to change."""
    patch: Object
    """The Deployment's new `spec`, as far as it is ours."""
    mark: str
    """The annotation of pods that drain; its value in the patch tells which content they are of."""
    start_seconds: float
    """What all new pods may take until they are ready."""
    settle_seconds: float
    """How long requests go on coming until no node sends any more."""
    patience_seconds: float
    """How long an old pod may go on answering before it is told to end."""
    drain_seconds: int
    """What the longest request may take: how long it may go on after that."""
    port: int
    """Where the pods listen."""

    @property
    def content(self) -> str:
        """What the new pods' annotation says."""
        return self.patch["template"]["metadata"]["annotations"][self.mark]


def hand_over(plan: Plan, cluster: Cluster, run: Run) -> str:
    """The verdict where all is well; Failure, or Terminated with what it was at."""
    run.begin(_STEP_SECONDS)
    deployment = _deployment(plan, cluster)
    old = _old(plan, cluster, deployment)
    new: list[str] = []
    if old:
        _apply(plan, cluster, deployment, hold=True)
        run.begin(plan.start_seconds)
        new = _wait_for_new(plan, cluster, run, deployment)
        run.begin(_STEP_SECONDS)
        _set_free(plan, cluster, run, deployment)
    if old or deployment["spec"].get("minReadySeconds") == HOLD_SECONDS:
        _apply(plan, cluster, deployment, hold=False)
    for pod in _strays(plan, cluster, deployment):
        _mark(plan, cluster, pod)
    leaving = cluster.listed("pods", f"{LEAVING}={plan.deployment}")
    if not leaving:
        return f"ok: {plan.deployment}: no pod ends without a drain, so there was nothing to hand over"
    services = _take_out(plan, cluster, deployment, leaving)
    run.doing = "waiting until no node sends the old pods any more requests"
    time.sleep(plan.settle_seconds)
    seconds = _end(plan, cluster, run, leaving)
    return (
        f"ok: {plan.deployment}: {named(it['metadata']['name'] for it in leaving)} left {services} and ended after the "
        f"last answer, {seconds:.0f} s later; users are answered by {named(new) if new else 'pods that drain'}"
    )


def _deployment(plan: Plan, cluster: Cluster) -> Object:
    found = cluster.get("deployments", plan.deployment)
    if found is None:
        remedy = "correct llama-chat:gateway.deployment, or run make adopt again"
        raise Failure(f"{plan.deployment}: namespace {plan.namespace} has no such Deployment: {remedy}")
    return found


def _pods(cluster: Cluster, deployment: Object) -> list[Object]:
    return [pod for pod in cluster.listed("pods", selector(deployment["spec"]["selector"])) if stands(pod)]


def _sets(cluster: Cluster, deployment: Object) -> list[Object]:
    found = cluster.listed("replicasets", selector(deployment["spec"]["selector"]))
    return [it for it in found if owned_by(it, [deployment])]


def _old(plan: Plan, cluster: Cluster, deployment: Object) -> list[Object]:
    """The Deployment's pods that do not drain and that nobody has told to end."""
    sets = _sets(cluster, deployment)
    return [pod for pod in _pods(cluster, deployment) if owned_by(pod, sets) and not drains(pod, plan.mark)]


def _strays(plan: Plan, cluster: Cluster, deployment: Object) -> list[Object]:
    """Old pods that a ReplicaSet made as it was deleted, in the place of evicted ones: nobody counts them."""
    return [
        pod
        for pod in _pods(cluster, deployment)
        if "pod-template-hash" in pod["metadata"]["labels"]
        and LEAVING not in pod["metadata"]["labels"]
        and not pod["metadata"].get("ownerReferences")
        and not drains(pod, plan.mark)
    ]


def _mark(plan: Plan, cluster: Cluster, pod: Object) -> None:
    cluster.merge("pods", pod["metadata"]["name"], {"metadata": {"labels": {LEAVING: plan.deployment}}})


def _apply(plan: Plan, cluster: Cluster, deployment: Object, *, hold: bool) -> None:
    # as many pods as there are: what else the patch says of their number is for Pulumi to apply
    spec = {**plan.patch, "replicas": deployment["spec"]["replicas"]}
    if hold:
        spec |= {
            "minReadySeconds": HOLD_SECONDS,
            "progressDeadlineSeconds": HOLD_SECONDS + 1,
            # all new ones at once: with the old ones here to stay, the second would wait for ever
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "100%"}},
        }
    metadata = {"name": plan.deployment, "namespace": plan.namespace}
    wanted = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec}
    cluster.apply("deployments", plan.deployment, wanted, plan.manager)


def _wait_for_new(plan: Plan, cluster: Cluster, run: Run, deployment: Object) -> list[str]:
    """The names of the new pods, as soon as all are ready."""
    wanted = deployment["spec"]["replicas"]
    while True:
        new = [pod for pod in _pods(cluster, deployment) if drains(pod, plan.mark) == plan.content]
        standing = [pod["metadata"]["name"] for pod in new if is_ready(pod)]
        if len(standing) >= wanted:
            return standing
        run.doing = f"waiting for {wanted} new pods of {plan.deployment}"
        if not run.pause():
            told = [waits_for(pod) for pod in new if not is_ready(pod)] or [_forbidden(_deployment(plan, cluster))]
            raise Failure(
                f"{plan.deployment}: {len(standing)} of {wanted} new pods are ready after {run.seconds:g} s: "
                f"{'; '.join(told)}: correct that and run it again; the old pods still answer"
            )


def _forbidden(deployment: Object) -> str:
    """Why a Deployment makes no pods, as its controller says."""
    conditions: list[dict[str, str]] = deployment.get("status", {}).get("conditions") or []
    told = [it.get("message", "") for it in conditions if it["type"] == "ReplicaFailure" and it["status"] == "True"]
    return "; ".join(told) or "no new pod was made: look at the Deployment's events"


def _set_free(plan: Plan, cluster: Cluster, run: Run, deployment: Object) -> None:
    """Delete the ReplicaSets of the old pods without them, each pod marked as ours to end."""
    for pod in _old(plan, cluster, deployment):
        _mark(plan, cluster, pod)
    doomed = [
        it
        for it in _sets(cluster, deployment)
        if it["spec"]["replicas"] and not drains(it["spec"]["template"], plan.mark)
    ]
    for it in doomed:
        cluster.delete("replicasets", it, {"propagationPolicy": "Orphan"})
    for name in [it["metadata"]["name"] for it in doomed]:
        run.doing = f"waiting until ReplicaSet {name} has let go of its pods"
        while cluster.get("replicasets", name) is not None:
            if not run.pause():
                raise Failure(f"ReplicaSet {name} still stands after {run.seconds:g} s: run it again")


def _take_out(plan: Plan, cluster: Cluster, deployment: Object, leaving: list[Object]) -> str:
    """Nothing selects these pods any more; tells which Services did."""
    # the Deployment's labels too: what counts or protects its pods goes by them
    dropped = selected_by(deployment["spec"]["selector"])
    labels: list[dict[str, str]] = [deployment["spec"]["template"]["metadata"]["labels"]]
    labels += [pod["metadata"]["labels"] for pod in leaving]
    services: list[str] = []
    for service in cluster.listed("services"):
        picks: dict[str, str] = service["spec"].get("selector") or {}
        if picks and any(picks.items() <= one.items() for one in labels):
            services.append(service["metadata"]["name"])
            dropped |= set(picks)
    change = {"metadata": {"labels": dict.fromkeys(sorted(dropped - {LEAVING}))}}
    for pod in leaving:
        cluster.merge("pods", pod["metadata"]["name"], change)
    return f"Service {', '.join(services)}" if services else f"{plan.deployment}, before which no Service stands,"


def _end(plan: Plan, cluster: Cluster, run: Run, leaving: list[Object]) -> float:
    """Delete the pods, and wait until they are gone; returns the seconds that it took."""
    start = time.monotonic()
    grace = {"gracePeriodSeconds": plan.drain_seconds}
    busy = [pod for pod in leaving if stands(pod)]
    run.begin(plan.patience_seconds)
    while busy and run.pause():
        for pod in [pod for pod in busy if not under_way(pod, plan.port, os.environ.get("LITELLM_MASTER_KEY", ""))]:
            cluster.delete("pods", pod, grace)
            busy.remove(pod)
        run.doing = f"waiting until {named(pod['metadata']['name'] for pod in busy)} answer nothing"
    run.begin(plan.drain_seconds + _END_SECONDS)
    for pod in busy:
        cluster.delete("pods", pod, grace)
    while left := cluster.listed("pods", f"{LEAVING}={plan.deployment}"):
        run.doing = f"waiting for the last answer of {named(pod['metadata']['name'] for pod in left)}"
        if not run.pause():
            names = " ".join(pod["metadata"]["name"] for pod in left)
            remedy = f"look at its node, then kubectl -n {plan.namespace} delete pod --force {names}"
            raise Failure(f"{plan.deployment}: old pods are still there after {run.seconds:g} s: {remedy}")
    return time.monotonic() - start


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description="Hands an adopted gateway over to pods that drain.")
    parser.add_argument("--config", type=Path, required=True, help="JSON of the plan")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    run, status = Run(), 1
    try:
        plan = Plan(**cast("dict[str, Any]", json.loads(args.config.read_text(encoding="utf-8"))))
        verdict = hand_over(plan, Cluster(own_cluster(run), run, plan.namespace), run)
        status = 0
    except Failure as failure:
        verdict = str(failure)
    except (OSError, ValueError, KeyError, TypeError) as error:
        verdict = f"{args.config} is not the plan of a handover ({error!r}): deploy the stack again"
    except Terminated:
        status = 128 + signal.SIGTERM
        verdict = f"Kubernetes ended this pod while {run.doing or 'it began'}: run it again, it goes on from there"
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
