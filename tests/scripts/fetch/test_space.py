"""What left the catalog goes when space is needed, and only then; never what is in use or what rollback needs."""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.scripts.fetch.conftest import COMMIT, CONTENT, LATER, MODEL, REPO, Pod, Shelf, locked

UNIT = 100_000
RESERVE = UNIT // 2
A, B, C, D, E, F = NAMES = [f"{letter}.gguf" for letter in "abcdef"]
Room = Callable[[float], None]


@pytest.fixture
def shelf() -> Shelf:
    """Six files of one unit each, beside the usual one."""
    return Shelf({MODEL: CONTENT, **{name: name[:1].encode() * UNIT for name in NAMES}})


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch) -> Room:
    """Makes the volume so many units large, beside the reserve."""
    capacity = [1000 * UNIT]

    def usage(path: Path) -> SimpleNamespace:
        files = [entry for entry in path.rglob("*") if entry.suffix in {".gguf", ".part"} and not entry.is_symlink()]
        stats = [entry.stat() for entry in files]
        used = sum({stat.st_ino: stat.st_size for stat in stats}.values())
        return SimpleNamespace(free=capacity[0] - used)

    def resize(units: float) -> None:
        capacity[0] = int(units * UNIT) + RESERVE

    monkeypatch.setattr(shutil, "disk_usage", usage)
    monkeypatch.setattr("model_space.RESERVE_BYTES", RESERVE)
    return resize


@pytest.fixture
def do(pod: Pod, shelf: Shelf) -> Callable[..., str]:
    """`fetch` or `link` of the locks that name these files, one after the other; the last verdict."""

    def run(action: str, *names: str) -> str:
        verdicts = [pod.run(action, **locked(shelf.files, name)) for name in names]
        assert not any(verdicts[:-1])
        return verdicts[-1]

    return run


def sha256(name: str) -> str:
    return hashlib.sha256(name[:1].encode() * UNIT).hexdigest()


def here(pod: Pod) -> set[str]:
    return set(pod.files())


def test_with_room_nothing_is_deleted(pod: Pod, do: Callable[..., str], room: Room) -> None:
    room(6)
    assert do("link", *NAMES) == ""
    assert here(pod) == set(NAMES)


def test_what_was_applied_longest_ago_goes_first_and_no_more_than_is_needed(
    pod: Pod, do: Callable[..., str], room: Room, capsys: pytest.CaptureFixture[str]
) -> None:
    do("link", A, B, C, D)
    room(4)
    capsys.readouterr()
    assert do("fetch", E) == ""
    assert here(pod) == {B, C, D, E}
    (told,) = [line for line in capsys.readouterr().out.splitlines() if "makes room" in line]
    assert told == f"Tiny: {pod.path(A)} makes room: 0.1 MB that no catalog has needed lately"
    assert pod.links() == {"model.gguf": b"d" * UNIT}


def test_the_order_is_that_of_the_last_time_when_each_was_applied(pod: Pod, do: Callable[..., str], room: Room) -> None:
    do("link", A, B, C, A, D, E)
    room(5)
    assert do("link", F) == ""
    assert here(pod) == {A, C, D, E, F}
    os.utime(pod.path(A), ns=(2, 2))
    assert do("link", B) == ""
    assert here(pod) == {A, B, D, E, F}


def test_the_last_two_locks_that_were_applied_stay_and_the_verdict_tells_what_to_do(
    pod: Pod, do: Callable[..., str], room: Room
) -> None:
    do("link", A, B)
    room(2.5)
    verdict = do("fetch", C)
    assert verdict == (
        "Tiny: 0.1 MB are to come and 0.1 MB must stay free, and the volume has 0.1 MB free and 0.0 MB that nothing "
        f"needs: raise storage.size_gib, or delete old models below {pod.models / 'files'}"
    )
    assert here(pod) == {A, B}


def test_nothing_goes_where_it_would_not_be_enough(pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf) -> None:
    do("link", A, B, C)
    room(3)
    shelf.files[F] = b"f" * 3 * UNIT
    assert "0.3 MB are to come" in do("fetch", F)
    assert here(pod) == {A, B, C}


def test_going_back_counts_as_applied_and_the_same_lock_twice_as_once(
    pod: Pod, do: Callable[..., str], room: Room
) -> None:
    do("link", A, B, C, A, A, A)
    room(3)
    assert do("link", D) == ""
    assert here(pod) == {A, C, D}


def test_a_restarted_pod_keeps_the_two_locks_before_its_own(pod: Pod, do: Callable[..., str], room: Room) -> None:
    do("link", A, B, C, B, C)
    pod.path(C).unlink()
    room(2)
    assert "raise storage.size_gib" in do("link", C)
    assert here(pod) == {A, B}


def test_a_spoiled_file_is_in_nobodys_way(pod: Pod, do: Callable[..., str], room: Room) -> None:
    do("link", A)
    pod.path(A).write_bytes(b"x" * UNIT)
    room(1)
    assert do("link", A) == ""
    assert pod.links() == {"model.gguf": b"a" * UNIT}


def test_a_lock_that_was_fetched_and_never_applied_makes_room(pod: Pod, do: Callable[..., str], room: Room) -> None:
    do("link", A, B)
    do("fetch", C)
    room(3)
    assert do("fetch", D) == ""
    assert here(pod) == {A, B, D}


def test_what_a_server_may_open_stays_though_no_lock_is_known_to_name_it(
    pod: Pod, do: Callable[..., str], room: Room
) -> None:
    do("link", A)
    (pod.models / "applied.json").unlink()
    room(1)
    assert "raise storage.size_gib" in do("fetch", B)
    assert here(pod) == {A}


@pytest.mark.parametrize("text", ["", "{", "{}", "[1]", '[{"applied": 1}]', "null"])
def test_a_broken_list_of_what_was_applied_stops_nothing(
    pod: Pod, do: Callable[..., str], room: Room, text: str
) -> None:
    do("link", A, B)
    (pod.models / "applied.json").write_text(text)
    room(2)
    assert do("link", C) == ""
    assert here(pod) == {B, C}
    (applied,) = json.loads((pod.models / "applied.json").read_text())
    assert applied["files"] == [f"files/{REPO}/{COMMIT}/{C}"]


def test_the_models_of_one_catalog_make_no_room_for_each_other(
    pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf
) -> None:
    do("fetch", A)
    pod.add("New", **locked(shelf.files, B))
    pod.add("Old", **locked(shelf.files, A))
    pod.add("Unlocked", commit=None, files=[], filename=C)
    pod.run("fetch")
    room(3)
    pod.add("Newest", **locked(shelf.files, D))
    pod.record["models"].insert(0, pod.record["models"].pop())
    verdict = pod.run("fetch")
    assert verdict.startswith("Newest: 0.1 MB are to come")
    assert verdict.count(";") == 0
    assert here(pod) == {A, B, C}


def test_what_has_come_of_one_model_makes_no_room_for_another(
    pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf
) -> None:
    do("fetch", A)
    pod.leave_part(b"c" * 1000, sha256(C))
    room(1)
    pod.add("New", **locked(shelf.files, B))
    pod.add("Begun", **locked(shelf.files, C))
    verdict = pod.run("fetch")
    assert verdict.startswith("New: 0.1 MB are to come")
    assert "Begun" not in verdict
    assert shelf.asked == [f"{A} 0", f"{C} 1000"]


def test_models_that_no_lock_knows_make_no_room_for_each_other_or_of_themselves(pod: Pod, room: Room) -> None:
    room(1)
    pod.add("First", commit=None, files=[], filename=A)
    pod.add("Second", commit=None, files=[], filename=B)
    assert pod.run("fetch").startswith("Second: 0.1 MB are to come")
    assert here(pod) == {A}
    pod.path(A).rename(pod.models / "parts" / f"{sha256(A)}.part")
    assert pod.run("fetch").startswith("Second: 0.1 MB are to come")
    assert here(pod) == {A}


def test_what_has_come_of_a_model_that_no_lock_knows_does_not_make_room_for_itself(
    pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf
) -> None:
    do("fetch", A)
    pod.leave_part(b"b" * 1000, sha256(B))
    os.utime(pod.models / "parts" / f"{sha256(B)}.part", ns=(1, 1))  # it would be the first to go
    room(1)
    assert pod.run("fetch", commit=None, files=[], filename=B) == ""
    assert shelf.asked[-1] == f"{B} 1000"


def test_room_is_asked_for_each_model_alone(pod: Pod, room: Room, shelf: Shelf) -> None:
    room(1)
    pod.add("Large")
    pod.add("Small", **locked(shelf.files, A))
    verdict = pod.run("fetch")
    assert verdict.startswith("Large: 1.0 MB are to come and 0.1 MB must stay free")
    assert "Small" not in verdict
    assert shelf.asked == [f"{A} 0"]


def test_all_files_of_a_model_must_fit_before_its_first_byte_comes(pod: Pod, room: Room, shelf: Shelf) -> None:
    room(2)
    assert "0.3 MB are to come" in pod.run("fetch", **locked(shelf.files, A, B, C))
    assert shelf.asked == []


def test_what_is_here_of_a_file_needs_no_room_again(pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf) -> None:
    pod.leave_part(b"a" * (UNIT - 100), sha256(A))
    room(1)
    assert do("fetch", A) == ""
    assert shelf.asked == [f"{A} {UNIT - 100}"]


def test_parts_make_room_unless_another_pod_is_at_them(pod: Pod, do: Callable[..., str], room: Room) -> None:
    pod.leave_part(b"x" * UNIT, "1" * 64)
    pod.leave_part(b"y" * UNIT, "2" * 64)
    room(2)
    with (pod.models / "parts" / f"{'1' * 64}.part").open() as taken:
        fcntl.flock(taken, fcntl.LOCK_EX)
        assert do("link", A) == ""
        assert pod.parts() == [b"x" * UNIT]
        assert "raise storage.size_gib" in do("fetch", B)
    assert do("fetch", B) == ""
    assert pod.parts() == []


def test_markers_and_empty_folders_go_with_their_files(
    pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf
) -> None:
    shelf.commits = {COMMIT: {f"deep/{A}": b"a" * UNIT}}
    do("link", f"deep/{A}")
    shelf.commits[LATER] = {name: name[:1].encode() * UNIT for name in NAMES}
    for name in (B, C):
        pod.run("link", **locked(shelf.files, name, commit=LATER))
    room(3)
    assert pod.run("link", **locked(shelf.files, D, commit=LATER)) == ""
    root = pod.models / "files" / REPO
    assert [path.name for path in root.iterdir()] == [LATER]
    assert {path.name for path in (root / LATER).iterdir()} == {B, C, D} | {f"{name}.verified" for name in (B, C, D)}


def test_a_file_that_has_a_name_elsewhere_is_left_alone_as_that_would_free_nothing(
    pod: Pod, do: Callable[..., str], room: Room
) -> None:
    do("link", A, B, C, D)
    os.link(pod.path(A), pod.models / "mine")
    room(4)
    assert do("fetch", E) == ""
    assert here(pod) == {A, C, D, E}


def test_one_of_two_names_of_a_file_makes_no_room_while_the_other_is_needed(
    pod: Pod, do: Callable[..., str], room: Room, shelf: Shelf
) -> None:
    do("link", A, B)
    shelf.commits[LATER] = shelf.files
    for name in (A, C):
        pod.run("link", **locked(shelf.files, name, commit=LATER))
    room(3)
    assert pod.run("link", **locked(shelf.files, D, commit=LATER)) == ""
    assert pod.path(A).samefile(pod.path(A, LATER))
    assert not pod.path(B).exists()
    for name in (E, F):
        assert pod.run("link", **locked(shelf.files, name, commit=LATER)) == ""
    assert here(pod) == {D, E, F}
