"""Pulumi's command line for one stack: made, repaired, and never killed in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from config.errors import UserError
from local.paths import INSTANCES, Instance
from ops import engine
from ops.engine import local_engine, refuse_running
from ops.stack import ROOT, read_stack

PULUMI = """#!/bin/sh
# as Pulumi does: the stack first, then its salt; a stack that is there is not made again
echo "$*" >> "$CALLS"
[ "$1 $2" = "stack init" ] || exit 0
[ -e "$STACK_FILE" ] && { echo "stack already exists" >&2; exit 1; }
mkdir -p "$(dirname "$STACK_FILE")"
echo '{"checkpoint": {}}' > "$STACK_FILE"
echo "encryptionsalt: v1:salt" > "Pulumi.$3.yaml"
"""


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    made = INSTANCES["test"]
    (tmp_path / "pulumi").write_text(PULUMI)
    (tmp_path / "pulumi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("STACK_FILE", str(stack_file(made)))
    return made


def stack_file(instance: Instance) -> Path:
    return instance.state / "pulumi" / ".pulumi" / "stacks" / "llama-chat" / "local.json"


def wait_for(moment: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not moment():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_the_local_stack_is_made_once_and_configured_by_a_salted_copy(instance: Instance, tmp_path: Path) -> None:
    engines = [local_engine(read_stack("local"), instance) for _ in range(2)]
    assert engines[0] == engines[1]
    assert calls(tmp_path) == ["stack init local"]
    copy = yaml.safe_load(engines[0].config_file.read_text())
    assert copy == {**yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text()), "encryptionsalt": "v1:salt"}


@pytest.mark.parametrize("left", ["stack", "salt"])
def test_what_a_kill_in_stack_init_left_is_made_anew(instance: Instance, left: str) -> None:
    made = local_engine(read_stack("local"), instance)
    gone = instance.state / "project" / "Pulumi.local.yaml" if left == "stack" else stack_file(instance)
    gone.unlink()
    assert local_engine(read_stack("local"), instance) == made
    assert gone.exists()


def test_a_stale_lock_and_pending_operations_are_cleared(instance: Instance, tmp_path: Path) -> None:
    local_engine(read_stack("local"), instance)
    locks = instance.state / "pulumi" / ".pulumi" / "locks" / "organization" / "llama-chat" / "local"
    locks.mkdir(parents=True)
    (locks / "stale.json").write_text(json.dumps({"pid": 2**22 + 1}))
    local_engine(read_stack("local"), instance)
    assert [call.split()[0] for call in calls(tmp_path)] == ["stack", "cancel", "refresh"]


def test_an_update_looks_first_at_what_stands(instance: Instance, tmp_path: Path) -> None:
    local_engine(read_stack("local"), instance).up("--yes")
    *_, update = calls(tmp_path)
    assert update.startswith("up --stack local --config-file ")
    assert update.endswith(" --refresh --yes")


@pytest.fixture
def holder(instance: Instance, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process named as Pulumi's, which holds the stack's lock."""
    sleeper = tmp_path / "pulumi-sleeper"
    sleeper.symlink_to("/bin/sleep")
    with subprocess.Popen([sleeper, "30"]) as running:
        wait_for(lambda: Path(f"/proc/{running.pid}/comm").read_text() == "pulumi-sleeper\n")
        locks = instance.state / "pulumi" / ".pulumi" / "locks"
        locks.mkdir(parents=True)
        (locks / "held.json").write_text(json.dumps({"pid": running.pid}))
        yield running
        running.kill()


def test_a_pulumi_that_still_runs_is_not_cut_off(
    instance: Instance, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "ENDING_SECONDS", 0.5)
    with pytest.raises(UserError, match=f"pid {holder.pid}"):
        refuse_running(instance)


def test_a_pulumi_that_was_killed_and_is_not_reaped_yet_holds_nobody_up(
    instance: Instance, holder: subprocess.Popen[bytes]
) -> None:
    holder.kill()
    wait_for(lambda: "State:\tZ" in Path(f"/proc/{holder.pid}/status").read_text())
    refuse_running(instance)


def test_a_pulumi_that_is_ending_is_waited_for(instance: Instance, holder: subprocess.Popen[bytes]) -> None:
    threading.Timer(1, holder.kill).start()
    refuse_running(instance)
    assert holder.wait() == -signal.SIGKILL


def test_an_interrupted_command_ends_by_itself(tmp_path: Path) -> None:
    script = tmp_path / "slow"
    trap = "trap 'sleep 1; echo ended > ended; exit 3' INT"
    script.write_text(f"#!/bin/sh\n{trap}\necho up > up\nfor i in $(seq 300); do sleep 0.1; done\n")
    script.chmod(0o755)
    code = (
        "import sys, pathlib, ops.engine as engine; engine.ROOT = pathlib.Path(sys.argv[1]).parent;"
        "print(engine.run_gently(sys.argv[1:]))"
    )
    with subprocess.Popen([sys.executable, "-c", code, script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as command:
        wait_for((tmp_path / "up").exists)
        command.send_signal(signal.SIGTERM)
        printed, _ = command.communicate(timeout=30)
    assert printed == "Ended(status=3, interrupted=True)\n"
    assert (tmp_path / "ended").exists()


def test_a_protected_claim_that_no_backend_has_any_more_is_told_before_the_update(
    instance: Instance, tmp_path: Path
) -> None:
    claims = [
        {"urn": f"urn:{name}", "type": "kubernetes:core/v1:PersistentVolumeClaim", "protect": protect}
        | {"inputs": {"metadata": {"name": name}}}
        for name, protect in (("llama-kept-cache", True), ("llama-old-cache", True), ("llama-freed-cache", False))
    ]
    exported = json.dumps({"deployment": {"resources": claims}})
    (tmp_path / "pulumi").write_text(f"#!/bin/sh\n[ \"$1 $2\" = 'stack export' ] && echo '{exported}'\n")
    made = engine.Engine(stack="local", config_file=instance.state / "Pulumi.local.yaml")
    with pytest.raises(
        UserError, match=r"give them up.*\n  pulumi state unprotect --stack local --yes 'urn:llama-old-cache'$"
    ):
        made.refuse_lost_claims({"llama-kept-cache"})
    made.refuse_lost_claims({"llama-kept-cache", "llama-old-cache"})
