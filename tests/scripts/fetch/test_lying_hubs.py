"""A hub that serves something else than the file that is meant, or says so of the right one."""

import hashlib

import pytest

from tests.scripts.fetch.conftest import CONTENT, MODEL, SHA256, Pod, Reply, Shelf


def test_one_wrong_byte_has_the_file_fetched_anew(pod: Pod, shelf: Shelf, capsys: pytest.CaptureFixture[str]) -> None:
    def once(status: int, headers: dict[str, str], body: bytes) -> Reply:
        return status, headers, body[:-1] + b"x" if len(shelf.asked) == 1 else body

    shelf.spoil = once
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0"] * 2
    assert pod.files() == {MODEL: CONTENT}
    assert "and was thrown away: once more\n" in capsys.readouterr().out


def test_a_wrong_byte_each_time_is_told_with_both_digests_and_nothing_is_left(pod: Pod, shelf: Shelf) -> None:
    spoiled = CONTENT[:-1] + b"x"
    shelf.spoil = lambda status, headers, _body: (status, headers, spoiled)
    verdict = pod.run("fetch")
    digest = hashlib.sha256(spoiled).hexdigest()
    assert verdict.startswith(f"Tiny: {MODEL} came with the SHA-256 {digest} instead of {SHA256}")
    assert verdict.endswith("twice: check hub.endpoint and what lies on the way to it, then run it again")
    assert shelf.asked == [f"{MODEL} 0"] * 2
    assert pod.files() == {}
    assert pod.parts() == [b""]


def test_a_hub_that_knows_no_ranges_begins_anew(pod: Pod, shelf: Shelf) -> None:
    pod.leave_part(CONTENT[:5000])
    shelf.spoil = lambda _status, _headers, _body: (200, {}, CONTENT)
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 5000"]
    assert pod.files() == {MODEL: CONTENT}


@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (200, {}, f"the hub serves 5 bytes as {MODEL} instead of {len(CONTENT)}"),
        (206, {"Content-Range": "bytes 1000-1004/1005"}, f"the hub serves 1005 bytes as {MODEL} instead of"),
        (416, {"Content-Range": "bytes */5"}, f"the hub serves 1000 bytes or fewer as {MODEL} instead of"),
    ],
)
def test_a_file_of_another_size_is_refused_and_costs_nothing_that_came_before(
    pod: Pod, shelf: Shelf, status: int, headers: dict[str, str], told: str
) -> None:
    pod.leave_part(CONTENT[:1000])
    shelf.spoil = lambda _status, _headers, _body: (status, headers, b"login")
    assert told in pod.run("fetch")
    assert shelf.asked == [f"{MODEL} 1000"] * 2
    assert pod.parts() == [CONTENT[:1000]]


@pytest.mark.parametrize("length", [1, len(CONTENT) - 1000, len(CONTENT) + 1000, "x"])
def test_a_content_length_that_lies_changes_nothing(pod: Pod, shelf: Shelf, length: int | str) -> None:
    shelf.spoil = lambda status, headers, body: (status, {**headers, "Content-Length": str(length)}, body)
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0"]
    assert pod.files() == {MODEL: CONTENT}


def test_a_hub_that_gives_less_than_it_was_asked_for_is_asked_on(pod: Pod, shelf: Shelf, waits: list[float]) -> None:
    def at_most(status: int, _headers: dict[str, str], body: bytes) -> Reply:
        start = len(CONTENT) - len(body)
        given = body[:300_000]
        span = f"bytes {start}-{start + len(given) - 1}/{len(CONTENT)}"
        return status, {"Content-Range": span}, given + b"what no range speaks of"

    shelf.spoil = at_most
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} {start}" for start in range(0, len(CONTENT), 300_000)]
    assert len(waits) == 3
    assert pod.files() == {MODEL: CONTENT}


@pytest.mark.parametrize("span", [{}, {"Content-Range": f"bytes 0-9/{len(CONTENT)}"}, {"Content-Range": "bytes x"}])
def test_an_answer_that_does_not_go_on_where_the_file_ended_is_not_taken(
    pod: Pod, shelf: Shelf, waits: list[float], span: dict[str, str]
) -> None:
    pod.leave_part(CONTENT[:1000])

    def once(status: int, headers: dict[str, str], body: bytes) -> Reply:
        return (206, span, CONTENT) if len(shelf.asked) == 1 else (status, headers, body)

    shelf.spoil = once
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 1000"] * 2
    assert waits == [1.0]
    assert pod.files() == {MODEL: CONTENT}
