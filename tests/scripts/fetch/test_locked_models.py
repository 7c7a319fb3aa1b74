"""What the lock says is fetched, and nothing that is right already is read, or asked for, again."""

import hashlib
import json
import os
from typing import Any

import pytest

from tests.scripts.fetch.conftest import COMMIT, CONTENT, LATER, MODEL, NOWHERE, REPO, SHA256, SMALL, Pod, Shelf, locked

SHARDS = [f"big/big-Q4_K_M-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
READ_ONCE = "are read once"


def test_a_model_comes_by_its_commit_and_no_listing_is_asked_for(
    pod: Pod, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert pod.files() == {MODEL: CONTENT}
    assert pod.path().read_bytes() == CONTENT
    assert pod.parts() == []
    assert "1 file(s) in place, 1 downloaded" in capsys.readouterr().out


def test_link_points_the_servers_path_at_the_file_and_needs_no_hub(pod: Pod) -> None:
    pod.run("fetch")
    assert not pod.weights.exists()
    assert pod.run("link", endpoint=NOWHERE) == ""
    link = pod.weights / "model.gguf"
    assert link.read_bytes() == CONTENT
    assert not link.readlink().is_absolute()


def test_link_fetches_what_is_missing(pod: Pod) -> None:
    assert pod.run("link") == ""
    assert pod.links() == {"model.gguf": CONTENT}


def test_a_file_that_its_marker_vouches_for_is_not_read(pod: Pod, shelf: Shelf) -> None:
    pod.run("fetch")
    stat = pod.path().stat()
    pod.path().write_bytes(CONTENT[::-1])
    os.utime(pod.path(), ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert pod.run("fetch", endpoint=NOWHERE) == ""
    os.utime(pod.path(), ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert "nothing of tiny-Q4_K_M.gguf from the hub" in pod.run("fetch", deadline_seconds=0.2)
    assert shelf.asked == [f"{MODEL} 0"]


@pytest.mark.parametrize("marker", [None, "", "{", "[]", '{"bytes": 1024000}', '{"bytes": 1, "mtime_ns": 1}'])
def test_a_file_without_a_marker_is_read_once_and_marked(
    pod: Pod, shelf: Shelf, capsys: pytest.CaptureFixture[str], marker: str | None
) -> None:
    pod.path().parent.mkdir(parents=True)
    pod.path().write_bytes(CONTENT)
    if marker is not None:
        pod.path(f"{MODEL}.verified").write_text(marker)
    assert pod.run("fetch") == ""
    assert capsys.readouterr().out.count(READ_ONCE) == 1
    assert pod.run("link") == ""
    assert READ_ONCE not in capsys.readouterr().out
    assert shelf.asked == []


@pytest.mark.parametrize("content", [CONTENT[:100], CONTENT + b"x", CONTENT[:-1] + b"x"])
def test_a_file_that_is_not_what_it_should_be_is_thrown_away_and_fetched_anew(
    pod: Pod, shelf: Shelf, content: bytes
) -> None:
    pod.path().parent.mkdir(parents=True)
    pod.path().write_bytes(content)
    assert pod.run("link") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert pod.links() == {"model.gguf": CONTENT}


def test_a_file_that_was_spoiled_after_it_came_is_noticed_by_its_time(pod: Pod) -> None:
    pod.run("link")
    pod.path().write_bytes(CONTENT[::-1])
    os.utime(pod.path(), ns=(1, 1))
    assert pod.run("link") == ""
    assert pod.links() == {"model.gguf": CONTENT}


@pytest.mark.parametrize("marked", [True, False])
def test_a_file_that_the_new_commit_did_not_change_is_linked_and_not_downloaded(
    pod: Pod,
    shelf: Shelf,
    capsys: pytest.CaptureFixture[str],
    marked: bool,  # noqa: FBT001 - a table's column
) -> None:
    pod.run("link")
    if not marked:
        pod.path(f"{MODEL}.verified").unlink()
    shelf.commits[LATER] = {f"new/{MODEL}": CONTENT}
    assert pod.run("link", **locked(shelf.files, f"new/{MODEL}", commit=LATER)) == ""
    assert shelf.asked == [f"{MODEL} 0"]
    moved = pod.path(f"new/{MODEL}", LATER)
    assert (pod.weights / "model.gguf").resolve() == moved
    assert moved.samefile(pod.path())
    assert (READ_ONCE in capsys.readouterr().out) is not marked
    assert pod.run("link", endpoint=NOWHERE) == ""
    assert READ_ONCE not in capsys.readouterr().out


def test_a_changed_file_of_the_same_size_is_downloaded_and_the_old_one_stays(pod: Pod, shelf: Shelf) -> None:
    pod.run("link")
    shelf.commits[LATER] = {MODEL: CONTENT[::-1]}
    assert pod.run("link", **locked(shelf.files, MODEL, commit=LATER)) == ""
    assert pod.links() == {"model.gguf": CONTENT[::-1]}
    assert pod.path().read_bytes() == CONTENT


def test_where_a_file_cannot_have_two_names_it_is_downloaded(
    pod: Pod, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_source: object, _target: object) -> None:
        raise OSError(1, "Operation not permitted")

    pod.run("fetch")
    shelf.commits[LATER] = shelf.files
    monkeypatch.setattr(os, "link", refuse)
    assert pod.run("fetch", commit=LATER) == ""
    assert shelf.asked == [f"{MODEL} 0"] * 2
    assert "cannot be linked" in capsys.readouterr().out
    assert pod.path(commit=LATER).read_bytes() == CONTENT


def test_the_layout_of_earlier_versions_is_used_without_a_download(pod: Pod) -> None:
    pod.path().parent.mkdir(parents=True)
    pod.path().write_bytes(CONTENT)
    key = hashlib.sha256(json.dumps([REPO, "Q4_K_M", None, "main"]).encode()).hexdigest()[:16]
    marker = {"triple": [REPO, "Q4_K_M", None, "main"], "commit": COMMIT, "files": [[MODEL, len(CONTENT)]]}
    (pod.models / "files" / REPO / f"resolved-{key}.json").write_text(json.dumps(marker))
    assert pod.run("fetch", endpoint=NOWHERE) == ""
    assert pod.run("link", commit=None, files=[]) == ""
    assert pod.links() == {"model.gguf": CONTENT}


def test_all_shards_lie_beside_the_first_under_their_own_names(pod: Pod, shelf: Shelf) -> None:
    shelf.files.update({name: name.encode() for name in SHARDS})
    opened = str(pod.weights / "big-Q4_K_M-00001-of-00003.gguf")
    assert pod.run("link", model_path=opened, **locked(shelf.files, *SHARDS)) == ""
    assert shelf.asked == [f"{name} 0" for name in SHARDS]
    assert pod.links() == {
        "model.gguf": SHARDS[0].encode(),
        **{name.split("/")[1]: name.encode() for name in SHARDS},
    }


def test_another_model_moves_the_link_and_keeps_the_old_file(pod: Pod, shelf: Shelf) -> None:
    pod.run("link")
    assert pod.run("link", **locked(shelf.files, SMALL)) == ""
    assert pod.links() == {"model.gguf": b"q8"}
    assert set(pod.files()) == {MODEL, SMALL}


def test_the_names_of_old_shards_go_with_the_link(pod: Pod, shelf: Shelf) -> None:
    shelf.files.update({name: name.encode() for name in SHARDS})
    opened = str(pod.weights / "big-Q4_K_M-00001-of-00003.gguf")
    pod.run("link", model_path=opened, **locked(shelf.files, *SHARDS))
    assert pod.run("link", model_path=str(pod.weights / "model.gguf"), **locked(shelf.files, SMALL)) == ""
    assert pod.links() == {"model.gguf": b"q8"}


def test_files_can_be_read_by_the_servers_group(pod: Pod) -> None:
    umask = os.umask(0o022)
    try:
        pod.run("link")
    finally:
        os.umask(umask)
    assert (pod.weights / "model.gguf").stat().st_mode & 0o044 == 0o044


@pytest.mark.parametrize("action", ["fetch", "link"])
@pytest.mark.parametrize(
    "outside", ["weights/../model.gguf", "weights", "weights2/model.gguf", "/elsewhere/model.gguf", "model.gguf"]
)
def test_a_path_outside_the_weights_is_refused_before_anything_is_downloaded(
    pod: Pod, action: str, outside: str
) -> None:
    opened = outside if outside == "model.gguf" else str(pod.models / outside)
    told = f"Tiny: model_path {opened} does not lie below {pod.weights}"
    assert told in pod.run(action, model_path=opened)
    assert list(pod.models.iterdir()) == []


def test_a_folder_that_leads_out_of_the_weights_is_refused(pod: Pod) -> None:
    pod.weights.mkdir()
    (pod.weights / "Tiny").symlink_to(pod.models.parent)
    assert "does not lie below" in pod.run("link", model_path=str(pod.weights / "Tiny" / "model.gguf"))
    assert not (pod.models.parent / "model.gguf").is_symlink()


def test_a_path_that_the_server_opens_in_vain_is_told(pod: Pod) -> None:
    opened = str(pod.weights / "other.gguf")
    assert f"the server opens {opened}" in pod.run("link", model_path=opened)


@pytest.mark.parametrize(
    "changes",
    [
        {"commit": None},
        {"commit": "main"},
        {"files": []},
        {"files": [{"path": f"../{MODEL}", "bytes": 1, "sha256": SHA256}]},
        {"files": [{"path": f"/{MODEL}", "bytes": 1, "sha256": SHA256}]},
        {"files": [{"path": MODEL, "bytes": 1, "sha256": "none"}]},
        {"files": [{"path": MODEL, "bytes": 1}]},
    ],
)
def test_a_record_that_no_lock_made_is_refused(pod: Pod, shelf: Shelf, changes: dict[str, Any]) -> None:
    assert "models.json is not the record of models" in pod.run("fetch", **changes)
    assert shelf.asked == []
