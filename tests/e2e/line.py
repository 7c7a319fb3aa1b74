"""The whole line under test: the operator's commands, and the cluster as kubectl sees it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from local.images import Image, catalog, derive, publish
from local.paths import Instance
from local.stack_state import pulumi_environment
from local.toolchain import ensure
from local.uv import uv_command

ROOT = Path(__file__).parents[2]
UP_SECONDS = 900


@dataclass
class Line:
    """The whole line: commands as a person types them, and the cluster as kubectl sees it."""

    instance: Instance
    env: Mapping[str, str]
    scratch: Path
    root: Path = ROOT
    """The checkout that the commands run in."""
    as_filed: bool = False
    """Whether all stands as the local stack's file says, with nothing done to it since."""

    def ops(self, *arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run one of the operator's commands; its output, errors included, is in `stdout`, and in a transcript."""
        looks = arguments[0] in {"preview", "smoke", "status", "verify"}
        self.as_filed = self.as_filed and looks
        done = subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=self.root,
            env={**self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=UP_SECONDS,
            check=False,
        )
        with (self.scratch / "transcript.log").open("a") as transcript:
            transcript.write(f"$ ops {' '.join(arguments)}\n{done.stdout}exit code {done.returncode}\n\n")
        self.as_filed = self.as_filed or (done.returncode == 0 and arguments == ("up",))
        return done

    def up(self, file: Path | None = None) -> str:
        """`make up`, which must succeed; what it printed."""
        done = self.ops("up", *self._file(file))
        assert done.returncode == 0, done.stdout
        return done.stdout

    def down(self) -> None:
        """`make down`, which must succeed."""
        done = self.ops("down")
        assert done.returncode == 0, done.stdout

    def preview(self, file: Path | None = None) -> str:
        """`make preview`, which must succeed; what it printed."""
        done = self.ops("preview", *self._file(file))
        assert done.returncode == 0, done.stdout
        return done.stdout

    def variant(self, change: Callable[[dict[str, Any]], None]) -> Path:
        """The local stack's file with one thing changed."""
        document = yaml.safe_load((self.root / "Pulumi.local.yaml").read_text())
        config = {key.removeprefix("llama-chat:"): value for key, value in document["config"].items()}
        change(config)
        document["config"] = {f"llama-chat:{key}": value for key, value in config.items()}
        path = self.scratch / "Pulumi.local.yaml"
        path.write_text(yaml.safe_dump(document))
        return path

    def kubectl(self, *arguments: str) -> str:
        """What kubectl prints, in the stack's namespace."""
        self.as_filed = self.as_filed and arguments[0] in {"get", "logs"}
        kubectl = ensure("kubectl").path("kubectl")
        return subprocess.run(
            [kubectl, "--kubeconfig", self.instance.kubeconfig, "-n", "ai", *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    def pod(self, app: str) -> dict[str, Any]:
        """The one pod of `app` that runs and is not on its way out; one that a lost node had may still be listed."""
        deadline = time.monotonic() + 60
        while True:
            listed = json.loads(self.kubectl("get", "pods", "-l", f"app.kubernetes.io/name={app}", "-o", "json"))
            alive = [
                pod
                for pod in listed["items"]
                if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
            ]
            if len(alive) == 1:
                return alive[0]
            assert time.monotonic() < deadline, [pod["metadata"]["name"] for pod in alive]
            time.sleep(1)

    def pods(self) -> dict[str, set[str]]:
        """The pods of each Deployment that are not on their way out, by uid."""
        found: dict[str, set[str]] = {}
        for pod in json.loads(self.kubectl("get", "pods", "-l", "llama-chat/content", "-o", "json"))["items"]:
            if "deletionTimestamp" not in pod["metadata"]:
                app = pod["metadata"]["labels"]["app.kubernetes.io/name"]
                found.setdefault(app, set()).add(pod["metadata"]["uid"])
        return found

    def image(self, kind: str, tag: str, script: str, files: Mapping[str, bytes] | None = None) -> str:
        """Publish one of our images with a script in front of its own entrypoint; its name, under that tag."""
        image = next(it for it in catalog(ensure("llama-server")) if kind in it.name)
        name = f"{image.name.rpartition(':')[0]}:{tag}"
        made: Image = derive(
            image, name, {"/app/before": script.encode(), **(files or {})}, entrypoint=("/app/before",)
        )
        publish(f"http://127.0.0.1:{self.instance.registry_port}", [made])
        return made.name

    def pulumi_env(self) -> dict[str, str]:
        """What a person sets to run pulumi by hand against the local stack."""
        self.as_filed = False
        env = {**self.env, **ensure("pulumi", "kubectl").env(), **pulumi_environment(self.instance)}
        # Pulumi's Python host starts the program with uv
        return {**env, "PATH": os.pathsep.join((env["PATH"], str(Path(uv_command()).parent)))}

    def _file(self, file: Path | None) -> list[str]:
        return ["--config-file", str(file)] if file else []


def server_told(flag: str, value: str) -> str:
    """The script of a llama-server that takes another value of a flag than the one that it is given."""
    return f"""#!/bin/sh
for argument do
  shift
  [ "$previous" = {flag} ] && argument={value}
  previous=$argument
  set -- "$@" "$argument"
done
exec /app/llama-server "$@"
"""


def rolled(before: dict[str, set[str]], after: dict[str, set[str]]) -> set[str]:
    """The Deployments all of whose pods are others now."""
    return {app for app in before if not before[app] & after[app]}


def rolled_at_last(line: Line, before: dict[str, set[str]], expected: set[str]) -> set[str]:
    """What has rolled, once that is as expected: Pulumi may be done a moment before an old pod is on its way out."""
    deadline = time.monotonic() + 60
    while (seen := rolled(before, line.pods())) != expected and time.monotonic() < deadline:
        time.sleep(1)
    return seen
