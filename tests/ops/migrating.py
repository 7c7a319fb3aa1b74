"""A stack that adopts, in a git repository of its own, and a small program that goes through its phases."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import legacy
from config.legacy import DEPLOYMENTS, TEXTS
from ops import engine
from ops import stack as stacks
from ops.engine import Engine
from ops.stack import ROOT, Stack, read_stack
from ops.worktree import Checkout
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, adopting_values

NAME = "prod"
SINCE = "2026-01-24T10:00:00Z"
"""Long enough ago for any soaking."""
PROGRAM = """import os
from types import SimpleNamespace

import pulumi
from config.gate import export_phase, respect_gate
from config.hold import respect_hold
from config.parts import Migration

respect_hold()
values = pulumi.Config("llama-chat")
migration = Migration(**values.require_object("migration"))
config = SimpleNamespace(migration=migration, gateway=SimpleNamespace(**values.require_object("gateway")))
reached = respect_gate(config)


class Thing(pulumi.ComponentResource):
    def __init__(self, kind, name, protect=False, retain=True):
        options = pulumi.ResourceOptions(protect=protect, retain_on_delete=retain)
        super().__init__(kind, name, {"metadata": {"name": name}}, options)
        self.register_outputs({})


outside = migration.phase != "parallel"
Thing("kubernetes:core/v1:PersistentVolumeClaim", "llama-static-a-cache", protect=True)
Thing("kubernetes:apps/v1:Deployment", "llama-static-a", retain=False)
adopting = config.gateway.mode == "adopt"
if adopting:
    Thing("kubernetes:core/v1:ConfigMap", "llm-gateway-connections-1")
last = Thing("kubernetes:core/v1:ConfigMapPatch", "gateway-routes", protect=outside) if adopting else None
if os.environ.get("FAIL") == migration.phase and not pulumi.runtime.is_dry_run():
    last = pulumi.StackReference("nowhere")
export_phase(config, reached, (last,))
pulumi.export("wanted", migration.phase)
"""


@dataclass(frozen=True)
class Migrating:
    """The stack in its folders."""

    folder: Path
    backend: Path

    @property
    def file(self) -> Path:
        return self.folder / f"Pulumi.{NAME}.yaml"

    @property
    def legacy(self) -> Path:
        return self.folder / "legacy" / NAME

    @property
    def checkout(self) -> Checkout:
        return Checkout(folder=self.folder, file=self.file)

    @property
    def engine(self) -> Engine:
        return Engine(stack=NAME, config_file=self.file)

    def stack(self) -> Stack:
        return read_stack(NAME, self.file)

    def write(self, phase: str, **changes: Any) -> None:  # noqa: ANN401 - values of a stack file
        """Another stack file, with what Pulumi wrote into the one before."""
        before: dict[str, Any] = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        values = {**adopting_values(phase), **changes}
        config = {f"llama-chat:{key}": value for key, value in values.items()}
        self.file.write_text(yaml.safe_dump({**before, "config": config}, sort_keys=False, width=200))

    def git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.folder, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def commit(self, message: str = "Before") -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def pulumi(self, *arguments: str, code: int = 0) -> str:
        """A Pulumi command that must end so; what it printed."""
        done = subprocess.run(
            ["pulumi", *arguments, "--stack", NAME],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def up(self, phase: str, code: int = 0) -> str:
        self.write(phase)
        return self.pulumi("up", "--yes", "--skip-preview", "--suppress-progress", code=code)

    def outputs(self) -> dict[str, Any]:
        return json.loads(self.pulumi("stack", "output", "--json"))

    def standing(self) -> list[str]:
        """The names of what the state has, sorted."""
        resources: list[dict[str, str]] = (
            json.loads(self.pulumi("stack", "export"))["deployment"].get("resources") or []
        )
        return sorted(it["urn"].rpartition("::")[2] for it in resources if not it["type"].startswith("pulumi:"))

    def copy(self, place: Path) -> "Migrating":
        for source, name in ((self.folder, "repository"), (self.backend, "backend")):
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        return Migrating(place / "repository", place / "backend")


def made(place: Path) -> Migrating:
    """The repository, with the stack in phase parallel."""
    stack = Migrating(place / "repository", place / "backend")
    stack.backend.mkdir()
    stack.legacy.mkdir(parents=True)
    texts = {TEXTS["litellm"]: LITELLM, TEXTS["librechat"]: LIBRECHAT}
    texts |= {DEPLOYMENTS["gateway"]: yaml.safe_dump(GATEWAY), DEPLOYMENTS["frontend"]: yaml.safe_dump(FRONTEND)}
    for name, text in texts.items():
        (stack.legacy / name).write_bytes(text.encode())
    shutil.copytree(ROOT / "config", stack.folder / "config", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, stack.folder)
    runtime = {"name": "python", "options": {"toolchain": "uv", "virtualenv": ".venv"}}
    (stack.folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "llama-chat", "runtime": runtime}))
    (stack.folder / "__main__.py").write_text(PROGRAM)
    (stack.folder / ".gitignore").write_text(".venv/\n__pycache__/\n")
    stack.write("parallel")
    stack.git("init", "--quiet")
    stack.commit()
    return stack


def at_hand(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have the commands look into this repository, and git know who commits."""
    patch.setattr(legacy, "LEGACY", folder / "legacy")
    patch.setattr(stacks, "load_lock", lambda: None)
    patch.setattr(engine, "ROOT", folder)
    for who in ("AUTHOR", "COMMITTER"):
        patch.setenv(f"GIT_{who}_NAME", "test")
        patch.setenv(f"GIT_{who}_EMAIL", "test@example.org")
