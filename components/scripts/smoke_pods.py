"""The pods under test as the cluster sees them: which stand, and what their logs tell.

Lies beside smoke.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from smoke_client import Failure, Server

if TYPE_CHECKING:
    from smoke_client import Run

_CONTENT = "llama-chat/content"  # the label of our pods that holds the hash of what they are made of
_LOG_BYTES = 4 * 2**20  # llama-server tells of its layers within its first lines
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")  # llama.cpp, load_tensors()
_LOADING = re.compile(r"load_tensors: loading model tensors")  # the same
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def deployed(config: dict[str, Any], run: Run, cluster: Server, who: str) -> list[str]:
    """The ready pods, as soon as all that stand are of the deployed content; Pulumi may be done before that is so."""
    wanted: dict[str, str] = config["pods"]
    path = f"/api/v1/namespaces/{config['namespace']}/pods?labelSelector={quote(wanted['selector'])}"
    while True:
        listed = cluster.ask(path)
        if listed.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise Failure(
                f"{who}: the cluster does not list {wanted['selector']}'s pods: {cluster.quoted(listed.text)}"
            )
        standing = [pod for pod in cast("list[dict[str, Any]]", listed.at("items") or []) if stands(pod)]
        of_it = [pod for pod in standing if pod["metadata"]["labels"].get(_CONTENT) == wanted["content"]]
        ready: list[str] = [pod["metadata"]["name"] for pod in of_it if is_ready(pod)]
        if ready and of_it == standing:
            return ready
        run.doing = f"waiting for the pods of {wanted['selector']}"
        if not run.pause():
            told = "; ".join(_told(pod, wanted["content"]) for pod in standing) or "no pod stands"
            what = f"the pods of {wanted['selector']} are not the deployed ones after {run.seconds:g} s"
            raise Failure(f"{who}: {what}: {told}: look at the Deployment's events")


def stands(pod: dict[str, Any]) -> bool:
    """Neither on its way out nor a left-over of an eviction or a lost node."""
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in {"Failed", "Succeeded"}


def is_ready(pod: dict[str, Any]) -> bool:
    """Whether a Service sends it requests."""
    conditions: list[dict[str, str]] = pod["status"].get("conditions") or []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _told(pod: dict[str, Any], content: str) -> str:
    its_own = pod["metadata"]["labels"].get(_CONTENT, "none")
    of = f"of content {content}" if its_own == content else f"of another content ({its_own}, expected {content})"
    return f"pod {pod['metadata']['name']} is {of} and {'ready' if is_ready(pod) else 'not ready'}"


def check_layers(config: dict[str, Any], cluster: Server, pods: list[str], *, since_long: bool) -> str:
    """Layers on the GPU and in all; Failure where the server fell back to the CPU, which it does without a word.

    Nothing where a log was rotated, as that of pods that run `since_long` may be: their update has looked at it.
    """
    layers = ""
    for pod in pods:
        path = f"/api/v1/namespaces/{config['namespace']}/pods/{pod}/log"
        log = cluster.ask(f"{path}?container={config['pods']['container']}&limitBytes={_LOG_BYTES}")
        if log.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise Failure(f"the log of pod {pod} cannot be read: {cluster.quoted(log.text)}")
        if since_long and not _LOADING.search(log.text):
            return ""
        layers = offloaded(log.text, config["gpu_layers"], pod)
    return layers


def offloaded(log: str, wanted: int, pod: str) -> str:
    """`29/29`, as the server's log says; Failure unless all wanted layers, or all there are, are on the GPU."""
    remedy = "look at its log, the image's GPU backend, gpu.resource and gpu.supplemental_groups"
    found = _OFFLOADED.findall(log)
    if not found:
        # seen at b11434: the server prints the loader's own lines from verbosity 4 on (common/log.cpp)
        raise Failure(
            f"pod {pod} tells of no offloaded layers in its log: it runs on the CPU, or without --log-verbosity 4, or "
            f"the log was rotated since (then restart the pod): {remedy}"
        )
    for done, total in found:
        if int(done) < min(wanted, int(total)):
            where = "has only some layers on the GPU" if int(done) else "runs on the CPU"
            raise Failure(f"pod {pod} {where}: offloaded {done}/{total}: {remedy}")
    return "/".join(found[0])


def own_cluster(run: Run) -> Server:
    """The API server of the cluster that this pod runs in, asked as the pod's service account."""
    try:
        token = (_ACCOUNT / "token").read_text(encoding="utf-8").strip()
        tls = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    except (OSError, KeyError):
        raise Failure("no service account to look at the pods under test with: give this pod one") from None
    return Server(f"https://{f'[{host}]' if ':' in host else host}:{port}", token, run, tls)
