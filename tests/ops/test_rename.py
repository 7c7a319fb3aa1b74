"""What the renaming command refuses, and what it says where MongoDB refuses it."""

import re
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import ObjectId, json_util

from config.errors import UserError
from ops import mongo
from ops.rename import read_mapping
from tests.ops.renaming import NEW, OLD, OTHER, OURS, run

PASSWORD = "s3cret-Pa55"  # noqa: S105 - to be looked for in what is printed


@pytest.mark.parametrize(
    ("pair", "refusal"),
    [
        (OLD, "must read old=new"),
        (f"={NEW}", "must read old=new"),
        (f"{OTHER}={NEW}", f"the stack serves {OTHER}"),
        (f"{OLD}=GLM", f"the stack has no model GLM: it has {NEW}, {OTHER}"),
    ],
)
def test_a_pair_that_cannot_be_meant_is_refused(pair: str, refusal: str) -> None:
    with pytest.raises(UserError) as refused:
        read_mapping([pair], [NEW, OTHER])
    assert str(refused.value).startswith(f"--map {pair}: {refusal}")


def test_one_old_name_has_one_new_one() -> None:
    assert read_mapping([f"{OLD}={NEW}", f"{OLD}={NEW}"], [NEW, OTHER]) == {OLD: NEW}
    with pytest.raises(UserError, match=f"is to become {re.escape(NEW)} too"):
        read_mapping([f"{OLD}={NEW}", f"{OLD}={OTHER}"], [NEW, OTHER])


def test_options_that_contradict_each_other_are_refused() -> None:
    assert "--undo goes alone" in run("--undo", "file", "--apply")[1]
    assert "nothing to rename: name old and new" in run("--apply")[1]


def found(*documents: dict[str, Any]) -> dict[str, Any]:
    return {"cursor": {"id": 0, "ns": "chat.some", "firstBatch": list(documents)}}


def first(body: bytes) -> dict[str, Any]:
    """The document that it begins with; a driver's own documents may follow."""
    return bson.BSON(body[: struct.unpack_from("<i", body)[0]]).decode()


class Refusing:
    """A MongoDB that gives each command the answer that the test names for it; its chats are the only documents."""

    def __init__(self, answers: dict[str, dict[str, Any]]) -> None:
        self.answers = {
            "ping": {},
            "hello": {"isWritablePrimary": True, "maxWireVersion": 21, "minWireVersion": 0, "readOnly": False},
            "listCollections": found({"name": "conversations", "type": "collection"}),
            "find": found(),
        } | answers
        self.asked: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        for connection in iter(self._next, None):
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _next(self) -> socket.socket | None:
        try:
            return self.listener.accept()[0]
        except OSError:
            return None

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            while len(header := stream.read(16)) == 16:
                length, request, _, opcode = struct.unpack("<iiii", header)
                body = stream.read(length - 16)
                # the first thing that a driver says may be of the old kind, OP_QUERY
                old = opcode == 2004
                asked = first(body[body.index(b"\0", 4) + 9 :] if old else body[5:])
                name = next(iter(asked)).replace("isMaster", "hello").replace("ismaster", "hello")
                self.asked.append(name)
                wanted = "chats" if asked.get("find") == "conversations" else name
                answer = bson.encode({"ok": 1.0} | self.answers.get(wanted, self.answers.get(name, {})))
                said = struct.pack("<iqii", 8, 0, 0, 1) + answer if old else b"\0\0\0\0\0" + answer
                connection.sendall(struct.pack("<iiii", 16 + len(said), 0, request, 1 if old else 2013) + said)


WRONG_PASSWORD = {"ok": 0.0, "code": 18, "codeName": "AuthenticationFailed", "errmsg": "Authentication failed."}
NOT_ALLOWED = {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on chat by the-user"}
SECONDARY = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Refusing]]:
    started: list[Refusing] = []

    def start(login: str = "", **answers: dict[str, Any]) -> Refusing:
        started.append(Refusing(answers))
        monkeypatch.setenv(mongo.VARIABLE, f"mongodb://{login}127.0.0.1:{started[-1].port}/chat")
        return started[-1]

    yield start
    for server in started:
        server.listener.close()


def test_a_wrong_password_is_said_and_not_shown(refusing: Callable[..., Refusing]) -> None:
    server = refusing(f"the-user:{PASSWORD}@", saslStart=WRONG_PASSWORD)
    code, said = run()
    assert (code, "refuses the user or the password of MONGO_URI" in said) == (1, True)
    assert "saslStart" in server.asked
    assert not any(word in said for word in (PASSWORD, "the-user", "127.0.0.1"))


def test_a_user_who_may_read_alone_gets_an_undo_file_and_no_change(
    refusing: Callable[..., Refusing], folder: Path
) -> None:
    chat = {"_id": ObjectId(), "endpoint": OURS, "model": OLD}
    server = refusing(chats=found(chat), update=NOT_ALLOWED)
    code, said = run("--map", f"{OLD}={NEW}", "--apply")
    assert (code, "give it the role readWrite" in said) == (1, True)
    assert "the-user" not in said
    assert server.asked.count("update") == 1
    (undo,) = folder.iterdir()
    lines = [json_util.loads(line) for line in undo.read_text().splitlines()]
    assert {(line["id"], line["before"], line["after"]) for line in lines} == {(chat["_id"], OLD, NEW)}


def test_a_secondary_is_told_from_one_that_is_away(refusing: Callable[..., Refusing]) -> None:
    refusing(listCollections=SECONDARY)
    assert "leads to a member that takes no changes" in run()[1]


def test_old_names_that_stay_fail_the_command(refusing: Callable[..., Refusing], folder: Path) -> None:
    refusing(chats=found({"_id": 1, "endpoint": OURS, "model": OLD}), update={"n": 0, "nModified": 0})
    code, said = run("--map", f"{OLD}={NEW}", "--apply")
    assert (code, "Old names are stored still" in said) == (1, True)
    assert len(list(folder.iterdir())) == 1


def test_a_database_that_is_not_librechats_is_refused(refusing: Callable[..., Refusing]) -> None:
    refusing(listCollections=found())
    assert "The database chat has no collection `conversations`" in run()[1]


def test_a_store_that_is_away_is_said_within_seconds(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(mongo, "TIMEOUT_SECONDS", 1)
    monkeypatch.setenv(mongo.VARIABLE, f"mongodb://the-user:{PASSWORD}@127.0.0.1:{port}/chat?tlsCAFiles={PASSWORD}")
    code, said = run()
    assert (code, "No MongoDB answers where MONGO_URI points" in said) == (1, True)
    assert not any(word in said for word in (PASSWORD, "the-user", str(port)))
    assert not list(recwarn)


@pytest.mark.parametrize(
    "uri",
    [f"postgres://the-user:{PASSWORD}@host/chat", f"mongodb://the-user:{PASSWORD}/x@host", f"mongodb://h:{PASSWORD}"],
)
def test_a_string_that_is_none_is_refused_and_not_shown(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mongo.VARIABLE, uri)
    code, said = run()
    assert (code, "MONGO_URI is no connection string that can be used" in said) == (1, True)
    assert PASSWORD not in said


def test_without_the_variable_it_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mongo.VARIABLE, raising=False)
    assert "MONGO_URI is not set" in run()[1]
