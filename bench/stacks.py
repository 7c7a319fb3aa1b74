"""The stacks that are compared, each a Pulumi project in a folder of its own."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from bench.command import Command
from bench.record import record, to_json
from bench.variants import stack_file, variant
from local.console import say
from ops.stack import ROOT

PROD = ROOT / "Pulumi.prod.yaml"
PROGRAM = ROOT / "__main__.py"
_START = """import sys
from pathlib import Path

sys.path.insert(0, {root!r})
from bench.wrapper import run

run(Path({program!r}))
"""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """One of them: `llama-chat` under a name of its own, with its namespace."""

    name: str
    title: str
    folder: Path

    @property
    def namespace(self) -> str:
        """Where its objects are."""
        return f"bench-{self.name}"

    @property
    def preview(self) -> Command:
        """A preview that fails where it would change anything."""
        return self._pulumi("preview", "--stack", self.name, "--non-interactive", "--expect-no-changes")

    def apply(self) -> None:
        """Make the stack, and bring it up."""
        say(f"pulumi up: {self.title}")
        self._pulumi("stack", "init", self.name).seconds()
        self._pulumi("up", "--stack", self.name, "--non-interactive", "--yes", "--skip-preview").seconds()

    def write_empty(self) -> None:
        """A program that registers nothing."""
        self._write(project(), "")

    def write_bare(self) -> None:
        """Prod's objects, without our layers."""
        registrations = record(PROGRAM, variant(PROD, self.namespace), self.name)
        self._write(project(), _start(ROOT / "bench" / "bare.py"))
        (self.folder / "registrations.json").write_text(to_json(registrations))

    def write_prod(self, pool_models: int | None = None) -> None:
        """The real program on prod's file."""
        whole = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
        self._write({**whole, **project()}, _start(PROGRAM))
        config_file = self.folder / f"Pulumi.{self.name}.yaml"
        config_file.write_text(stack_file(variant(PROD, self.namespace, pool_models)))

    def _write(self, project_file: dict[str, Any], program: str) -> None:
        self.folder.mkdir()
        (self.folder / "Pulumi.yaml").write_text(yaml.safe_dump(project_file))
        (self.folder / "__main__.py").write_text(program)

    def _pulumi(self, *arguments: str) -> Command:
        return Command(argv=("pulumi", *arguments), folder=self.folder, log=self.folder / "log")


def project() -> dict[str, Any]:
    """What every Pulumi.yaml of ours has: the real one's runtime, in this Python's environment."""
    whole = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())
    runtime = whole["runtime"]
    return {
        "name": whole["name"],
        "runtime": {**runtime, "options": {**runtime["options"], "virtualenv": str(Path(sys.prefix))}},
    }


def _start(program: Path) -> str:
    return _START.format(root=str(ROOT), program=str(program))
