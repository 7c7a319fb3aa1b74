"""A model that the lock does not know yet: the hub says which files its triple means."""

import hashlib
import json
from pathlib import Path

import pytest

from tests.scripts.fetch.conftest import COMMIT, CONTENT, LATER, MODEL, NOWHERE, REPO, SMALL, Pod, Reply, Serve, Shelf

SHARDS = [f"big/big-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


def test_the_hub_is_asked_which_file_is_meant(unlocked: Pod, shelf: Shelf) -> None:
    assert unlocked.run("fetch") == ""
    assert shelf.asked == ["listing", f"{MODEL} 0"]
    assert unlocked.files() == {MODEL: CONTENT}


def test_a_restarted_pod_needs_no_hub(unlocked: Pod) -> None:
    unlocked.run("fetch")
    assert unlocked.run("link", endpoint=NOWHERE) == ""
    assert unlocked.links() == {"model.gguf": CONTENT}


def test_fetch_asks_each_time_and_downloads_once(unlocked: Pod, shelf: Shelf) -> None:
    unlocked.run("fetch")
    assert unlocked.run("fetch") == ""
    assert shelf.asked == ["listing", f"{MODEL} 0", "listing"]


def test_a_revision_that_is_a_commit_and_in_place_needs_no_hub_at_all(unlocked: Pod, shelf: Shelf) -> None:
    unlocked.run("fetch", revision=COMMIT)
    assert unlocked.run("fetch", endpoint=NOWHERE) == ""
    assert "127.0.0.1:1 " in unlocked.run("fetch", revision="main", deadline_seconds=0.2)
    assert shelf.asked == ["listing", f"{MODEL} 0"]


def test_a_moved_branch_is_followed_by_fetch_and_not_by_a_restart(unlocked: Pod, shelf: Shelf) -> None:
    unlocked.run("link")
    shelf.commits[LATER] = {MODEL: b"newer"}
    unlocked.run("link")
    assert unlocked.links() == {"model.gguf": CONTENT}
    unlocked.run("fetch")
    unlocked.run("link")
    assert unlocked.links() == {"model.gguf": b"newer"}


def test_a_truncated_file_is_fetched_again(unlocked: Pod) -> None:
    unlocked.run("fetch")
    unlocked.path().write_bytes(CONTENT[:100])
    assert unlocked.run("link") == ""
    assert unlocked.links() == {"model.gguf": CONTENT}


def test_a_file_of_which_the_hub_knows_no_digest_is_judged_by_its_size(
    unlocked: Pod, serve: Serve, shelf: Shelf
) -> None:
    def without_digests(path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path.startswith("/api/"):
            sibling = {"rfilename": MODEL, "size": len(CONTENT)}
            return 200, {}, json.dumps({"sha": COMMIT, "siblings": [sibling]}).encode()
        return shelf(path, headers, body)

    endpoint = serve(without_digests)
    assert unlocked.run("fetch", endpoint=endpoint) == ""
    assert unlocked.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert unlocked.files() == {MODEL: CONTENT}


def test_a_model_that_gets_into_the_lock_is_not_downloaded_again(unlocked: Pod, shelf: Shelf) -> None:
    unlocked.run("link")
    digest = hashlib.sha256(CONTENT).hexdigest()
    files = [{"path": MODEL, "bytes": len(CONTENT), "sha256": digest}]
    assert unlocked.run("link", commit=COMMIT, files=files) == ""
    assert shelf.asked == ["listing", f"{MODEL} 0"]


@pytest.mark.parametrize("action", ["fetch", "link"])
def test_a_split_model_asks_for_its_first_shards_name_before_anything_is_downloaded(
    unlocked: Pod, shelf: Shelf, action: str
) -> None:
    shelf.commits[LATER] = {name: name.encode() for name in SHARDS}
    assert f"set filename to the first, {SHARDS[0]}" in unlocked.run(action)
    assert f"set filename to the first, {SHARDS[0]}" in unlocked.run(action, filename=SHARDS[1])
    assert unlocked.files() == {}


def test_a_split_model_that_is_named_by_its_first_shard_comes_whole(unlocked: Pod, shelf: Shelf) -> None:
    shelf.commits[LATER] = {name: name.encode() for name in SHARDS}
    opened = str(unlocked.weights / "big-Q4_K_M-00001-of-00003.gguf")
    assert unlocked.run("link", filename=SHARDS[0], model_path=opened) == ""
    assert unlocked.files() == {name: name.encode() for name in SHARDS}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"quant": "Q2_K"}, f"{REPO} at main has no GGUF of quant Q2_K: set filename to one of: {MODEL}, {SMALL}"),
        ({"filename": "none.gguf"}, f"{REPO} at main has no file none.gguf: set filename to one of: {MODEL}"),
    ],
)
def test_what_the_repository_lacks_is_told_with_what_it_has(unlocked: Pod, changes: dict[str, str], told: str) -> None:
    assert told in unlocked.run("fetch", **changes)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Welcome</html>",
        b"[]",
        json.dumps({"sha": "main", "siblings": []}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "../../x-Q4_K_M.gguf", "size": 1}]}).encode(),
        json.dumps({"sha": COMMIT, "siblings": [{"rfilename": "/x-Q4_K_M.gguf", "size": 1}]}).encode(),
    ],
)
def test_a_server_that_is_no_hub_is_told_and_no_file_of_it_is_taken(unlocked: Pod, serve: Serve, body: bytes) -> None:
    url = serve(lambda _path, _headers, _body: (200, {}, body))
    told = f"{url} does not answer as a Hugging Face hub does: check hub.endpoint"
    assert told in unlocked.run("fetch", endpoint=url)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"repo": "acme/none"}, "the hub has no repository acme/none (HTTP 404): check repo and hub.endpoint"),
        (
            {"revision": "v9"},
            "the hub has no revision v9 of acme/tiny-GGUF (HTTP 404): set revision to a branch, tag or",
        ),
        ({}, "the hub wants a token for gated acme/tiny-GGUF (HTTP 401): ask for access"),
    ],
)
def test_the_local_hub_and_the_script_understand_each_other(
    unlocked: Pod, hub: str, hub_root: Path, changes: dict[str, str], told: str
) -> None:
    directory = hub_root / REPO
    directory.mkdir(parents=True)
    (directory / MODEL).write_bytes(CONTENT)
    assert unlocked.run("link", endpoint=hub) == ""
    assert unlocked.links() == {"model.gguf": CONTENT}
    (directory / SMALL).write_bytes(b"q8")
    (directory / ".hub.json").write_text(json.dumps({"gated": True}))
    assert told in unlocked.run("fetch", **{"quant": "Q8_0", **changes})
