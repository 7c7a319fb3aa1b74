"""A checkout of the tests' own: the stack file and `legacy/` change there, and commits are made there."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

from local.uv import uv_command
from tests.e2e.line import ROOT, Line


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def clone(folder: Path) -> Path:
    """The checkout under test with its uncommitted changes, as a clone whose tree is clean."""
    git(ROOT, "clone", "--quiet", "--no-hardlinks", str(ROOT), str(folder))
    for name in ("user.name=Operator", "user.email=operator@example.org"):
        git(folder, "config", *name.split("="))
    changed = git(ROOT, "ls-files", "--modified", "--others", "--exclude-standard", "--deduplicate").splitlines()
    for name in changed:
        target = folder / name
        target.unlink(missing_ok=True)
        if (ROOT / name).exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
            target.chmod((ROOT / name).stat().st_mode)
    commit(folder, "The checkout under test")
    # as the README says: uv makes the environment that Pulumi runs the program in
    subprocess.run([uv_command(), "sync", "--frozen", "--offline", "--quiet"], cwd=folder, check=True, timeout=300)
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit all that changed; nothing, where nothing did."""
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--allow-empty", "--message", message)


def write_config(line: Line, config: dict[str, Any]) -> None:
    """Write the local stack's file of a line's checkout."""
    document = {"config": {f"llama-chat:{key}": value for key, value in config.items()}}
    (line.root / "Pulumi.local.yaml").write_text(yaml.safe_dump(document, sort_keys=False))


def read_config(line: Line) -> dict[str, Any]:
    """The local stack's file of a line's checkout."""
    document = yaml.safe_load((line.root / "Pulumi.local.yaml").read_text())
    return {key.removeprefix("llama-chat:"): value for key, value in document["config"].items()}
