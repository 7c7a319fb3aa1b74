"""Going back to an earlier update: its commit's program, its config, today's secrets, and a hold so that it stays."""

import os
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import typer

from config.errors import UserError
from config.hold import HOLD_VARIABLE
from local.console import say
from local.paths import INSTANCES
from ops.changes import changed, phase
from ops.choice import Choice, choose, local_time
from ops.engine import Engine, run_gently
from ops.guard import PATCHES, Loss, losses
from ops.history import Record, ask_pulumi, backend_folder, read_history, rollback_message
from ops.hold import hold_text, put_hold, read_hold
from ops.recorded import restored_text
from ops.worktree import Checkout, install, program_environment


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the operator said."""

    to: str | None = None
    """A commit or a time; without it, the last update that is sound and another one."""
    dry_run: bool = False
    agreed: bool = False
    allow_deletes: bool = False
    online: bool = False
    """Whether uv may fetch what its cache lacks of the old program's packages."""
    keep: tuple[str, ...] = ()
    """Keys of the stack file, without `llama-chat:`, that stay as they are today."""


@dataclass(frozen=True, kw_only=True)
class Restored:
    """An older program with its config, ready to run."""

    stack: str
    program: Path
    """The Pulumi project's folder, in a worktree."""
    file: Path
    """The stack file, made of the update's record."""
    variables: Mapping[str, str]

    def pulumi(self, command: str, *options: str) -> int:
        """Run one of Pulumi's commands with this program, its output as it comes; its exit code."""
        where = ["--stack", self.stack, "--config-file", str(self.file)]
        with _environment(program_environment(self.variables)):
            return run_gently(["pulumi", "-C", str(self.program), command, *where, *options]).status

    def losses(self, *options: str) -> list[Loss]:
        """A preview, its output as it comes; what it would take away. UserError where it fails."""
        log = self.file.with_name("events.json")
        log.unlink(missing_ok=True)
        # what is protected is to be told, not stumbled over
        if self.pulumi("preview", "--ignore-protect", "--event-log", str(log), *options):
            raise UserError(
                "The preview of the rollback failed and nothing was changed: mend the reason, which stands above, or go"
                " back to another update (TO)."
            )
        return losses(log)


Look = Callable[[Restored], None]


def roll_back(engine: Engine, checkout: Checkout, wishes: Wishes, *, before: Look, after: Look) -> None:
    """Bring a stack back to an earlier update, and hold it there; UserError where that cannot be, or failed.

    `before` looks whether the cluster has what the old config names, `after` runs the smoke tests.
    """
    records = read_history(engine.stack, checkout.folder)
    choice = choose(records, checkout, wishes.to)
    _tell(engine.stack, choice, wishes)
    text = hold_text(choice.target)
    with _restored(engine, checkout, choice.target, wishes, text) as restored:
        before(restored)
        if wishes.dry_run:
            _refuse_losses(restored.losses("--refresh"), wishes)
            say("dry run: nothing was changed")
            return
        backup = _back_up(engine.stack, checkout.folder)
        say(f"the state as it is now: {backup}")
        _refresh(engine, checkout.folder)
        lost = restored.losses()
        _refuse_losses(lost, wishes)
        if not (wishes.agreed or _agreed(engine.stack)):
            say("nothing was rolled back")
            return
        if read_history(engine.stack, checkout.folder) != records:
            raise UserError(
                "Somebody else has updated the stack meanwhile: look at `make history`, then run this again."
            )
        _apply(restored, checkout.folder, choice.target, lost, text)
        _check(restored, after, backup)
    say(f"stack {engine.stack} is back at {choice.target.short}, and held: every update refuses until")
    say(f"  make resume STACK={engine.stack}")


def _tell(stack: str, choice: Choice, wishes: Wishes) -> None:
    stands, target = choice.stands, choice.target
    for record, reason in choice.passed_over:
        say(f"passed over: {_line(record)}: {reason}")
    say(f"{stack} stands at: {_line(stands)}{'' if stands.succeeded else ', which failed'}")
    for record in choice.since:
        say(f"  tried since: {_line(record)}: {record.message}: {record.result}")
    say(f"  goes back to: {_line(target)}: {target.message}")
    differences = changed(stands.config, target.config)
    say(f"  which means: {'; '.join(differences) or 'the same config, with the program of that commit'}")
    if target.dirty:
        say("  its checkout had changes that were not committed: those of its stack file are restored, others are lost")
    kept = [*sorted(target.secrets), *(f"{key} (KEEP)" for key in wishes.keep)]
    say(f"  as today: {', '.join(kept) or 'nothing'}")


def _line(record: Record) -> str:
    return f"{local_time(record.ended)}  {record.short}  phase {phase(record.config)}"


@contextmanager
def _restored(engine: Engine, checkout: Checkout, record: Record, wishes: Wishes, text: str) -> Generator[Restored]:
    # the file stands outside of the worktree, which stays as clean as its commit
    with tempfile.TemporaryDirectory(prefix="llama-chat-rollback-") as scratch:
        file = Path(scratch) / f"Pulumi.{engine.stack}.yaml"
        file.write_text(restored_text(record, engine.config_file, wishes.keep), encoding="utf-8")
        say("making that commit's program, with its own packages")
        with checkout.worktree(record.commit or "") as program:
            install(program, online=wishes.online)
            # the log of events is for Pulumi's own Automation API, and hidden without this
            variables = {HOLD_VARIABLE: text, "PULUMI_DEBUG_COMMANDS": "true"}
            yield Restored(stack=engine.stack, program=program, file=file, variables=variables)


def _back_up(stack: str, folder: Path) -> Path:
    """The state, in a file for its owner alone: beside a `file://` backend's own, else in the user's state folder."""
    place = (backend_folder(folder) or INSTANCES["local"].state.parent) / "backups"
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    file = place / f"{stack}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json"
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as written:
        written.write(ask_pulumi(folder, "stack", "export", "--stack", stack))
    return file


def _refresh(engine: Engine, folder: Path) -> None:
    """Read the cluster into the state, and settle what a killed update left pending; the cluster stays as it is."""
    options = ["--yes", "--skip-preview", "--clear-pending-creates", "--config-file", str(engine.config_file)]
    if run_gently(["pulumi", "-C", str(folder), "refresh", "--stack", engine.stack, *options]).status:
        raise UserError(
            "pulumi refresh failed: the reason stands above. Where it is a lock, its holder may be at work: wait; where"
            f" that one was killed, `pulumi cancel --stack {engine.stack}` removes it. Then run this again."
        )


def _refuse_losses(lost: list[Loss], wishes: Wishes) -> None:
    # what they say would stay in the cluster, and lead users to backends that are gone
    if patches := [loss for loss in lost if loss.kind.endswith(PATCHES)]:
        raise UserError(
            f"The rollback would {', '.join(map(str, patches))}, whose routes would stay without their backends: "
            "nothing was changed. Go back to phase parallel first (make demote TO=parallel, make up), then run this "
            "again."
        )
    if lost and not wishes.allow_deletes:
        raise UserError(
            f"The rollback would {', '.join(map(str, lost))}: nothing was changed. Where that is wanted, say"
            " ALLOW_DELETES=1 (--allow-deletes); what Pulumi keeps on delete stays in the cluster, and is forgotten."
        )


def _agreed(stack: str) -> bool:
    if not sys.stdin.isatty():
        raise UserError("Nobody is there to be asked: YES=1 (--yes) applies what stands above. Nothing was changed.")
    return typer.confirm(f"Roll stack {stack} back?")


def _apply(restored: Restored, folder: Path, record: Record, lost: list[Loss], text: str) -> None:
    # first: an update that starts from now on refuses, and this one may be killed
    put_hold(restored.stack, folder, text)
    held = (
        f"Stack {restored.stack} is held as it is: run this again, or `make resume STACK={restored.stack}` to go on"
        " with this checkout."
    )
    for urn in (loss.urn for loss in lost if loss.protected):
        say(f"unprotecting {urn}")
        try:
            ask_pulumi(folder, "state", "unprotect", "--yes", "--stack", restored.stack, urn)
        except UserError as error:
            raise UserError(f"{error} {held}") from None
    if restored.pulumi("up", "--yes", "--skip-preview", "--message", rollback_message(record)):
        raise UserError(f"The rollback's pulumi up failed: the reason stands above. {held}")
    if read_hold(restored.stack, folder) != text:
        say("that commit knows of no hold: it is put into the stack's outputs from outside")
        put_hold(restored.stack, folder, text)


def _check(restored: Restored, after: Look, backup: Path) -> None:
    if fault := _fault(restored, after):
        raise UserError(
            f"Stack {restored.stack} was rolled back, is held, and is not sound: {fault}. Roll back further (run this"
            f" again), or mend what is wrong and run `make resume STACK={restored.stack}`. The state before: {backup}"
        )


def _fault(restored: Restored, after: Look) -> str | None:
    try:
        after(restored)
    except UserError as error:
        return str(error)
    return "a preview of it shows changes" if restored.pulumi("preview", "--expect-no-changes") else None


@contextmanager
def _environment(variables: Mapping[str, str]) -> Generator[None]:
    """These variables alone, for the commands that are started meanwhile."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
