"""The Pulumi CLI, for one stack."""

import json
import re
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast

from config.errors import UserError
from local.console import say
from local.paths import Instance
from local.stack_state import locks
from ops.stack import ROOT, Stack

ENDING_SECONDS = 10.0
"""How long a killed Pulumi may take to be gone."""


class Ended(NamedTuple):
    """How a command ended."""

    status: int
    interrupted: bool
    """Whether somebody had it end."""


class InterruptedUpdateError(UserError):
    """An update that failed as somebody had it end."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Pulumi's command line, bound to a stack and the file that configures it."""

    stack: str
    config_file: Path
    keep_going: bool = False
    """Whether an update goes on with what does not depend on what fails: the way back is not to wait for a backend."""

    def up(self, *options: str) -> None:
        """`pulumi up` after a look at what stands, its output as it comes; UserError when it fails."""
        # a killed update's state may say more than the cluster has; a node that came back has lost its label
        ended = self._run("up", "--refresh", *(["--continue-on-error"] if self.keep_going else []), *options)
        if ended.status and ended.interrupted:
            raise InterruptedUpdateError(f"pulumi up of stack {self.stack} was interrupted: run this again.")
        if ended.status:
            raise UserError(f"pulumi up of stack {self.stack} failed: the reason stands above.")

    def destroy(self, *options: str) -> None:
        """`pulumi destroy`, its output as it comes; UserError when it fails."""
        if self._run("destroy", *options).status:
            raise UserError(f"pulumi destroy of stack {self.stack} failed: the reason stands above.")

    def preview(self, *options: str) -> int:
        """`pulumi preview`, its output as it comes; its exit code."""
        return self._run("preview", *options).status

    def refuse_lost_claims(self, kept: Collection[str]) -> None:
        """UserError where the state protects a claim that is none of `kept`: an update would meet it half way."""
        exported = subprocess.run(
            ["pulumi", "stack", "export", "--stack", self.stack], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if exported.returncode:
            raise UserError(f"The state of stack {self.stack} cannot be read: {exported.stderr.strip()}")
        resources: list[dict[str, Any]] = json.loads(exported.stdout)["deployment"].get("resources") or []
        claims = [it for it in resources if it["type"].endswith(":PersistentVolumeClaim") and it.get("protect")]
        lost = [it["urn"] for it in claims if it["inputs"]["metadata"]["name"] not in kept]
        if lost:
            lines = "\n".join(f"  pulumi state unprotect --stack {self.stack} --yes '{urn}'" for urn in lost)
            raise UserError(
                "The stack file no longer has the backends of these volumes, which are protected. To give them up, so"
                f" that Pulumi forgets them and the cluster keeps them:\n{lines}"
            )

    def repair(self) -> None:
        """Clear what a killed update left in the state: its lock, and operations that never ended."""
        if self._run("cancel", "--yes", config_file=False).status:
            raise UserError(f"pulumi cancel of stack {self.stack} failed: the reason stands above.")
        say("the last update was cut off: reading the cluster's state anew")
        if self._run("refresh", "--yes", "--skip-preview", "--clear-pending-creates").status:
            raise UserError(f"pulumi refresh of stack {self.stack} failed: the reason stands above.")

    def _run(self, command: str, *options: str, config_file: bool = True) -> Ended:
        where = ["--config-file", str(self.config_file)] if config_file else []
        return run_gently(["pulumi", command, "--stack", self.stack, *where, *options])


def run_gently(command: Sequence[str]) -> Ended:
    """Run a command that must end by itself: Ctrl-C reaches it from the terminal, SIGTERM is passed on as one.

    A killed Pulumi leaves its lock and half an update behind; an interrupted one finishes what it is at.
    """
    process: subprocess.Popen[bytes] | None = None
    came: list[int] = []

    def pass_on(number: int, _frame: object) -> None:
        came.append(number)
        if number == signal.SIGTERM and process is not None:
            process.send_signal(signal.SIGINT)

    # a function, before the command starts: an ignored signal would be ignored by the command too
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        process = subprocess.Popen(command, cwd=ROOT)
        if signal.SIGTERM in came:
            process.send_signal(signal.SIGINT)
        return Ended(process.wait(), interrupted=bool(came))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def own_engine(stack: Stack) -> Engine:
    """The engine of an operator's stack: his backend, his secrets, and the stack made by him."""
    listed = subprocess.run(["pulumi", "stack", "ls", "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        raise UserError(f"Pulumi's state backend does not answer: {listed.stderr.strip()}")
    names = {str(found["name"]).rsplit("/", 1)[-1] for found in json.loads(listed.stdout)}
    if stack.name not in names:
        raise UserError(
            f"Pulumi's backend has no stack {stack.name}: make it once with `pulumi stack init {stack.name}`."
        )
    return Engine(stack=stack.name, config_file=stack.file, keep_going=_leads_back(stack))


def local_engine(stack: Stack, instance: Instance) -> Engine:
    """The engine of the local stack, made and repaired as needed; the checkout's own files stay untouched.

    Pulumi writes the stack's salt into its config file: a copy of the file, with the salt, stands in the state folder.
    """
    refuse_running(instance)
    project = instance.state / "project"
    salted = project / f"Pulumi.{stack.name}.yaml"
    if not salted.exists() or not _stack_file(instance, stack).exists():
        project.mkdir(parents=True, exist_ok=True)
        (project / "Pulumi.yaml").write_text("name: llama-chat\nruntime: python\n")
        # one without the other is what a kill in `stack init` leaves: nothing stands in that stack yet
        salted.unlink(missing_ok=True)
        _stack_file(instance, stack).unlink(missing_ok=True)
        made = subprocess.run(
            ["pulumi", "stack", "init", stack.name], cwd=project, capture_output=True, text=True, check=False
        )
        if made.returncode:
            raise UserError(f"pulumi stack init {stack.name} failed: {made.stderr.strip()}")
    config_file = instance.state / f"Pulumi.{stack.name}.yaml"
    config_file.write_text(f"{stack.file.read_text()}\n{salted.read_text()}")
    engine = Engine(stack=stack.name, config_file=config_file, keep_going=_leads_back(stack))
    if locks(instance) or _cut_off(instance, stack):
        engine.repair()
    return engine


def _leads_back(stack: Stack) -> bool:
    """Whether users are led by what was adopted, and by no backend of the stack."""
    return stack.config.gateway.mode == "adopt" and stack.config.migration.phase == "parallel"


def _stack_file(instance: Instance, stack: Stack) -> Path:
    return instance.state / "pulumi" / ".pulumi" / "stacks" / "llama-chat" / f"{stack.name}.json"


def _cut_off(instance: Instance, stack: Stack) -> bool:
    state = cast("dict[str, Any]", json.loads(_stack_file(instance, stack).read_text()))
    latest: dict[str, Any] = state["checkpoint"].get("latest") or {}
    return bool(latest.get("pending_operations"))


def refuse_running(instance: Instance) -> None:
    """UserError while a Pulumi that outlived its command still writes the local state."""
    # one that was killed a moment ago still has to end
    deadline = time.monotonic() + ENDING_SECONDS
    while pid := next(filter(None, map(_writer, locks(instance))), None):
        if time.monotonic() > deadline:
            raise UserError(f"Another pulumi (pid {pid}) is updating the local stack: wait for it, or end it.")
        time.sleep(0.2)


def _writer(lock: Path) -> int | None:
    """The Pulumi that holds a lock; None where it is gone, or is a zombie that nobody has reaped yet."""
    try:
        pid = int(json.loads(lock.read_text())["pid"])
        name, state = re.findall(r"^(?:Name|State):\t(\S+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except (ValueError, OSError):  # half written by a killed update, or its process is gone
        return None
    return pid if name.startswith("pulumi") and state not in {"Z", "X"} else None
