"""What handover.py asks of a pod.

Lies beside it in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import json
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cluster_objects import Object

_ASK_SECONDS = 5.0


def drains(item: Object, mark: str) -> str | None:
    """What a pod's, or a template's, annotation says; None where it ends without a drain."""
    annotations: dict[str, str] = item["metadata"].get("annotations") or {}
    return annotations.get(mark)


def owned_by(item: Object, owners: Iterable[Object]) -> bool:
    """Whether one of the owners made it and keeps count of it."""
    uids = {owner["metadata"]["uid"] for owner in owners}
    references: list[Object] = item["metadata"].get("ownerReferences") or []
    return any(it["uid"] in uids and it.get("controller") for it in references)


def waits_for(pod: Object) -> str:
    """Why a pod is not ready, in the words of the scheduler, the kubelet or the container runtime."""
    name = pod["metadata"]["name"]
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"pod {name} is not scheduled: {condition.get('message', condition.get('reason'))}"
    told: list[str] = []
    for container in (*_containers(pod, "init"), *_containers(pod, "")):
        state: Object = container.get("state") or {}
        at: Object = state.get("waiting") or state.get("terminated") or {}
        if at.get("reason") not in {None, "Completed", "PodInitializing"}:
            told.append(f"{container['name']}: {at['reason']}" + (f": {at['message']}" if at.get("message") else ""))
    return f"pod {name}: {', '.join(told) or 'runs and is not ready: look at its log'}"


def under_way(pod: Object, port: int, key: str) -> int | None:
    """How many requests a LiteLLM has not answered yet; None where it does not tell, or is out of reach.

    Its own question is a request too, and not counted.
    """
    host: str = pod["status"].get("podIP") or ""
    connection = HTTPConnection(f"[{host}]" if ":" in host else host, port, timeout=_ASK_SECONDS)
    try:
        with closing(connection):
            connection.request("GET", "/health/backlog", headers={"Authorization": f"Bearer {key}"})
            told = json.loads(connection.getresponse().read())
            return max(int(told["in_flight_requests"]) - 1, 0)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return None


def _containers(pod: Object, kind: str) -> list[Any]:
    return pod["status"].get(f"{kind}ContainerStatuses" if kind else "containerStatuses") or []


def named(names: Iterable[str]) -> str:
    """`pod a`, or `pods a, b`."""
    listed = list(names)
    return f"pod{'s' if len(listed) > 1 else ''} {', '.join(listed)}"
