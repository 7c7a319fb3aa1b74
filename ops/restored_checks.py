"""What a rollback asks of the cluster: whether it has what the old config names, and whether what stands answers."""

import subprocess

from config.errors import UserError
from config.legacy import LEGACY
from config.load import load_file
from config.lock import LOCK_FILE, load_lock
from local.console import say
from ops.kube import Kube
from ops.preflight import preflight
from ops.rollback import Restored
from ops.worktree import program_environment


def look_first(kube: Kube, restored: Restored) -> None:
    """The look that `make up` takes, for the old config; where today's checkout refuses that, it says so."""
    try:
        lock = load_lock(restored.program / LOCK_FILE.name)
        config = load_file(restored.file, lock, adopted=restored.program / LEGACY.name / restored.stack)
    except UserError as error:
        say(f"not looked at the cluster first: this checkout does not take that config: {error}")
        return
    preflight(config, kube, restored.stack)


def smoke_there(restored: Restored) -> None:
    """The old commit's own `make smoke`, which knows its own tests; UserError where one fails."""
    if not (restored.program / "ops" / "smoke.py").exists():
        say("that commit has no `make smoke`: the tests that are part of its update have passed")
        return
    python = restored.program / ".venv" / "bin" / "python"
    options = ["--stack", restored.stack, "--config-file", str(restored.file)]
    done = subprocess.run(
        [python, "-m", "ops", "smoke", *options], cwd=restored.program, env=program_environment({}), check=False
    )
    if done.returncode:
        raise UserError("a smoke test fails, its verdict stands above")
