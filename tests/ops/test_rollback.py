"""Rollback with the real Pulumi, git and uv, over a small program's history in a folder."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from config.errors import UserError
from ops import history, hold, rollback
from ops.choice import choose, local_time
from ops.engine import Engine
from ops.history import rollback_message
from ops.hold import lift, put_hold, read_hold
from ops.rollback import Restored, Wishes
from ops.updates import show_history
from tests.ops.tiny_stack import NAME, Tiny, again, edit, environment, files, leave_pending, made, state

pytestmark = pytest.mark.timeout(300)
OLD, BOHR, EDITED, UNKNOWN, NOW = range(5)
"""The updates of the history, in order."""
ALL = Wishes(agreed=True, allow_deletes=True)
DRY = Wishes(dry_run=True)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """The history, made once; tests work on copies of it."""
    place = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        _set(patch, place / "backend")
        return made(place)


@pytest.fixture
def tiny(grown: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiny:
    _set(monkeypatch, tmp_path / "backend")
    return grown.copy(tmp_path)


def _set(patch: pytest.MonkeyPatch, backend: Path) -> None:
    for name, value in environment(backend).items():
        patch.setenv(name, value)


def picked(tiny: Tiny, to: str | None = None) -> int:
    """Which update would be restored, by its place in the history."""
    records = tiny.records()
    return records.index(choose(records, tiny.checkout, to).target)


def test_a_second_rollback_goes_one_further_back(tiny: Tiny, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.roll_back(ALL)
    told = capfd.readouterr().err
    assert "adds bohr; removes curie, dirac; phase cutover to test; config: claims" in told
    assert "stack prod is back at" in told
    outputs = tiny.outputs()
    assert (outputs["program"], outputs["models"]) == ("two", ["ada", "bohr"])
    assert outputs["key"] == "sk-of-the-first-day"
    *_, edited, _, _, first = records = tiny.records()
    assert (first.config, first.commit, first.dirty) == (edited.config, edited.commit, False)
    assert first.message == rollback_message(edited)
    tiny.roll_back()
    *_, second = tiny.records()
    assert (second.config, second.message) == (records[BOHR].config, rollback_message(records[BOHR]))
    assert picked(tiny) == OLD
    assert len(tiny.looked_at) == 4
    assert not any(program.exists() for program in tiny.looked_at)
    assert tiny.git("status", "--short") == ""
    assert len(tiny.git("worktree", "list").splitlines()) == 1


def test_a_held_stack_is_updated_by_nobody_until_it_is_resumed(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    put_hold(NAME, tiny.folder, "rolled back to abcdef0 by ada@desk on 2026-01-31 18:00 UTC")
    tiny.configure(["ada"], "cutover", claims=["llama-dirac-cache"])
    refusal = "Stack prod is held: rolled back to abcdef0 by ada@desk on 2026-01-31 18:00 UTC. `make resume STACK=prod`"
    refused = tiny.up(code=1)
    assert f"error: {refusal}" in refused
    assert "Traceback" not in refused
    records = tiny.records()
    assert not records[-1].touched
    seen = tiny.pulumi("preview")
    assert f"warning: {refusal}" in seen
    assert "Model curie delete" in seen
    show_history(NAME, tiny.checkout, 2)
    told = capfd.readouterr()
    assert "nothing: it ended before its first resource" in told.out
    assert "stack prod is held: rolled back to abcdef0" in told.err
    monkeypatch.setattr(hold, "ROOT", tiny.folder)
    monkeypatch.setenv("LLAMA_CHAT_RESUME", "")
    engine = Engine(stack=NAME, config_file=tiny.file)
    monkeypatch.setattr("ops.engine.ROOT", tiny.folder)
    lift(engine, agreed=True)
    assert "hold" not in tiny.outputs()
    assert tiny.outputs()["models"] == ["ada"]
    monkeypatch.setenv("LLAMA_CHAT_RESUME", "")
    assert "unchanged" in tiny.up()
    lift(engine, agreed=True)
    assert "stack prod is not held" in capfd.readouterr().err


def test_a_dry_run_changes_nothing_and_what_would_be_lost_is_named(
    tiny: Tiny, capfd: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in tiny.backend.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"delete PersistentVolumeClaim llama-dirac-cache: .*ALLOW_DELETES=1"):
        tiny.roll_back(DRY)
    tiny.roll_back(replace(DRY, to=local_time(tiny.records()[BOHR].ended), allow_deletes=True))
    assert "dry run: nothing was changed" in capfd.readouterr().err
    assert {path: path.read_bytes() for path in tiny.backend.rglob("*") if path.is_file()} == before


def test_an_update_is_chosen_by_its_commit_or_by_a_time_and_never_replaced_by_another(tiny: Tiny) -> None:
    records = tiny.records()
    assert picked(tiny, records[OLD].short) == OLD
    assert picked(tiny, records[BOHR].commit) == EDITED
    assert picked(tiny, f"{records[BOHR].ended:%Y-%m-%dT%H:%M:%SZ}") == BOHR
    with pytest.raises(UserError, match=r"its checkout had changes that no commit holds: `make history`"):
        picked(tiny, records[UNKNOWN].short)
    assert picked(tiny, records[NOW].short) == NOW
    with pytest.raises(UserError, match="no update of this stack had succeeded there"):
        picked(tiny, "2026-01-01")
    with pytest.raises(UserError, match=r"TO=yesterday: write a commit .* or a time"):
        picked(tiny, "yesterday")


def test_an_update_whose_checkout_had_unknown_changes_is_passed_over(tiny: Tiny) -> None:
    records = tiny.records()
    assert [record.dirty for record in records] == [False, False, True, True, False]
    choice = choose(records, tiny.checkout, None)
    assert choice.passed_over == ((records[UNKNOWN], "its checkout had changes that no commit holds"),)
    assert choice.target is records[EDITED]


def test_a_record_without_its_state_is_passed_over(tiny: Tiny) -> None:
    files(tiny, ".checkpoint.json")[EDITED].unlink()
    records = tiny.records()
    assert [record.paired for record in records] == [True, True, False, True, True]
    choice = choose(records, tiny.checkout, None)
    assert (records[EDITED], "its record is incomplete: it was cut off") in choice.passed_over
    assert choice.target is records[BOHR]


def test_compressed_records_are_read_and_paired(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_DIY_BACKEND_GZIP", "true")
    tiny.up()
    tiny.configure(["ada"], "cutover", claims=["llama-dirac-cache"])
    tiny.commit("Leave ada alone")
    tiny.up()
    assert len(files(tiny, ".history.json.gz")) == 2
    assert all(record.paired for record in tiny.records())
    assert picked(tiny) == NOW + 1
    files(tiny, ".checkpoint.json.gz")[0].unlink()
    assert [record.paired for record in tiny.records()] == [True] * 5 + [False, True]


def test_a_shallow_clone_without_the_commit_says_how_to_get_it(tiny: Tiny, tmp_path: Path) -> None:
    shallow = Tiny(folder=tmp_path / "shallow", backend=tiny.backend)
    tiny.git("clone", "--quiet", "--depth", "1", f"file://{tiny.folder}", str(shallow.folder))
    with pytest.raises(UserError, match="is not in this clone, which is a shallow one: run `git fetch --unshallow`"):
        shallow.roll_back()
    shallow.git("fetch", "--quiet", "--unshallow")
    assert picked(shallow) == EDITED


def test_a_commit_that_no_clone_has_any_more_is_told(tiny: Tiny) -> None:
    edit(tiny, EDITED, lambda record: record["environment"].update({"git.head": "0" * 40, "git.dirty": "false"}))
    with pytest.raises(UserError, match=f"Commit {'0' * 40} is not in this clone: run `git fetch origin"):
        tiny.roll_back()


def test_a_newest_update_that_failed_is_what_a_rollback_undoes(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.configure(["ada", "curie"], "cutover", claims=["llama-dirac-cache"])
    tiny.commit("Take dirac out")
    monkeypatch.setenv("FAIL", "1")
    tiny.up(code=1)
    records = tiny.records()
    assert (records[-1].result, records[-1].touched) == ("failed", True)
    assert picked(tiny) == NOW


def test_a_stale_lock_is_told_and_a_rollback_that_failed_is_tried_again(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    leave_pending(tiny)
    lock = tiny.backend / ".pulumi" / "locks" / "organization" / "llama-chat" / NAME / "0.json"
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.write_text(json.dumps({"pid": 2**22 + 1, "username": "ada", "hostname": "desk"}))
    to = local_time(tiny.records()[BOHR].ended)
    with pytest.raises(UserError, match=r"lock.*`pulumi cancel --stack prod` removes it"):
        tiny.roll_back(replace(ALL, to=to))
    assert "ada@desk" in capfd.readouterr().err
    tiny.pulumi("cancel", "--yes")
    monkeypatch.setenv("FAIL", "1")
    with pytest.raises(UserError, match=r"pulumi up failed.*Stack prod is held as it is: run this again"):
        tiny.roll_back(replace(ALL, to=to))
    assert not state(tiny).get("pending_operations")
    assert read_hold(NAME, tiny.folder)
    monkeypatch.delenv("FAIL")
    failed = tiny.records()[-1]
    assert failed.result == "failed"
    again = choose(tiny.records(), tiny.checkout, None)
    assert (again.since, again.target.commit) == ((failed,), failed.commit)
    with pytest.raises(
        UserError, match=r"was rolled back, is held, and is not sound: no answer\. .*The state before: "
    ):
        tiny.roll_back(replace(ALL, to=to), after=no_answer)
    assert tiny.outputs()["models"] == ["ada", "bohr"]
    backups = sorted((tiny.backend / "backups").iterdir())
    assert len(backups) == 3
    assert {path.stat().st_mode & 0o777 for path in backups} == {0o600}
    assert json.loads(backups[0].read_text())["deployment"]["resources"]


def test_todays_secrets_stay_when_the_passphrase_was_changed_since_and_an_old_program_is_held_too(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny.pulumi("stack", "change-secrets-provider", "passphrase", stdin="second\nsecond\n")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "second")
    tiny.pulumi("config", "set", "--secret", "master_key", "sk-of-today")
    tiny.commit("Change the passphrase and the key")
    old = tiny.records()[OLD]
    tiny.roll_back(replace(ALL, to=old.short, keep=("migration",)))
    outputs = tiny.outputs()
    assert (outputs["program"], outputs["models"], outputs["key"]) == ("one", ["ada"], "sk-of-today")
    assert outputs["hold"].startswith(f"rolled back to {old.short} by ")
    assert "that commit knows of no hold" in capfd.readouterr().err
    assert tiny.records()[-1].config["llama-chat:migration"] == {"phase": "cutover"}
    with pytest.raises(UserError, match=r"no older update to roll back to: .*make up"):
        tiny.roll_back()


def test_a_secret_that_todays_stack_file_lacks_is_asked_for(tiny: Tiny) -> None:
    document = yaml.safe_load(tiny.file.read_text())
    del document["config"]["llama-chat:master_key"]
    tiny.file.write_text(yaml.safe_dump(document))
    with pytest.raises(UserError, match=r"an encrypted llama-chat:master_key and Pulumi\.prod\.yaml has none"):
        tiny.roll_back()


def test_a_history_of_more_than_ten_entries_is_read_to_its_end(tiny: Tiny) -> None:
    again(tiny, 14)
    assert len(tiny.records()) == 19
    assert picked(tiny) == EDITED


def test_where_nothing_older_can_be_restored_that_is_said(tiny: Tiny) -> None:
    kept = {*files(tiny, ".history.json")[UNKNOWN:], *files(tiny, ".checkpoint.json")[UNKNOWN:]}
    for path in {*files(tiny, ".json")} - kept:
        path.unlink()
    with pytest.raises(UserError, match=r"no older update to roll back to: [\s\S]*Passed over:\n.*no commit holds"):
        tiny.roll_back()
    for path in kept:
        path.unlink()
    with pytest.raises(UserError, match="Nothing has changed this stack yet: bring it up with `make up` first"):
        tiny.roll_back()


def test_packages_that_are_not_in_uvs_cache_are_asked_for(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "empty"))
    with pytest.raises(UserError, match=r"uv\.lock cannot be installed: .*ONLINE=1 \(--online\)"):
        tiny.roll_back(DRY)
    assert len(tiny.git("worktree", "list").splitlines()) == 1


class Terminal(io.StringIO):
    """Somebody who types, at a terminal."""

    def isatty(self) -> bool:
        return True


def test_without_agreement_nothing_is_rolled_back(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(UserError, match=r"YES=1 \(--yes\)"):
        tiny.roll_back(replace(ALL, agreed=False))
    monkeypatch.setattr("sys.stdin", Terminal("n\n"))
    tiny.roll_back(replace(ALL, agreed=False))
    told = capfd.readouterr()
    assert "Roll stack prod back? [y/N]:" in told.out
    assert "nothing was rolled back" in told.err
    assert tiny.outputs()["program"] == "four"
    assert read_hold(NAME, tiny.folder) is None


def test_an_update_in_the_meantime_stops_the_rollback(tiny: Tiny) -> None:
    def meanwhile(_: Restored) -> None:
        again(tiny, 1)

    with pytest.raises(UserError, match="Somebody else has updated the stack meanwhile: look at `make history`"):
        tiny.roll_back(ALL, before=meanwhile)
    assert tiny.outputs()["program"] == "four"


def test_what_a_stack_patched_in_an_adopted_gateway_is_never_forgotten(tiny: Tiny) -> None:
    program = tiny.folder / "__main__.py"
    patch = 'Thing("kubernetes:core/v1:ConfigMapPatch", "gateway-routes", {}, protect=True)'
    program.write_text(f"{program.read_text()}{patch}\n")
    tiny.commit("Adopt a gateway")
    tiny.up()
    told = r"delete ConfigMapPatch gateway-routes, whose routes would stay .*Go back to phase parallel first"
    for wishes in (ALL, DRY):
        with pytest.raises(UserError, match=told):
            tiny.roll_back(wishes)
    assert read_hold(NAME, tiny.folder) is None
    assert "gateway-routes" in tiny.pulumi("stack", "export")


def test_a_rollback_that_ends_at_what_is_protected_says_that_the_stack_is_held(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_pulumi(folder: Path, *arguments: str, stdin: str = "") -> str:
        if "unprotect" in arguments:
            raise UserError("pulumi state unprotect failed: no disk.")
        return history.ask_pulumi(folder, *arguments, stdin=stdin)

    monkeypatch.setattr(rollback, "ask_pulumi", ask_pulumi)
    with pytest.raises(UserError, match=r"unprotect failed: no disk\. Stack prod is held as it is: run this again, or"):
        tiny.roll_back(ALL)
    assert read_hold(NAME, tiny.folder)
    assert tiny.outputs()["program"] == "four"


def no_answer(_: Restored) -> None:
    raise UserError("no answer")
