"""A stack of the tests' own: a git repository with a small Pulumi program, its state in a folder, and its history."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from local.toolchain import ensure
from ops.engine import Engine
from ops.history import Record, read_history
from ops.rollback import Look, Restored, Wishes, roll_back
from ops.stack import ROOT
from ops.worktree import Checkout

NAME = "prod"
PROGRAM = """import os
import pulumi
{hold}

class Thing(pulumi.ComponentResource):
    def __init__(self, kind, name, inputs, protect=False):
        super().__init__(kind, name, inputs, pulumi.ResourceOptions(protect=protect))
        self.register_outputs({{}})

def stop(_):
    raise pulumi.RunError("told to fail")

config = pulumi.Config()
things = [Thing("llama-chat:tiny:Model", it["model"]["name"], it) for it in config.require_object("statics")]
for claim in config.get_object("claims") or []:
    Thing("kubernetes:core/v1:PersistentVolumeClaim", claim, {{}}, protect=True)
if os.environ.get("FAIL") and not pulumi.runtime.is_dry_run():
    things[-1].urn.apply(stop)
pulumi.export("models", [it["model"]["name"] for it in config.require_object("statics")])
pulumi.export("program", "{name}")
pulumi.export("key", config.require_secret("master_key"))
"""
HOLD = "from config.hold import respect_hold\nrespect_hold()"
AGREED = Wishes(agreed=True)
QUIET = ("--yes", "--skip-preview", "--suppress-progress")


@dataclass
class Tiny:
    """The stack in its folders."""

    folder: Path
    backend: Path
    looked_at: list[Path] = field(default_factory=list[Path])

    @property
    def file(self) -> Path:
        return self.folder / f"Pulumi.{NAME}.yaml"

    @property
    def checkout(self) -> Checkout:
        return Checkout(folder=self.folder, file=self.file)

    @property
    def history_folder(self) -> Path:
        return self.backend / ".pulumi" / "history" / "llama-chat" / NAME

    def records(self) -> list[Record]:
        return read_history(NAME, self.folder)

    def pulumi(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        """A Pulumi command that must end so; what it printed."""
        done = subprocess.run(
            ["pulumi", *arguments, "--stack", NAME],
            cwd=self.folder,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    def up(self, code: int = 0) -> str:
        return self.pulumi("up", *QUIET, code=code)

    def git(self, *arguments: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def configure(self, models: Sequence[str], phase: str, claims: Sequence[str] = ()) -> None:
        """Write the stack file anew; what Pulumi wrote into it stays."""
        document: dict[str, Any] = yaml.safe_load(self.file.read_text()) if self.file.exists() else {}
        before: dict[str, Any] = document.get("config", {})
        kept = {key: value for key, value in before.items() if key.endswith("_key")}
        statics = [{"role": f"role-{name}", "model": {"name": name, "repo": f"a/{name}"}} for name in models]
        values = {"statics": statics, "migration": {"phase": phase}, "steady": False, "claims": list(claims)}
        config = {**{f"llama-chat:{key}": value for key, value in values.items()}, **kept}
        self.file.write_text(yaml.safe_dump({**document, "config": config}))

    def roll_back(self, wishes: Wishes = AGREED, before: Look | None = None, after: Look | None = None) -> None:
        engine = Engine(stack=NAME, config_file=self.file)
        roll_back(engine, self.checkout, wishes, before=before or self._look, after=after or self._look)

    def outputs(self) -> dict[str, Any]:
        return yaml.safe_load(self.pulumi("stack", "output", "--json", "--show-secrets"))

    def copy(self, place: Path) -> "Tiny":
        for source, name in ((self.folder, "repository"), (self.backend, "backend")):
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns(".venv", "__pycache__"))
        return Tiny(folder=place / "repository", backend=place / "backend")

    def _look(self, restored: Restored) -> None:
        self.looked_at.append(restored.program)


def environment(backend: Path) -> dict[str, str]:
    """Where Pulumi and uv are, and what they are told: no network, this Python, a state of the test's own."""
    uv = _uv()
    return {
        "UV": uv,
        "PATH": os.pathsep.join((ensure("pulumi").env()["PATH"], str(Path(uv).parent))),
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE": "first",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "UV_OFFLINE": "1",
        "UV_FROZEN": "1",
        "UV_NO_DEFAULT_GROUPS": "1",
        "UV_PYTHON": sys.executable,
    }


@cache
def _uv() -> str:
    """uv, with pip in its cache: Pulumi runs it to list a program's packages, and finds it there offline."""
    script = ["sh", str(ROOT / "local" / "bootstrap-uv.sh")]
    uv = subprocess.run(script, check=True, capture_output=True, text=True).stdout.strip()
    subprocess.run([uv, "tool", "run", "pip", "--version"], check=True, capture_output=True)
    return uv


def made(place: Path) -> Tiny:
    """The stack with five updates, each of another kind."""
    tiny = Tiny(folder=place / "repository", backend=place / "backend")
    tiny.backend.mkdir()
    (tiny.folder / "config").mkdir(parents=True)
    for name in ("pyproject.toml", "uv.lock"):
        shutil.copy(ROOT / name, tiny.folder)
    project = {
        "name": "llama-chat",
        "runtime": {"name": "python", "options": {"toolchain": "uv", "virtualenv": ".venv"}},
        "config": {"startup_seconds": {"type": "integer", "default": 1800}},
    }
    (tiny.folder / "Pulumi.yaml").write_text(yaml.safe_dump(project))
    (tiny.folder / ".gitignore").write_text(".venv/\n__pycache__/\n")
    tiny.git("init", "--quiet")
    for step in _updates(tiny):
        step.up()
    return tiny


def _updates(tiny: Tiny) -> Iterator[Tiny]:
    program = tiny.folder / "__main__.py"
    program.write_text(PROGRAM.format(hold="", name="one"))
    tiny.pulumi("stack", "init")
    tiny.configure(["ada"], "parallel")
    tiny.pulumi("config", "set", "--secret", "master_key", "sk-of-the-first-day")
    tiny.commit("A program from before there were holds")
    yield tiny
    for name in ("__init__.py", "hold.py"):
        shutil.copy(ROOT / "config" / name, tiny.folder / "config")
    program.write_text(PROGRAM.format(hold=HOLD, name="two"))
    tiny.configure(["ada", "bohr"], "parallel")
    tiny.commit("Add bohr")
    yield tiny
    # a change of the stack file alone, committed later
    tiny.configure(["ada", "bohr"], "test")
    yield tiny
    program.write_text(PROGRAM.format(hold=HOLD, name="three"))
    tiny.configure(["ada", "bohr", "curie"], "test")
    tiny.commit("Add curie")
    (tiny.folder / "notes.txt").write_text("a file that git does not know\n")
    yield tiny
    (tiny.folder / "notes.txt").unlink()
    program.write_text(PROGRAM.format(hold=HOLD, name="four"))
    tiny.configure(["ada", "curie", "dirac"], "cutover", claims=["llama-dirac-cache"])
    tiny.commit("Take bohr out, add dirac")
    yield tiny


def files(tiny: Tiny, ending: str) -> list[Path]:
    """The history's files that end so, the oldest first."""
    return sorted(path for path in tiny.history_folder.iterdir() if path.name.endswith(ending))


def state(tiny: Tiny) -> dict[str, Any]:
    """The stack's deployment, as Pulumi exports it."""
    return json.loads(tiny.pulumi("stack", "export"))["deployment"]


def leave_pending(tiny: Tiny) -> None:
    """What a killed update leaves in the state: an operation without an end."""
    path = tiny.backend / ".pulumi" / "stacks" / "llama-chat" / f"{NAME}.json"
    whole = json.loads(path.read_text())
    latest = whole["checkpoint"]["latest"]
    resource = next(it for it in latest["resources"] if it["type"] == "llama-chat:tiny:Model")
    latest["pending_operations"] = [{"type": "creating", "resource": {**resource, "urn": resource["urn"] + "-new"}}]
    path.write_text(json.dumps(whole))
    assert state(tiny)["pending_operations"]


def again(tiny: Tiny, times: int) -> None:
    """The records of updates that applied once more what stands."""
    path = files(tiny, ".history.json")[-1]
    newest, stamp = json.loads(path.read_text()), int(path.name.removeprefix(f"{NAME}-").partition(".")[0])
    for seconds in range(1, times + 1):
        later = {name: newest[name] + seconds for name in ("startTime", "endTime")}
        stem = tiny.history_folder / f"{NAME}-{stamp + seconds * 10**9}"
        stem.with_suffix(".history.json").write_text(json.dumps({**newest, **later}))
        stem.with_suffix(".checkpoint.json").write_text("{}")


def edit(tiny: Tiny, index: int, change: Callable[[dict[str, Any]], object]) -> None:
    """Change one record of the history."""
    path = files(tiny, ".history.json")[index]
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
