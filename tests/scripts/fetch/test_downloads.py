"""A download goes on from what is here, and under its own name a file is never half there, nor another one."""

import fcntl
import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from components.scripts.model_files import Part
from components.scripts.model_record import File
from tests.scripts.fetch.conftest import CONTENT, LATER, MODEL, SHA256, SMALL, Pod, Reply, Shelf, locked, plain

MORE_TIME = "raise startup_seconds where it is set, else lower hub.mb_per_second; the next run goes on from there"


class Cut:
    """Ends each answer after so many bytes."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, status: int, headers: dict[str, str], body: bytes) -> Reply:
        return status, {**headers, "Content-Length": str(len(body))}, body[: self.size]


class Held(Cut):
    """Cuts the first answer; the second one comes when the test says so."""

    def __init__(self) -> None:
        super().__init__(1000)
        self.asked_again, self.go_on = threading.Event(), threading.Event()

    def __call__(self, status: int, headers: dict[str, str], body: bytes) -> Reply:
        if len(body) == len(CONTENT):
            return super().__call__(status, headers, body)
        self.asked_again.set()
        self.go_on.wait(10)
        return status, headers, body


@pytest.fixture
def held(shelf: Shelf) -> Iterator[Held]:
    made = Held()
    shelf.spoil = made
    yield made
    made.go_on.set()


def test_a_cut_download_goes_on_where_it_ended(pod: Pod, shelf: Shelf, held: Held) -> None:
    held.go_on.set()
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0", f"{MODEL} 1000"]
    assert pod.files() == {MODEL: CONTENT}


def test_a_hub_that_cuts_every_connection_is_asked_on_without_a_pause_and_nothing_is_read_again(
    pod: Pod, shelf: Shelf, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model_hub._FRUITFUL_BYTES", 100_000)
    reads: list[int] = []

    def read(part: Part) -> None:
        reads.append(part.size)
        Part.read(part)

    monkeypatch.setattr("model_files.Part.read", read)
    shelf.spoil = Cut(100_000)
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} {start}" for start in range(0, len(CONTENT), 100_000)]
    assert waits == [0.0] * 10
    assert reads == [0]


def test_what_an_earlier_run_left_is_not_downloaded_again(
    pod: Pod, shelf: Shelf, capsys: pytest.CaptureFixture[str]
) -> None:
    pod.leave_part(CONTENT[:5000])
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 5000"]
    assert pod.files() == {MODEL: CONTENT}
    assert f"Tiny: {MODEL} goes on from 0.0 MB" in capsys.readouterr().out


def test_a_part_that_is_whole_is_put_in_place_without_a_request(pod: Pod, shelf: Shelf) -> None:
    pod.leave_part(CONTENT)
    assert pod.run("fetch") == ""
    assert shelf.asked == []
    assert pod.files() == {MODEL: CONTENT}


@pytest.mark.parametrize("content", [CONTENT + b"x", CONTENT[:-1] + b"x"])
def test_a_part_that_holds_something_else_is_thrown_away(pod: Pod, shelf: Shelf, content: bytes) -> None:
    pod.leave_part(content)
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert pod.files() == {MODEL: CONTENT}


def test_what_came_of_a_file_is_used_for_its_content_alone_and_whichever_commit_has_it(pod: Pod, shelf: Shelf) -> None:
    pod.leave_part(CONTENT[:5000])
    shelf.commits[LATER] = {MODEL: CONTENT[::-1], "moved-Q4_K_M.gguf": CONTENT}
    assert pod.run("fetch", **locked(shelf.files, MODEL, commit=LATER)) == ""
    assert pod.run("fetch", **locked(shelf.files, "moved-Q4_K_M.gguf", commit=LATER)) == ""
    assert shelf.asked == [f"{MODEL} 0", "moved-Q4_K_M.gguf 5000"]
    assert pod.files() == {MODEL: CONTENT[::-1], "moved-Q4_K_M.gguf": CONTENT}


def test_a_kill_midway_leaves_no_file_under_the_models_name(pod: Pod, shelf: Shelf, held: Held) -> None:
    with pod.running("fetch") as process:
        assert held.asked_again.wait(10)
        process.kill()
    assert pod.files() == {}
    assert pod.parts() == [CONTENT[:1000]]
    held.go_on.set()
    assert pod.run("fetch") == ""
    assert shelf.asked[-1] == f"{MODEL} 1000"
    assert pod.files() == {MODEL: CONTENT}


def test_two_pods_do_not_write_the_same_file_and_the_one_that_waits_downloads_nothing(
    pod: Pod, tmp_path: Path, shelf: Shelf, held: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Pod(tmp_path / "other", pod.record["endpoint"])
    other.models, other.model = pod.models, pod.model
    other.record["models"] = [pod.model]
    with pod.running("fetch") as process:
        assert held.asked_again.wait(10)
        verdict = other.run("fetch", deadline_seconds=0.5)
        assert f"nothing of {MODEL} from the hub" in verdict
        assert f"another pod is downloading {MODEL}" in verdict
        threading.Timer(0.3, held.go_on.set).start()
        assert other.run("fetch", deadline_seconds=20) == ""
        assert process.wait(10) == 0
    assert f"another pod is downloading {MODEL}: again in 1 s" in capsys.readouterr().out
    assert shelf.asked == [f"{MODEL} 0", f"{MODEL} 1000"]
    assert pod.files() == {MODEL: CONTENT}
    assert pod.parts() == []


def test_a_file_that_another_pod_puts_in_place_at_that_moment_is_not_written_to(
    pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    pod.leave_part(CONTENT)
    part = pod.models / "parts" / f"{SHA256}.part"

    def lock(_file: object, _operation: int) -> None:
        part.replace(pod.models / "whole")

    monkeypatch.setattr(fcntl, "flock", lock)
    with pytest.raises(ConnectionError, match="another pod"):
        Part(part, File(MODEL, 5, SHA256))
    assert (pod.models / "whole").read_bytes() == CONTENT


def test_a_file_gets_its_name_once_its_bytes_are_on_the_disk(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, bool]] = []

    def sync(file: int) -> None:
        synced.append((os.fstat(file).st_ino, pod.path().exists()))

    monkeypatch.setattr(os, "fsync", sync)
    assert pod.run("fetch") == ""
    assert (pod.path().stat().st_ino, False) in synced
    assert synced[-1] == (pod.path().parent.stat().st_ino, True)


def trickle(status: int, headers: dict[str, str], body: bytes) -> Reply:
    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]
            time.sleep(0.01)

    return status, {**headers, "Content-Length": str(len(body))}, parts()


def test_a_slow_download_ends_at_its_deadline_and_goes_on_in_the_next_run(pod: Pod, shelf: Shelf) -> None:
    shelf.spoil = trickle
    begun = time.monotonic()
    verdict = pod.run("fetch", deadline_seconds=0.5)
    assert time.monotonic() - begun < 3
    assert re.fullmatch(
        rf"Tiny: 0\.\d MB of 1\.0 MB of {MODEL} are here after 0\.5 s \(too slow\): {MORE_TIME}", verdict
    )
    (part,) = pod.parts()
    assert CONTENT.startswith(part)
    assert 0 < len(part) < len(CONTENT)
    shelf.spoil = plain
    assert pod.run("fetch", deadline_seconds=5) == ""
    assert shelf.asked == [f"{MODEL} 0", f"{MODEL} {len(part)}"]
    assert pod.files() == {MODEL: CONTENT}


def test_bytes_that_came_are_not_called_nothing(pod: Pod, shelf: Shelf) -> None:
    shelf.spoil = Cut(1000)
    verdict = pod.run("fetch", deadline_seconds=0.5)
    assert f"0.0 MB of 1.0 MB of {MODEL} are here after 0.5 s (hung up after 1000 of" in verdict


def test_the_log_tells_percent_rate_and_time_left(
    pod: Pod, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("model_hub._PROGRESS_SECONDS", 0.05)
    shelf.spoil = trickle
    pod.run("fetch", deadline_seconds=0.5)
    lines = [line for line in capsys.readouterr().out.splitlines() if " % of " in line]
    assert len(lines) > 2
    assert all(re.fullmatch(rf"Tiny: {MODEL}: \d+ % of 1\.0 MB, 0 MB/s, \d+ s left", line) for line in lines)


def test_sigterm_ends_it_at_once_and_leaves_how_far_it_came(pod: Pod, held: Held) -> None:
    with pod.running("fetch") as process:
        assert held.asked_again.wait(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
    told = f"Tiny: Kubernetes ended this pod when 0.0 MB of 1.0 MB of {MODEL} are here: {MORE_TIME}"
    assert pod.log.read_text() == told


def test_a_models_own_deadline_leaves_the_others_their_time(pod: Pod, shelf: Shelf) -> None:
    pod.add("Slow", deadline_seconds=0.3)
    pod.add("Quick", **locked(shelf.files, SMALL))

    def slow(status: int, headers: dict[str, str], body: bytes) -> Reply:
        return trickle(status, headers, body) if len(body) > 2 else (status, headers, body)

    shelf.spoil = slow
    verdict = pod.run("fetch", deadline_seconds=60)
    assert re.fullmatch(rf"Slow: 0\.\d MB of .* are here after 0\.3 s \(too slow\): {MORE_TIME}", verdict)
    assert pod.files() == {SMALL: b"q8"}


def test_when_the_deadline_of_all_is_past_the_rest_fails_at_once_and_what_is_here_is_linked(
    pod: Pod, shelf: Shelf
) -> None:
    here = pod.add("Here", **locked(shelf.files, SMALL))
    pod.run("fetch")
    shelf.spoil = trickle
    pod.record["models"] = [pod.add(name) for name in ("Slow", "Late", "Later")] + [here]
    begun = time.monotonic()
    slow, late, later = pod.run("link", deadline_seconds=0.5).split(f": {MORE_TIME}; ")
    assert time.monotonic() - begun < 3
    assert slow.startswith("Slow: 0.")
    assert late == "Late: no time was left for it"
    assert later == f"Later: no time was left for it: {MORE_TIME}"
    assert shelf.asked == [f"{SMALL} 0", f"{MODEL} 0"]
    assert pod.links() == {"Here/model.gguf": b"q8"}


def test_a_hub_is_not_asked_for_a_file_that_another_model_of_the_catalog_has(pod: Pod, shelf: Shelf) -> None:
    pod.add("One")
    pod.add("Other")
    assert pod.run("link") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert pod.links() == {"One/model.gguf": CONTENT, "Other/model.gguf": CONTENT}
