"""A stack is moved to another phase in its file and by one commit, once what stands is sound."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.errors import UserError
from ops import promote as command
from ops import standing
from ops.checklist import Check
from ops.promote import demote, promote
from tests.ops.adoptable import Cluster
from tests.ops.migrating import NAME, SINCE, Migrating, at_hand, made


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrating:
    at_hand(monkeypatch, tmp_path / "repository")
    return made(tmp_path)


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The stack's, for a test to change."""
    told = {"phase": "parallel", "phase_since": SINCE}

    def read_outputs(_stack: str, _folder: Path) -> dict[str, Any]:
        return told

    monkeypatch.setattr(standing, "read_outputs", read_outputs)
    return told


@pytest.fixture(autouse=True)
def verified(monkeypatch: pytest.MonkeyPatch) -> list[Check]:
    """What `make verify` finds, for a test to change."""
    checks = [Check(group="router", subject="llm-gateway", what="lists", ok=True, detail="3 names")]

    def verify(_config: object, _kube: object) -> list[Check]:
        return checks

    monkeypatch.setattr(command, "verify", verify)
    return checks


def move(stack: Migrating) -> None:
    promote(stack.stack(), Cluster(), stack.checkout)


def test_the_next_phase_is_written_and_committed_alone(
    stack: Migrating, outputs: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    before = stack.file.read_text()
    (stack.folder / "notes.txt").write_text("somebody's own\n")
    stack.git("add", "notes.txt")
    move(stack)
    assert stack.file.read_text() == before.replace("phase: parallel", "phase: test")
    assert stack.git("log", "-1", "--format=%s") == "Move prod to phase test"
    assert stack.git("show", "--name-only", "--format=", "HEAD") == "Pulumi.prod.yaml"
    assert stack.git("status", "--short") == "A  notes.txt"
    told = capsys.readouterr()
    assert "3 names" in told.out
    assert "`make up STACK=prod` does it" in told.err
    outputs["phase"] = "test"
    move(stack)
    assert stack.stack().config.migration.phase == "cutover"


def test_a_stack_file_that_says_nothing_of_the_migration_is_given_it(stack: Migrating, outputs: dict[str, Any]) -> None:
    document = yaml.safe_load(stack.file.read_text())
    del document["config"]["llama-chat:migration"]
    stack.file.write_text(yaml.safe_dump(document, sort_keys=False))
    stack.commit()
    move(stack)
    assert outputs["phase"] == "parallel"
    assert stack.stack().config.migration.phase == "test"


def test_a_red_check_keeps_the_stack_where_it_is(
    stack: Migrating, outputs: dict[str, Any], verified: list[Check], capsys: pytest.CaptureFixture[str]
) -> None:
    verified.append(Check(group="backend", subject="llama-static-a", what="answers", ok=False, detail="no answer"))
    with pytest.raises(UserError, match=r"stays in parallel: mend what the table above shows as FAILED"):
        move(stack)
    assert "no answer" in capsys.readouterr().out
    assert stack.git("status", "--short") == ""
    assert outputs["phase"] == stack.stack().config.migration.phase


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        ({"hold": "rolled back to abcdef0"}, r"Stack prod is held: rolled back to abcdef0\. `make resume STACK=prod`"),
        ({"phase": "test"}, r"says phase parallel, and the stack has reached test: run `make up STACK=prod` first"),
        ({"phase_since": None}, r"the stack has reached no phase yet: run `make up STACK=prod` first"),
    ],
)
def test_a_stack_that_is_not_where_its_file_says_stays_there(
    stack: Migrating, outputs: dict[str, Any], told: dict[str, Any], refusal: str
) -> None:
    outputs.update(told)
    with pytest.raises(UserError, match=refusal):
        move(stack)
    assert stack.git("log", "-1", "--format=%s") == "Before"


@pytest.mark.usefixtures("outputs")
def test_changes_of_the_stack_file_that_nobody_committed_are_not_committed_along(stack: Migrating) -> None:
    stack.write("parallel", startup_seconds=900)
    for command_ in (lambda: move(stack), lambda: demote(stack.stack(), stack.checkout, None)):
        with pytest.raises(UserError, match=r"Pulumi\.prod\.yaml has changes that are not committed: commit them, or"):
            command_()


def test_done_waits_for_its_soaking_and_is_the_last(stack: Migrating, outputs: dict[str, Any]) -> None:
    stack.write("frontend")
    stack.commit("Frontend")
    since = datetime.now(UTC) - timedelta(hours=23)
    outputs.update(phase="frontend", phase_since=since.isoformat())
    with pytest.raises(UserError, match=r"done: frontend soaks for 24 h since .* UTC: 1 h are left: wait, or lower"):
        move(stack)
    outputs["phase_since"] = SINCE
    move(stack)
    outputs["phase"] = "done"
    with pytest.raises(UserError, match="has reached done, the last phase: there is nothing to move to"):
        move(stack)


def test_a_gateway_of_our_own_has_nowhere_to_go(stack: Migrating) -> None:
    values = {"gateway": {"master_key_secret": {"name": "a", "key": "b"}}, "frontend": {}, "legacy": {}}
    stack.write("parallel", **values)
    stack.commit()
    with pytest.raises(UserError, match=r"llama-chat:gateway\.mode: deploy: .*: this is for mode adopt alone"):
        move(stack)


@pytest.mark.usefixtures("outputs")
def test_a_commit_that_fails_leaves_the_file_as_it_was(stack: Migrating) -> None:
    hook = stack.folder / ".git" / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho the hook says no >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(UserError, match="git commit failed, mend what it says and run this again: the hook says no"):
        move(stack)
    assert stack.git("status", "--short") == ""
    assert stack.stack().config.migration.phase == "parallel"


@pytest.mark.parametrize(("to", "phase"), [(None, "test"), ("parallel", "parallel")])
def test_a_stack_goes_back_one_phase_or_to_the_one_that_is_named_without_being_asked_anything(
    stack: Migrating, outputs: dict[str, Any], verified: list[Check], to: str | None, phase: str
) -> None:
    outputs.update(phase="cutover", hold="rolled back to abcdef0")
    verified.clear()
    stack.write("cutover")
    stack.commit("Cutover")
    demote(stack.stack(), stack.checkout, to)
    assert stack.stack().config.migration.phase == phase
    assert stack.git("log", "-1", "--format=%s") == f"Move {NAME} back to phase {phase}"


def test_a_way_back_that_the_gate_refuses_is_refused_before_its_commit(
    stack: Migrating, outputs: dict[str, Any]
) -> None:
    outputs["phase"] = "done"
    stack.write("done", migration={"phase": "done", "keep_aliases": False, "renamed": True})
    stack.commit("Done")
    with pytest.raises(UserError, match=r"parallel: with keep_aliases false, .*: go back to cutover first"):
        demote(stack.stack(), stack.checkout, "parallel")
    assert stack.git("log", "-1", "--format=%s") == "Done"
    demote(stack.stack(), stack.checkout, "cutover")
    assert stack.stack().config.migration.phase == "cutover"


@pytest.mark.usefixtures("outputs")
def test_on_a_detached_head_nothing_is_committed(stack: Migrating) -> None:
    stack.git("checkout", "--quiet", "--detach")
    with pytest.raises(UserError, match=r"git's HEAD is detached: switch to a branch \(`git switch <branch>`\)"):
        move(stack)
    assert stack.git("log", "-1", "--format=%s") == "Before"
    assert stack.git("status", "--short") == ""


def test_what_is_not_earlier_is_no_way_back(stack: Migrating) -> None:
    with pytest.raises(UserError, match="says parallel, the first phase: there is nothing to go back to"):
        demote(stack.stack(), stack.checkout, None)
    stack.write("cutover")
    stack.commit("Cutover")
    for to in ("frontend", "cutover", "elsewhere"):
        with pytest.raises(UserError, match=f"TO={to}: .* says cutover: write an earlier phase: parallel, test"):
            demote(stack.stack(), stack.checkout, to)
