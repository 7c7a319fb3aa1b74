"""What the measured stacks find in the cluster: nodes, namespaces and Secrets that are there for them alone."""

import json
import signal
import time
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from config.errors import UserError
from config.model import StackConfig
from local.console import say
from ops.kube import Kube

LABEL = "llama-chat/bench"
"""On everything that is made here; what bears it is removed at the end, and what a killed bench left at the start."""
SECONDS = 120.0
"""What the cluster may take to remove it."""
ROUND_SECONDS = 0.5

Manifest = dict[str, Any]


@contextmanager
def ground(config: StackConfig, namespaces: Sequence[str]) -> Generator[None]:
    """The nodes that the stack names and these namespaces, none of which ever starts a pod; gone afterwards."""
    kube = Kube(context=config.cluster.context, namespace="default")
    clear(kube)
    try:
        kube.run("create", "-f", "-", stdin=_text(cluster_wide(config, namespaces)))
        for namespace in namespaces:
            Kube(context=kube.context, namespace=namespace).run("create", "-f", "-", stdin=_text(furniture(config)))
        yield
    finally:
        # a second Ctrl-C would leave half of it
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        say("removing what was measured from the cluster")
        try:
            clear(kube)
        finally:
            signal.signal(signal.SIGINT, before)


def cluster_wide(config: StackConfig, namespaces: Sequence[str]) -> list[Manifest]:
    """The stack's nodes, with no machine behind them, and the namespaces."""
    return [
        *(_manifest("Node", host, spec={"unschedulable": True}) for host in config.nodes.values()),
        *(_manifest("Namespace", namespace) for namespace in namespaces),
    ]


def furniture(config: StackConfig) -> list[Manifest]:
    """What each namespace holds before the stack comes."""
    keys: dict[str, dict[str, str]] = {}
    for secret in config.named_secrets:
        keys.setdefault(secret.name, {})[secret.key] = "of no use"
    return [
        # pods of ours would run, or wait, or crash: whichever it is, it would be measured too
        _manifest("ResourceQuota", "no-pods", spec={"hard": {"pods": "0"}}),
        *(_manifest("Secret", name, stringData=data) for name, data in keys.items()),
    ]


def finish_jobs(context: str, namespace: str) -> None:
    """Say of every Job that it is done: the provider replaces one that is not (`pulumi.com/replaceUnready`)."""
    kube = Kube(context=context, namespace=namespace)
    deadline = time.monotonic() + SECONDS
    # its controller notes first when it was started
    while waiting := [job for job in kube.listed("jobs") if "completionTime" not in job["status"]]:
        if started := [str(job["metadata"]["name"]) for job in waiting if "startTime" in job["status"]]:
            kube.run("patch", "job", *started, "--subresource=status", "--type=merge", "--patch", _text([done()]))
        elif time.monotonic() > deadline:
            raise UserError(f"Namespace {namespace}: its Jobs do not start: look at the cluster with `make status`.")
        time.sleep(ROUND_SECONDS)


def done() -> Manifest:
    """The status of a Job that succeeded a moment ago."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions = [
        {"type": kind, "status": "True", "lastProbeTime": now, "lastTransitionTime": now}
        for kind in ("SuccessCriteriaMet", "Complete")
    ]
    return {"status": {"succeeded": 1, "active": 0, "ready": 0, "completionTime": now, "conditions": conditions}}


def clear(kube: Kube) -> None:
    """Remove everything that bears the label, whatever Pulumi says of it; UserError where it stays."""
    deadline = time.monotonic() + SECONDS
    while left := list(_left(kube)):
        if time.monotonic() > deadline:
            raise UserError(f"Still in the cluster: {', '.join(left)}. Remove them with `kubectl delete`.")
        kube.run("delete", "namespaces,nodes", "--selector", LABEL, "--wait=false", "--ignore-not-found")
        time.sleep(ROUND_SECONDS)


def _left(kube: Kube) -> Iterable[str]:
    for kind in ("namespaces", "nodes"):
        yield from (f"{kind}/{item['metadata']['name']}" for item in kube.listed(kind, "--selector", LABEL))


def _manifest(kind: str, name: str, **parts: object) -> Manifest:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "labels": {LABEL: "true"}}, **parts}


def _text(manifests: Sequence[Manifest]) -> str:
    return "\n".join(map(json.dumps, manifests))
