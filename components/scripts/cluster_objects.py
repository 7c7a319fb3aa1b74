"""The objects of one namespace, read and changed through the API server.

Lies beside handover.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

from smoke_client import Failure

if TYPE_CHECKING:
    from smoke_client import Answer, Run, Server

Object = dict[str, Any]

_APIS = {"pods": "/api/v1", "services": "/api/v1", "deployments": "/apis/apps/v1", "replicasets": "/apis/apps/v1"}
_GONE = 404
_AGAIN = {409, 500, 504}  # somebody else changed it just now; the API server's own store is away
_MERGE = "application/merge-patch+json"
_APPLY = "application/apply-patch+yaml"  # which JSON is
_HAS = {"In", "Exists"}  # the operators by which a pod that lacks the label is not picked


class Cluster:
    """One namespace; each method is Failure where the cluster refuses, or has not answered by the step's deadline."""

    def __init__(self, server: Server, run: Run, namespace: str) -> None:
        self._server = server
        self._run = run
        self._namespace = namespace

    def get(self, kind: str, name: str) -> Object | None:
        """The object as it stands; None where there is none."""
        return self._ask("GET", kind, name)

    def listed(self, kind: str, selector: str = "") -> list[Object]:
        """All objects of a kind that a label selector picks."""
        found = self._ask("GET", kind, "", query={"labelSelector": selector} if selector else {})
        return cast("list[Object]", (found or {}).get("items") or [])

    def apply(self, kind: str, name: str, wanted: Object, manager: str) -> Object | None:
        """Server-side apply: what `wanted` states is ours from now on, what else the object has stays as it is.

        Never call it for an object that may be missing: it would be made.
        """
        query = {"fieldManager": manager, "force": "true"}
        return self._ask("PATCH", kind, name, wanted, _APPLY, query)

    def merge(self, kind: str, name: str, change: Object) -> Object | None:
        """Set what `change` states, and take away what it states as None; None where the object is gone."""
        return self._ask("PATCH", kind, name, change, _MERGE)

    def delete(self, kind: str, item: Object, options: Object) -> None:
        """Delete this very object, not one of the same name that took its place."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", **options}
        body["preconditions"] = {"uid": item["metadata"]["uid"]}
        self._ask("DELETE", kind, item["metadata"]["name"], body)

    def _ask(  # noqa: PLR0913, PLR0917 - a request's parts
        self,
        method: str,
        kind: str,
        name: str,
        body: Object | None = None,
        content: str = "application/json",
        query: dict[str, str] | None = None,
    ) -> Object | None:
        path = f"{_APIS[kind]}/namespaces/{self._namespace}/{kind}"
        path += f"/{quote(name)}" if name else ""
        path += f"?{urlencode(query)}" if query else ""
        while True:
            answer = self._server.ask(path, body, method=method, content=content)
            if answer.status < 300:  # noqa: PLR2004 - HTTP's own number
                return cast("Object", answer.at())
            if name and answer.status == _GONE:
                return None
            if method == "DELETE" and answer.status == 409:  # noqa: PLR2004 - HTTP's own number
                return None  # another object of the same name: ours is gone
            if answer.status not in _AGAIN or not self._run.pause():
                raise Failure(self._refused(method, f"{kind}/{name}" if name else kind, answer))

    def _refused(self, method: str, what: str, answer: Answer) -> str:
        verbs = {"GET": "does not show", "PATCH": "does not change", "DELETE": "does not delete"}
        why = self._server.quoted(str(answer.at("message") or answer.text))
        return f"the cluster {verbs[method]} {what} in namespace {self._namespace}: {why}"


def selector(spec: Object) -> str:
    """A Deployment's `spec.selector` as a query says it.

    See https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#api.
    """
    labels: dict[str, str] = spec.get("matchLabels") or {}
    terms = [f"{key}={value}" for key, value in labels.items()]
    for wanted in spec.get("matchExpressions") or ():
        values = f"({','.join(wanted.get('values') or ())})"
        terms.append(
            {
                "In": f"{wanted['key']} in {values}",
                "NotIn": f"{wanted['key']} notin {values}",
                "Exists": wanted["key"],
                "DoesNotExist": f"!{wanted['key']}",
            }[wanted["operator"]]
        )
    return ",".join(terms)


def selected_by(spec: Object) -> set[str]:
    """The labels that a pod must have for a Deployment's `spec.selector`: without any one of them it is not picked."""
    expressions = [wanted["key"] for wanted in spec.get("matchExpressions") or () if wanted["operator"] in _HAS]
    return {*(spec.get("matchLabels") or {}), *expressions}
