"""What a stack's history tells, and which of its updates a rollback goes back to."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.errors import UserError
from ops.changes import changed
from ops.choice import choose, standing
from ops.guard import losses
from ops.history import Record, backend_folder, read_history, rollback_message
from ops.recorded import another_file, restored_text
from ops.updates import print_updates
from ops.worktree import Checkout

START = datetime(2026, 1, 31, 12, tzinfo=UTC)
ADA: dict[str, Any] = {"name": "ada", "repo": "a/ada", "quant": "Q4_K_M"}
BOHR: dict[str, Any] = {"name": "bohr", "repo": "a/bohr", "quant": "Q8_0"}
STATIC: dict[str, Any] = {"role": "static-a", "model": ADA}
POOL: dict[str, Any] = {"role": "swap", "models": [BOHR]}
CONFIG: dict[str, Any] = {"llama-chat:statics": [STATIC], "llama-chat:pools": [POOL], "llama-chat:steady": "false"}


class Clone(Checkout):
    """A clone that has every commit, in which no dirt is the stack file's."""

    def has(self, commit: str) -> bool:
        return bool(commit)

    def explains(self, record: Record) -> bool:
        return record.message == "explained"


CLONE = Clone(folder=Path(), file=Path())


def record(number: int, commit: str, **other: Any) -> Record:  # noqa: ANN401 - any field
    moment = START + timedelta(minutes=number)
    plain = Record(
        kind="update",
        result="succeeded",
        message="",
        started=moment,
        ended=moment + timedelta(seconds=30),
        commit=commit * 40 or None,
        dirty=False,
        config=CONFIG,
        secrets=frozenset(),
        counts={"same": 5, "update": 1},
    )
    return replace(plain, **other)


def rolled_back(number: int, to: Record, **other: Any) -> Record:  # noqa: ANN401 - any field
    assert to.commit
    return record(number, to.commit[0], message=rollback_message(to), config=to.config, **other)


def target(*records: Record) -> Record:
    return choose(records, CLONE, None).target


CHANGES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"pools": []}, ["removes bohr"]),
    ({"pools": [{**POOL, "models": [BOHR, {"name": "dirac"}, {"name": "curie"}]}]}, ["adds curie, dirac"]),
    ({"statics": [{**STATIC, "role": "static-b"}]}, ["moves ada from static-a to static-b"]),
    ({"statics": [{**STATIC, "model": {**ADA, "quant": "F16"}}]}, ["ada from other weights"]),
    ({"migration": {"phase": "cutover"}}, ["phase parallel to cutover"]),
    ({"pools": [{**POOL, "ttl_seconds": 60}], "steady": "true"}, ["config: pools, steady"]),
    ({"pools": [], "steady": "true"}, ["removes bohr", "config: steady"]),
    ({"pools": "of another age", "statics": [None]}, ["removes ada, bohr"]),
]


@pytest.mark.parametrize(("change", "told"), CHANGES)
def test_what_an_update_changed_is_told_in_plain_words(change: Mapping[str, Any], told: list[str]) -> None:
    after = {**CONFIG, **{f"llama-chat:{key}": value for key, value in change.items()}}
    assert changed(CONFIG, after) == told


def test_an_update_that_ended_before_its_first_resource_is_not_what_stands() -> None:
    refused = record(2, "b", result="failed", counts={"same": 1})
    broken = record(2, "b", result="failed", counts={"same": 4})
    assert standing([record(1, "a"), refused]) == 0
    assert standing([record(1, "a"), broken]) == 1
    assert standing([refused]) is None


def test_what_failed_is_undone_by_going_back_to_what_stood_before_it() -> None:
    first, second = record(1, "a"), record(2, "b")
    assert target(first, second, record(3, "c", result="failed")) is second
    assert target(first, second, record(3, "c", result="failed"), record(4, "b", result="failed")) is first


def test_what_was_applied_again_is_no_step_back() -> None:
    first = record(1, "a")
    assert target(first, record(2, "b"), record(3, "b", counts={"same": 6})) is first
    another = {**CONFIG, "llama-chat:steady": "true"}
    second = record(2, "b")
    assert target(first, second, record(3, "b", config=another)) is second


def test_a_rollback_stands_for_what_it_went_back_to() -> None:
    first, second, third = record(1, "a"), record(2, "b"), record(3, "c")
    back = rolled_back(4, second)
    assert target(first, second, third, back) is first
    resumed = record(5, "d")
    assert target(first, second, third, back, resumed) is back
    again = rolled_back(6, back)
    assert target(first, second, third, back, resumed, again) is first


def test_a_rollback_that_failed_is_tried_again() -> None:
    first, second, third = record(1, "a"), record(2, "b"), record(3, "c")
    failed = rolled_back(4, second, result="failed")
    choice = choose([first, second, third, failed], CLONE, None)
    assert (choice.stands, choice.since, choice.target) == (third, (failed,), second)


def test_what_stood_before_a_destroy_can_be_restored() -> None:
    second = record(2, "b")
    assert target(record(1, "a"), second, record(3, "b", kind="destroy")) is second


def test_updates_that_cannot_be_restored_are_passed_over_with_the_reason() -> None:
    records = [
        record(1, "a"),
        record(2, "b", paired=False),
        record(3, "c", dirty=True),
        record(4, ""),
        record(5, "e"),
    ]
    choice = choose(records, CLONE, None)
    assert choice.target is records[0]
    assert [reason for _, reason in choice.passed_over] == [
        "it was run outside of a git checkout",
        "its checkout had changes that no commit holds",
        "its record is incomplete: it was cut off",
    ]
    assert choose([*records, record(6, "f", dirty=True, message="explained"), record(7, "a")], CLONE, None).target.dirty


def test_a_commit_of_several_updates_is_its_newest_and_one_that_is_not_clear_is_refused() -> None:
    records = [record(1, "a"), record(2, "a"), record(3, "b")]
    assert choose(records, CLONE, "a" * 7).target is records[1]
    twins = [replace(records[0], commit="a" * 39 + "b"), *records]
    with pytest.raises(UserError, match=r"TO=aaaaaaa: several commits begin so: write more of it\."):
        choose(twins, CLONE, "a" * 7)


def test_the_table_shows_the_newest_updates_first(capfd: pytest.CaptureFixture[str]) -> None:
    first, second = record(1, "a"), record(2, "b", config={**CONFIG, "llama-chat:migration": {"phase": "test"}})
    failed = record(3, "c", result="failed", counts={"same": 1})
    print_updates([first, second, failed, rolled_back(4, first, dirty=True)], CLONE, 3)
    printed = capfd.readouterr()
    title, *rows = [line.split() for line in printed.out.splitlines()]
    assert " ".join(title) == "ended took result phase commit what changed rollback"
    told = " ".join(" ".join(row) for row in rows)
    assert (
        "30 s succeeded parallel aaaaaaa rollback to aaaaaaa of 2026-01-31T12:01:30Z; phase test to parallel stands"
        in told
    )
    assert "30 s failed parallel ccccccc nothing: it ended before its first resource no: it failed" in told
    assert "30 s succeeded test bbbbbbb phase parallel to test yes" in told
    assert "1 older ones are left out: LAST=4" in printed.err


@pytest.fixture
def today(tmp_path: Path) -> Path:
    path = tmp_path / "Pulumi.prod.yaml"
    secrets = {"llama-chat:master_key": {"secure": "v1:new"}, "other:token": {"secure": "v1:other"}}
    values: dict[str, Any] = {"llama-chat:steady": True, "llama-chat:statics": [], **secrets}
    path.write_text(yaml.safe_dump({"encryptionsalt": "v1:salt", "config": values}))
    return path


def test_a_restored_file_has_the_records_values_and_todays_secrets(today: Path) -> None:
    old = record(1, "a", config={**CONFIG, "other:code": "1e3"}, secrets=frozenset({"llama-chat:master_key"}))
    text = restored_text(old, today)
    expected = {**CONFIG, "other:code": "1e3", "llama-chat:master_key": {"secure": "v1:new"}}
    assert json.loads(text) == yaml.safe_load(text) == {"encryptionsalt": "v1:salt", "config": expected}
    assert json.loads(restored_text(old, today, ["steady"]))["config"]["llama-chat:steady"] is True
    with pytest.raises(UserError, match=r"Pulumi\.prod\.yaml has no llama-chat:nodes to keep: KEEP"):
        restored_text(old, today, ["nodes"])


def test_a_stack_file_that_its_commit_does_not_have_is_known_by_the_record(today: Path, tmp_path: Path) -> None:
    project, then, plain = (tmp_path / name for name in ("Pulumi.yaml", "then.yaml", "plain.yaml"))
    project.write_text(
        yaml.safe_dump({"config": {"hub": {"default": {"mb_per_second": 10.0}}, "gpu": {"type": "object"}}})
    )
    values = {**CONFIG, "llama-chat:steady": False, "llama-chat:grace_seconds": 60}
    then.write_text(yaml.safe_dump({"encryptionsalt": "v1:old", "config": values}))
    made = record(1, "a", config={**CONFIG, "llama-chat:grace_seconds": "60", "llama-chat:hub": {"mb_per_second": 10}})
    assert not another_file(made, then, project, today)
    edited = replace(made, config={**made.config, "llama-chat:grace_seconds": "61"})
    assert another_file(edited, then, project, today)
    assert another_file(replace(made, secrets=frozenset({"llama-chat:master_key"})), then, project, today)
    # `pulumi stack init` wrote the salt, and it was committed later
    plain.write_text(yaml.safe_dump({"config": values}))
    assert another_file(made, plain, project, today)
    assert not another_file(made, plain, project, plain)
    then.write_text("encryptionsalt: v1:old\nconfig: [no mapping]\n")
    assert another_file(made, then, project, today)


def test_a_preview_names_what_it_would_take_away_once_each(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [
        {"preludeEvent": {}},
        step("delete", "kubernetes:core/v1:PersistentVolumeClaim", "cache"),
        step("create-replacement", "kubernetes:core/v1:Namespace", "ai"),
        step("delete-replaced", "kubernetes:core/v1:Namespace", "ai"),
        step("replace", "pulumi:providers:kubernetes", "cluster"),
        step("delete", "kubernetes:core/v1:ConfigMap", "kept", protect=True),
        step("delete", "kubernetes:core/v1:ConfigMap", "old"),
        step("update", "kubernetes:core/v1:PersistentVolumeClaim", "grown"),
        step("delete", "pulumi:providers:pulumi", "default"),
    ]
    log = tmp_path / "events.json"
    log.write_text("\n".join(map(json.dumps, events)))
    found = losses(log)
    assert [str(loss) for loss in found] == [
        "delete PersistentVolumeClaim cache",
        "replace Namespace ai",
        "replace provider cluster",
        "delete ConfigMap kept",
    ]
    assert [loss.protected for loss in found] == [False, False, False, True]


def step(operation: str, kind: str, name: str, *, protect: bool = False) -> dict[str, Any]:
    old = {"protect": True} if protect else None
    metadata = {"op": operation, "urn": f"urn:pulumi:prod::llama-chat::{kind}::{name}", "type": kind, "old": old}
    return {"resourcePreEvent": {"metadata": metadata}}


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `pulumi` that prints what lies in a file of its first argument's name."""
    script = tmp_path / "bin" / "pulumi"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\ncat "{tmp_path}/$1" || {{ echo "error: no such stack" >&2; exit 1; }}\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}:/usr/bin:/bin")
    return tmp_path


@pytest.mark.parametrize(
    ("address", "folder"),
    [
        ("file:///srv/state%20of/pulumi?no_tmp_dir=true", "/srv/state of/pulumi"),
        ("file://~", "~"),
        ("file://./state", "./state"),
        ("s3://bucket/path", None),
    ],
)
def test_a_folders_backend_is_known_by_its_address(answers: Path, address: str, folder: str | None) -> None:
    (answers / "whoami").write_text(json.dumps({"user": "ada", "url": address}))
    expected = folder and (answers / Path(folder).expanduser()).resolve()
    assert backend_folder(answers) == expected


def test_an_update_that_has_not_ended_is_none_to_go_back_to(answers: Path) -> None:
    (answers / "whoami").write_text(json.dumps({"url": "s3://bucket"}))
    entry: dict[str, Any] = {"kind": "update", "startTime": "2026-01-31T12:00:00.000Z", "message": ""}
    entry |= {"environment": {}, "config": {}}
    (answers / "stack").write_text(json.dumps([entry, {**entry, "kind": "refresh"}]))
    (found,) = read_history("prod", answers)
    assert (found.result, found.ended, found.commit, found.touched) == ("in-progress", START, None, False)


def test_a_backend_that_does_not_answer_is_told_with_its_complaint(answers: Path) -> None:
    with pytest.raises(UserError, match=r"pulumi whoami failed: look at PULUMI_BACKEND_URL.*: .*no such stack"):
        read_history("prod", answers)
