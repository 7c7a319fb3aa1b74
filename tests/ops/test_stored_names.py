"""Renaming what LibreChat stored, in a real document store."""

import os
import socket
import stat
import subprocess
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from _pytest.capture import CaptureManager
from bson import ObjectId, json_util
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from config.errors import UserError
from local.toolchain import ensure
from ops import mongo, stored_names
from ops.mongo import Store
from ops.stored_names import Row, put_back, rename
from tests.ops.renaming import NEW, OLD, OTHER, OURS, run

THEIRS = "openAI"
MAPPING = {OLD: NEW}
START_SECONDS = 30

Contents = dict[str, list[dict[str, Any]]]


def agent(provider: str, model: str, **more: object) -> dict[str, Any]:
    return {"provider": provider, "model": model, "model_parameters": {"model": model, "top_p": 0.9}, **more}


def contents() -> Contents:
    """A small LibreChat: our endpoint's old names in every place, and around them what must stay."""
    at = {"updatedAt": "2026-01-01"}
    return {
        "conversations": [
            {"_id": ObjectId(), "endpoint": OURS, "model": OLD, **at},
            {"_id": ObjectId(), "endpoint": OURS, "model": OLD, **at},
            {"_id": ObjectId(), "endpoint": OURS, "model": NEW, **at},
            {"_id": ObjectId(), "endpoint": OURS, "model": "forgotten", **at},
            {"_id": ObjectId(), "endpoint": OURS, "model": None, **at},
            {"_id": ObjectId(), "endpoint": OURS, **at},
            {"_id": ObjectId(), "endpoint": THEIRS, "model": OLD, **at},
        ],
        "presets": [{"_id": ObjectId(), "endpoint": OURS, "model": OLD, "title": OLD}],
        "agents": [
            {"_id": ObjectId(), **agent(OURS, OLD, versions=[agent(THEIRS, OLD), None, agent(OURS, OLD)])},
            {"_id": ObjectId(), **agent(THEIRS, OLD, versions=[agent(OURS, OLD), agent(THEIRS, OLD)])},
        ],
        "users": [
            {
                "_id": ObjectId(),
                "provider": OURS,
                "favorites": [
                    {"agentId": "agent_1"},
                    {"model": OLD, "endpoint": THEIRS},
                    {"model": OLD, "endpoint": OURS},
                ],
                "pinnedOrder": [f"model:{THEIRS}::{OLD}", f"model:{OURS}::{OLD}", f"convo:model:{OURS}::{OLD}"],
            },
            {"_id": ObjectId()},
        ],
        "messages": [{"_id": ObjectId(), "endpoint": OURS, "model": OLD}],
        "transactions": [{"_id": ObjectId(), "model": OLD}],
    }


TO_RENAME = {
    Row("agents", "model", OLD): 1,
    Row("agents", "model_parameters.model", OLD): 1,
    Row("agents", "versions[].model", OLD): 2,
    Row("agents", "versions[].model_parameters.model", OLD): 2,
    Row("conversations", "model", OLD): 2,
    Row("presets", "model", OLD): 1,
    Row("users", "favorites[].model", OLD): 1,
    Row("users", "pinnedOrder[]", OLD): 1,
}


def renamed(before: Contents) -> Contents:
    """What the renaming must make of it, written out by hand."""
    after = json_util.loads(json_util.dumps(before))
    after["conversations"][0]["model"] = after["conversations"][1]["model"] = NEW
    after["presets"][0]["model"] = NEW
    first, second = after["agents"]
    for item in (first, first["versions"][2], second["versions"][0]):
        item["model"] = item["model_parameters"]["model"] = NEW
    after["users"][0]["favorites"][2]["model"] = NEW
    after["users"][0]["pinnedOrder"][1] = f"model:{OURS}::{NEW}"
    return after


def read(database: Store) -> Contents:
    return {name: list(database[name].find().sort("_id")) for name in sorted(contents())}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """FerretDB, built when it is not there yet."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert isinstance(capture, CaptureManager)
    with capture.global_and_fixture_disabled():
        ferretdb = ensure("ferretdb").path("ferretdb")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen([ferretdb, address, tmp_path_factory.mktemp("ferretdb")], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + START_SECONDS
        with MongoClient[dict[str, Any]](f"mongodb://{address}", serverSelectionTimeoutMS=500) as client:
            while True:
                try:
                    client.admin.command("ping")
                    break
                except PyMongoError:
                    assert process.poll() is None
                    assert time.monotonic() < until
        yield f"mongodb://{address}"
    finally:
        process.terminate()
        process.wait(START_SECONDS)


@pytest.fixture
def database(server: str, monkeypatch: pytest.MonkeyPatch) -> Generator[Store]:
    """A LibreChat of its own for each test; MONGO_URI leads there."""
    uri = f"{server}/chat{ObjectId()}"
    monkeypatch.setenv(mongo.VARIABLE, uri)
    with MongoClient[dict[str, Any]](uri) as client:
        filled = client.get_default_database()
        for name, documents in contents().items():
            filled[name].insert_many(documents)
        yield filled


def test_a_dry_run_counts_each_place_and_changes_nothing(database: Store) -> None:
    before = read(database)
    report = rename(database, MAPPING, OURS)
    assert report.left == TO_RENAME
    assert report.changed == 0
    others = {row: count for row, count in report.found.items() if row.name != OLD}
    assert others == {Row("conversations", "model", NEW): 1, Row("conversations", "model", "forgotten"): 1}
    assert read(database) == before


def test_renaming_changes_each_place_of_our_endpoint_and_nothing_else(database: Store, tmp_path: Path) -> None:
    expected = renamed(read(database))
    report = rename(database, MAPPING, OURS, tmp_path / "undo")
    assert (report.changed, report.left) == (sum(TO_RENAME.values()), {})
    assert read(database) == expected


def test_a_second_renaming_finds_nothing_and_writes_no_file(database: Store, tmp_path: Path) -> None:
    rename(database, MAPPING, OURS, tmp_path / "undo")
    report = rename(database, MAPPING, OURS, tmp_path / "second")
    assert (report.changed, report.left) == (0, {})
    assert not (tmp_path / "second").exists()


def test_more_documents_than_a_batch_holds_are_all_renamed(
    database: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored_names, "BATCH", 3)
    database["conversations"].insert_many([{"endpoint": OURS, "model": OLD, "many": True} for _ in range(7)])
    assert rename(database, MAPPING, OURS, tmp_path / "undo").left == {}
    assert database["conversations"].count_documents({"many": True, "model": NEW}) == 7


def test_the_undo_file_puts_everything_back(database: Store, tmp_path: Path) -> None:
    before = read(database)
    rename(database, MAPPING, OURS, tmp_path / "undo")
    assert put_back(database, tmp_path / "undo") == (sum(TO_RENAME.values()), sum(TO_RENAME.values()))
    assert read(database) == before


def test_what_was_changed_since_is_not_put_back(database: Store, tmp_path: Path) -> None:
    rename(database, MAPPING, OURS, tmp_path / "undo")
    database["presets"].update_one({}, {"$set": {"model": OTHER}})
    # the list has shifted: where the entry stood, another one stands
    database["users"].update_one({"favorites.model": NEW}, {"$pull": {"favorites": {"agentId": "agent_1"}}})
    done, told = put_back(database, tmp_path / "undo")
    assert told - done == 2
    assert [preset["model"] for preset in database["presets"].find()] == [OTHER]
    assert [entry["model"] for entry in read(database)["users"][0]["favorites"]] == [OLD, NEW]


def test_an_undo_file_is_the_owners_alone_and_replaces_no_other(database: Store, tmp_path: Path) -> None:
    undo = tmp_path / "undo"
    rename(database, MAPPING, OURS, undo)
    assert stat.S_IMODE(undo.stat().st_mode) == 0o600
    assert len(undo.read_text().splitlines()) == sum(TO_RENAME.values())
    database["presets"].update_one({}, {"$set": {"model": OLD}})
    with pytest.raises(UserError, match=r"undo: cannot be written \(File exists\): nothing is changed"):
        rename(database, MAPPING, OURS, undo)
    assert [preset["model"] for preset in database["presets"].find()] == [OLD]


def test_a_file_that_tells_nothing_of_the_kind_is_refused(database: Store, tmp_path: Path) -> None:
    (tmp_path / "undo").write_text('{"collection": "keys", "id": 1}\n')
    with pytest.raises(UserError, match="line 1 is none of an undo file's"):
        put_back(database, tmp_path / "undo")
    with pytest.raises(UserError, match=r"cannot be read \(No such file"):
        put_back(database, tmp_path / "none")


def test_what_somebody_changes_after_it_was_found_stays(
    database: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = {"model": OLD, "endpoint": OURS}, {"model": OLD, "endpoint": THEIRS}

    def meanwhile(_: int) -> None:
        database["presets"].update_one({}, {"$set": {"model": OTHER}})
        # in another order: theirs stands where ours was found
        database["users"].update_one({"favorites.model": OLD}, {"$set": {"favorites": [ours, theirs, theirs]}})

    monkeypatch.setattr(os, "fsync", meanwhile)
    report = rename(database, MAPPING, OURS, tmp_path / "undo")
    assert report.changed == sum(TO_RENAME.values()) - 2
    assert report.left == {Row("users", "favorites[].model", OLD): 1}
    assert [preset["model"] for preset in database["presets"].find()] == [OTHER]
    assert read(database)["users"][0]["favorites"] == [ours, theirs, theirs]


def test_the_command_shows_first_then_renames_then_puts_back(database: Store, folder: Path) -> None:
    before = read(database)
    code, shown = run("--map", f"{OLD}={NEW}")
    assert code == 0
    assert "13 names stored for the endpoint llama.cpp, 11 of them to rename" in shown
    assert [line.split() for line in shown.splitlines() if "forgotten" in line] == [
        ["conversations", "model", "forgotten", "unknown", "1"]
    ]
    assert ["agents", "versions[].model", OLD, NEW, "2"] in [line.split() for line in shown.splitlines()]
    assert "nothing is changed" in shown
    assert read(database) == before
    assert list(folder.iterdir()) == []
    code, shown = run("--map", f"{OLD}={NEW}", "--apply")
    assert (code, "changed 11; to rename now: 0" in shown) == (0, True)
    assert read(database) == renamed(before)
    (undo,) = folder.iterdir()
    assert undo.name in shown
    code, shown = run("--undo", str(undo))
    assert (code, "put back 11 of 11" in shown) == (0, True)
    assert read(database) == before


def test_a_stored_name_cannot_write_to_the_terminal(database: Store) -> None:
    database["presets"].insert_one({"endpoint": OURS, "model": "\x1b]0;[red]x"})
    _, shown = run()
    assert "\x1b" not in shown
    assert r"'\x1b]0;[red]x'" in shown
