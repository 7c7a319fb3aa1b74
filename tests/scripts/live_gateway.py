"""A cluster in memory that an adopted gateway runs in, with its controllers as far as a handover meets them."""

import json
from copy import deepcopy
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from components.scripts.smoke import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

Object = dict[str, Any]

NAME = "llm-gateway"
MARK = "llama-chat/drains"


def answered(status: int, body: object) -> Answer:
    return Answer(status, {}, json.dumps(body))


class LiveGateway:
    """What the script talks to in place of the API server: after each request the controllers do their part."""

    def __init__(self, replicas: int = 1) -> None:
        self.deployment: Object = {
            "metadata": {"name": NAME, "uid": "deployment"},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": NAME}},
                "strategy": {"type": "Recreate"},
                "template": {"metadata": {"labels": {"app": NAME}}, "spec": {"containers": [{"name": "litellm"}]}},
            },
            "status": {},
        }
        self.sets: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self.services: list[Object] = [{"metadata": {"name": NAME}, "spec": {"selector": {"app": NAME}}}]
        self.comes_up = True
        """Whether a new pod becomes ready."""
        self.status: Object = {}
        """What the kubelet says of one that does not."""
        self.forbidden = ""
        """Why no new pod is made."""
        self.ip = "127.0.0.1"
        self.lingers = 1
        """How often a pod that was deleted is listed still."""
        self.refuses: Callable[[str, str], Answer | None] = lambda _method, _path: None
        self.asked: list[tuple[str, str]] = []
        self.applied: list[Object] = []
        self.cut: list[str] = []
        """Pods without a drain that ended while a Service knew them."""
        self.ended: dict[str, Object] = {}
        """The options with which each pod was deleted."""
        self.strength: list[int] = []
        """How many ready pods the Service had after each request."""
        self.control()
        self.strength.clear()

    def quoted(self, text: str) -> str:
        return repr(text)

    def ask(self, path: str, body: Object | None = None, *, method: str, content: str) -> Answer:
        parts = urlsplit(path)
        self.asked.append((method, parts.path))
        answer = self.refuses(method, parts.path) or self._answer(method, parts.path, parse_qs(parts.query), body or {})
        assert content == {"PATCH": self._patch_type(parts.path)}.get(method, "application/json")
        self.control()
        return answer

    def serving(self) -> list[str]:
        """The ready pods that a Service knows."""
        return [name for name, pod in self.pods.items() if is_ready(pod) and self._known(pod)]

    def drainless(self) -> list[str]:
        return [name for name, pod in self.pods.items() if not pod["metadata"]["annotations"]]

    def _patch_type(self, path: str) -> str:
        return f"application/{'apply-patch+yaml' if path.endswith(f'/deployments/{NAME}') else 'merge-patch+json'}"

    def _answer(self, method: str, path: str, query: dict[str, list[str]], body: Object) -> Answer:
        kind, _, name = path.partition("/namespaces/ai/")[2].partition("/")
        kept: dict[str, Object] = {
            "deployments": {NAME: self.deployment} if self.deployment else {},
            "replicasets": self.sets,
            "pods": self.pods,
            "services": {it["metadata"]["name"]: it for it in self.services},
        }[kind]
        if not name:
            return answered(200, {"items": [it for it in kept.values() if picked(it, query.get("labelSelector"))]})
        if name not in kept:
            return answered(404, {"message": f'{kind} "{name}" not found'})
        if method == "DELETE":
            return self._delete(kind, kept[name], body)
        if method == "PATCH" and kind == "deployments":
            assert query == {"fieldManager": ["llama-chat"], "force": ["true"]}
            self.apply(body)
        elif method == "PATCH":
            merge(kept[name], body)
        return answered(200, kept[name])

    def apply(self, wanted: Object) -> None:
        """Server-side apply of fields that nobody else states."""
        self.applied.append(deepcopy(wanted))
        spec = self.deployment["spec"]
        for field in ("minReadySeconds", "progressDeadlineSeconds"):  # ours alone: gone when it is not stated
            spec.pop(field, None)
        stated = deepcopy(wanted["spec"])
        spec["template"]["metadata"] |= {"annotations": stated.pop("template")["metadata"]["annotations"]}
        spec |= stated

    def _delete(self, kind: str, item: Object, options: Object) -> Answer:
        if options["preconditions"]["uid"] != item["metadata"]["uid"]:
            return answered(409, {"message": "the UID in the precondition does not match"})
        name = item["metadata"]["name"]
        if kind == "replicasets":
            assert options["propagationPolicy"] == "Orphan"
            del self.sets[name]
            for pod in self.pods.values():
                pod["metadata"]["ownerReferences"] = [it for it in owners(pod) if it["uid"] != item["metadata"]["uid"]]
        else:
            self.ended[name] = options
            self._end(item)
        return answered(200, item)

    def _end(self, pod: Object) -> None:
        if self._known(pod) and not pod["metadata"]["annotations"]:
            self.cut.append(pod["metadata"]["name"])
        pod["metadata"]["deletionTimestamp"] = "now"

    def _known(self, pod: Object) -> bool:
        labels = pod["metadata"]["labels"].items()
        return any(service["spec"]["selector"].items() <= labels for service in self.services)

    def control(self) -> None:
        """The controllers' part."""
        if self.deployment:
            self._roll(self.deployment["spec"])
        for made in self.sets.values():
            self._keep(made)
        for name in [name for name, pod in self.pods.items() if "deletionTimestamp" in pod["metadata"]]:
            self.pods[name]["left"] -= 1
            if self.pods[name]["left"] < 0:
                del self.pods[name]
        self.strength.append(len(self.serving()))

    def _roll(self, spec: Object) -> None:
        """The Deployment controller: a ReplicaSet a template; what is available takes an old pod's place."""
        content = spec["template"]["metadata"].get("annotations", {}).get(MARK, "adopted")
        name = f"{NAME}-{content}"
        labels = {**spec["selector"]["matchLabels"], "pod-template-hash": content}
        new = self.sets.setdefault(
            name,
            {
                "metadata": {"name": name, "uid": name, "labels": labels, "ownerReferences": [owner("deployment")]},
                "spec": {"replicas": 0, "template": deepcopy(spec["template"])},
            },
        )
        # one that is made under a hold keeps it: its pods never count
        new["spec"].setdefault("minReadySeconds", spec.get("minReadySeconds", 0))
        if not spec.get("minReadySeconds"):
            new["spec"]["minReadySeconds"] = 0
        old = [it for it in self.sets.values() if it is not new]
        rolling = spec["strategy"].get("rollingUpdate", {"maxSurge": 0})
        surge = spec["replicas"] if rolling["maxSurge"] == "100%" else rolling["maxSurge"]
        room = spec["replicas"] + surge - sum(it["spec"]["replicas"] for it in self.sets.values())
        new["spec"]["replicas"] = min(spec["replicas"], new["spec"]["replicas"] + room)
        spare = sum(it["spec"]["replicas"] for it in old) - spec["replicas"] + self._available(new)
        # those that do not count go first
        for it in sorted(old, key=self._available):
            gone = max(min(spare, it["spec"]["replicas"]), 0)
            it["spec"]["replicas"] -= gone
            spare -= gone

    def _available(self, made: Object) -> int:
        return 0 if made["spec"]["minReadySeconds"] else sum(is_ready(pod) for pod in self._of(made))

    def _keep(self, made: Object) -> None:
        """The ReplicaSet controller: so many pods with its labels; one without them is not its own any more."""
        labels = made["metadata"]["labels"]
        for pod in self._of(made):
            if not labels.items() <= pod["metadata"]["labels"].items():
                pod["metadata"]["ownerReferences"] = []
        standing = [pod for pod in self._of(made) if "deletionTimestamp" not in pod["metadata"]]
        for pod in standing[made["spec"]["replicas"] :]:
            self._end(pod)
        template = made["spec"]["template"]["metadata"]
        for number in range(len(standing), 0 if self.forbidden else made["spec"]["replicas"]):
            name = f"{made['metadata']['name']}-{number}"
            adopted = not template.get("annotations")
            self.pods[name] = {
                "metadata": {
                    "name": name,
                    "uid": name,
                    "labels": dict(labels),
                    "annotations": template.get("annotations", {}),
                    "ownerReferences": [owner(made["metadata"]["uid"])],
                },
                "status": ready_status(self.ip) if adopted or self.comes_up else deepcopy(self.status),
                "left": self.lingers,
            }
        if self.forbidden and not standing:
            told = {"type": "ReplicaFailure", "status": "True", "message": self.forbidden}
            self.deployment["status"] = {"conditions": [told]}

    def _of(self, made: Object) -> list[Object]:
        uid = made["metadata"]["uid"]
        return [pod for pod in self.pods.values() if any(it["uid"] == uid for it in owners(pod))]


def owner(uid: str) -> Object:
    return {"uid": uid, "controller": True}


def owners(item: Object) -> list[Object]:
    return item["metadata"].get("ownerReferences", [])


def ready_status(ip: str) -> Object:
    return {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]}


def is_ready(pod: Object) -> bool:
    conditions = pod["status"].get("conditions", [])
    return "deletionTimestamp" not in pod["metadata"] and {"type": "Ready", "status": "True"} in conditions


def picked(item: Object, selector: list[str] | None) -> bool:
    wanted = dict(term.split("=") for term in selector[0].split(",")) if selector else {}
    return wanted.items() <= item["metadata"].get("labels", {}).items()


def merge(item: Object, change: Object) -> None:
    for key, value in change.items():
        if isinstance(value, dict):
            merge(item.setdefault(key, {}), value)  # pyright: ignore[reportUnknownArgumentType] - JSON of whatever shape
        elif value is None:
            item.pop(key, None)
        else:
            item[key] = value
