"""The fetch script in bare pods on a volume of its own, and repositories of the local hub that come and go."""

import json
import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from components.model_backend import FETCH_SCRIPTS
from components.pods import USER, scripts
from local.hub.repo import Repo
from local.paths import cache_dir
from tests.e2e.line import ROOT, Line

NAMESPACE, OWNER = "fetch", "llama-chat-test"
CLAIM: dict[str, Any] = {"persistentVolumeClaim": {"claimName": "models"}}
END_SECONDS = 90
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}


@dataclass(frozen=True)
class Ended:
    """What is left of a pod: how its last container ended, and what all of them printed."""

    code: int
    message: str
    log: str


class Fetching:
    """A namespace with the scripts and a volume; `close` takes the repositories away again."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._root = cache_dir() / "hub"
        config = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text())["config"]
        self._image, self._endpoint = config["llama-chat:images"]["python"], config["llama-chat:hub"]["endpoint"]
        self.close()
        claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
        self.create(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": scripts(*FETCH_SCRIPTS)},
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {"name": "models"},
                "spec": {**claim, "storageClassName": "local-path"},
            },
        )

        self.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=30s")

    def close(self) -> None:
        """Remove the repositories; the namespace goes with the cluster."""
        shutil.rmtree(self._root / OWNER, ignore_errors=True)

    def create(self, *objects: dict[str, Any]) -> None:
        """Make Kubernetes objects in the namespace."""
        path = self._line.scratch / "objects.json"
        path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
        self.kubectl("create", "-f", str(path))

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, in the namespace."""
        return self._line.kubectl("--namespace", NAMESPACE, *arguments)

    def publish(self, name: str, size: int, **hub_json: object) -> dict[str, Any]:
        """Put a repository with one file of made-up bytes below the hub; the model, locked."""
        content = random.Random(name).randbytes(size)  # noqa: S311 - the same each time
        self.file(name).parent.mkdir(parents=True)
        self.file(name).write_bytes(content)
        self.configure(name, **hub_json)
        return self.locked(name)

    def locked(self, name: str) -> dict[str, Any]:
        """A repository's model, with what the lock would say of it."""
        repo = Repo(self._root, f"{OWNER}/{name}-GGUF")
        listed = repo.files()
        files = [{"path": file.path, "bytes": file.size, "sha256": file.digest.sha256} for file in listed]
        triple = {"name": name, "repo": repo.id, "quant": "F32", "filename": None, "revision": "main"}
        return {**triple, "commit": repo.commit(listed), "files": files}

    def configure(self, name: str, **hub_json: object) -> None:
        """Say anew who may read a repository, and what its downloads suffer from."""
        self.file(name).with_name(".hub.json").write_text(json.dumps(hub_json))

    def file(self, name: str) -> Path:
        """A repository's file, where the hub has it."""
        return self._root / OWNER / f"{name}-GGUF" / f"{name}-F32.gguf"

    def run(
        self, pod: str, *models: dict[str, Any], action: str = "fetch", volume: dict[str, Any] | None = None
    ) -> Ended:
        """Run the script on one model after the other, each as a catalog of its own, to the end."""
        self.start(pod, *models, action=action, volume=volume)
        return self.ended(pod)

    def start(
        self, pod: str, *models: dict[str, Any], action: str = "fetch", volume: dict[str, Any] | None = None
    ) -> None:
        """Make a pod whose containers run the script, one after the other."""
        *first, last = [self._container(f"{pod}-{number}", action) for number in range(len(models))]
        sources = [{"configMap": {"name": "scripts"}}, {"configMap": {"name": pod}}]
        volumes: list[dict[str, Any]] = [
            {"name": "catalog", "projected": {"sources": sources}},
            {"name": "models", **(volume or CLAIM)},
            {"name": "tmp", "emptyDir": {}},
        ]
        spec: dict[str, Any] = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "securityContext": {"fsGroup": USER},
            "initContainers": first,
            "containers": [last],
            "volumes": volumes,
        }
        records = {f"{pod}-{number}.json": self._record(model) for number, model in enumerate(models)}
        self.create(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": pod}, "data": records},
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod}, "spec": spec},
        )

    def ended(self, pod: str) -> Ended:
        """How it ended, once it has."""
        deadline = time.monotonic() + END_SECONDS
        while True:
            status = json.loads(self.kubectl("get", "pod", pod, "-o", "json"))["status"]
            if status["phase"] in {"Succeeded", "Failed"}:
                break
            assert time.monotonic() < deadline, status
            time.sleep(0.3)
        all_of_them = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
        ends = [it["state"]["terminated"] for it in all_of_them if it["state"].get("terminated", {}).get("startedAt")]
        log = self.kubectl("logs", pod, "--all-containers", "--ignore-errors", "--tail=-1")
        return Ended(ends[-1]["exitCode"], ends[-1].get("message", ""), log)

    def asked(self, name: str, log: Path | None = None) -> list[str]:
        """What a hub's log tells of the downloads from a repository, without addresses and dates."""
        lines = (log or self._line.instance.state / "log" / "hub.log").read_text().splitlines()
        return [line.split("] ", 1)[1] for line in lines if f"/{name}-GGUF/resolve/" in line]

    def starts(self, name: str) -> list[int]:
        """From which byte on a repository's file was asked for, one by one."""
        words = [line.split() for line in self.asked(name) if line.startswith('"GET')]
        return [int(line[4].removeprefix("bytes=").removesuffix("-")) for line in words]

    def volume(self) -> Path:
        """Where the claim's files lie on this machine."""
        listed = json.loads(self.kubectl("get", "persistentvolumes", "-o", "json"))["items"]
        (mine,) = [it["spec"] for it in listed if it["spec"]["claimRef"]["namespace"] == NAMESPACE]
        return self._line.instance.state / "volumes" / Path(mine["hostPath"]["path"]).name

    def on_volume(self, model: dict[str, Any]) -> Path:
        """Where a model's file belongs there."""
        return self.volume() / "files" / model["repo"] / model["commit"] / model["files"][0]["path"]

    def _record(self, model: dict[str, Any]) -> str:
        placed = {**model, "model_path": "/models/weights/model.gguf", "deadline_seconds": 60}
        return json.dumps({"endpoint": self._endpoint, "deadline_seconds": 60, "models": [placed]})

    def _container(self, name: str, action: str) -> dict[str, Any]:
        command = ["python3", "-u", "/catalog/fetch_model.py", action, "--config", f"/catalog/{name}.json"]
        mounts = {"catalog": "/catalog", "models": "/models", "tmp": "/tmp"}  # noqa: S108 - the pod's own
        token = {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}}
        return {
            "name": name,
            "image": self._image,
            "command": [*command, "--models", "/models"],
            "env": [{"name": "HF_TOKEN", "valueFrom": token}],
            "volumeMounts": [{"name": volume, "mountPath": path} for volume, path in mounts.items()],
            "securityContext": RESTRICTED,
        }
