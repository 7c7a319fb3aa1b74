"""A hub that is away, overloaded, or refuses: patience, the token's way, and one line that says what to do."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from tests.scripts.fetch.conftest import COMMIT, CONTENT, MODEL, NOWHERE, REPO, Answer, Pod, Reply, Serve, Shelf

TOKEN = "hf_right"  # noqa: S105 - a token that opens nothing but these tests


def first(shelf: Shelf, times: int, status: int, headers: dict[str, str] | None = None) -> None:
    """Have the hub refuse so many times before it answers."""

    def refuse(ok: int, span: dict[str, str], body: bytes) -> Reply:
        return (status, headers or {}, b"") if len(shelf.asked) <= times else (ok, span, body)

    shelf.spoil = refuse


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_an_overloaded_hub_is_asked_again_after_growing_pauses(
    pod: Pod, shelf: Shelf, waits: list[float], capsys: pytest.CaptureFixture[str], status: int
) -> None:
    first(shelf, 6, status)
    assert pod.run("fetch", deadline_seconds=60) == ""
    assert waits == [1, 2, 4, 8, 16, 30]
    assert pod.files() == {MODEL: CONTENT}
    assert f"Tiny: {pod.record['endpoint']}: HTTP {status}: again in 1 s\n" in capsys.readouterr().out


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_says_when_to_come_again_is_left_alone_so_long(
    pod: Pod, shelf: Shelf, waits: list[float], status: int
) -> None:
    first(shelf, 1, status, {"Retry-After": "7"})
    assert pod.run("fetch") == ""
    assert waits == [7]


def test_it_may_say_so_by_a_date(pod: Pod, shelf: Shelf, waits: list[float]) -> None:
    first(shelf, 1, 429, {"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=9), usegmt=True)})
    assert pod.run("fetch") == ""
    assert waits == [pytest.approx(8, abs=1.5)]


@pytest.mark.parametrize("value", ["soon", "-5", "", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_says_nothing_is_no_reason_to_wait_longer(
    pod: Pod, shelf: Shelf, waits: list[float], value: str
) -> None:
    first(shelf, 1, 429, {"Retry-After": value})
    assert pod.run("fetch") == ""
    assert waits == [1]


def test_a_wait_past_the_deadline_is_not_waited_for(pod: Pod, shelf: Shelf) -> None:
    first(shelf, 9, 429, {"Retry-After": "3600"})
    begun = time.monotonic()
    verdict = pod.run("fetch", deadline_seconds=20)
    assert time.monotonic() - begun < 3
    assert verdict == (
        f"Tiny: nothing of {MODEL} from the hub {pod.record['endpoint']} in 20 s "
        "(HTTP 429, which asks to wait 3600 s): check hub.endpoint, the network and startup_seconds, then run it again"
    )


def test_a_hub_that_is_away_is_told(pod: Pod) -> None:
    verdict = pod.run("fetch", endpoint=NOWHERE, deadline_seconds=0.5)
    assert verdict.startswith(
        f"Tiny: nothing of {MODEL} from the hub {NOWHERE} in 0.5 s ([Errno 111] Connection refused)"
    )


def refusing(status: int, code: str) -> Answer:
    def answer(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return status, {"X-Error-Code": code}, b""

    return answer


MAKE_LOCK = "run `make lock` with the stack's name as STACK"
ASK, SECRET = f"ask for access at ENDPOINT/{REPO}", "name a Secret with a token in hub.token_secret"
RENEW = f"{ASK}, or renew the Secret of hub.token_secret"


@pytest.mark.parametrize(
    ("refusal", "token", "told"),
    [
        ((401, "GatedRepo"), None, f"wants a token for gated REPO (HTTP 401): {ASK} and {SECRET}"),
        ((401, "GatedRepo"), TOKEN, f"refuses the token for gated REPO (HTTP 401): {RENEW}"),
        ((403, "GatedRepo"), TOKEN, f"refuses the token for gated REPO (HTTP 403): {RENEW}"),
        ((401, "RepoNotFound"), None, f"wants a token for REPO (HTTP 401): check repo, or {SECRET}"),
        ((404, "RepoNotFound"), None, "has no repository REPO (HTTP 404): check repo and hub.endpoint"),
        ((404, "RevisionNotFound"), None, f"no longer has commit {COMMIT} of REPO (HTTP 404): {MAKE_LOCK}"),
        ((404, "EntryNotFound"), None, f"does not have {MODEL} in REPO (HTTP 404): {MAKE_LOCK}"),
        ((410, ""), None, "refuses REPO (HTTP 410): look at ENDPOINT/REPO"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(
    pod: Pod, serve: Serve, refusal: tuple[int, str], token: str | None, told: str
) -> None:
    endpoint = serve(refusing(*refusal))
    with pytest.MonkeyPatch.context() as patch:
        if token:
            patch.setenv("HF_TOKEN", token)
        verdict = pod.run("fetch", endpoint=endpoint)
    assert verdict == f"Tiny: the hub {told.replace('ENDPOINT', endpoint).replace('REPO', REPO)}"


def test_the_token_stays_with_the_hubs_own_host(
    pod: Pod, serve: Serve, shelf: Shelf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, tuple[str | None, str | None]] = {}

    def storage(path: str, headers: dict[str, str], body: bytes) -> Reply:
        seen[f"storage {path}"] = headers.get("authorization"), headers.get("range")
        return shelf(f"/{REPO}/resolve/{COMMIT}/{MODEL}", headers, body)

    elsewhere = serve(storage)

    def renamed(path: str, headers: dict[str, str], _body: bytes) -> Reply:
        seen[f"hub {path}"] = headers.get("authorization"), headers.get("range")
        if path.startswith("/acme/"):
            return 307, {"Location": path.replace("acme", "new")}, b""
        return 302, {"Location": f"{elsewhere}/blob"}, b""

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pod.leave_part(CONTENT[:1000])
    assert pod.run("fetch", endpoint=serve(renamed)) == ""
    assert seen == {
        f"hub /{REPO}/resolve/{COMMIT}/{MODEL}": (f"Bearer {TOKEN}", "bytes=1000-"),
        f"hub /new/tiny-GGUF/resolve/{COMMIT}/{MODEL}": (f"Bearer {TOKEN}", "bytes=1000-"),
        "storage /blob": (None, "bytes=1000-"),
    }
    assert TOKEN not in capsys.readouterr().out
    assert pod.files() == {MODEL: CONTENT}


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_a_circle_of_redirects_is_told(pod: Pod, serve: Serve, status: int) -> None:
    def circle(path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return status, {"Location": path}, b""

    told = f"the hub redirects in a circle, or to no page, for {MODEL} of {REPO} (HTTP {status}): check hub.endpoint"
    assert told in pod.run("fetch", endpoint=serve(circle))


def test_a_redirect_to_another_kind_of_address_is_not_followed(pod: Pod, serve: Serve) -> None:
    def leave(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 302, {"Location": "file:///etc/passwd"}, b""

    assert f"or to no page, for {MODEL} of {REPO} (HTTP 302)" in pod.run("fetch", endpoint=serve(leave))


def test_a_refusal_of_the_host_that_stores_the_files_is_not_taken_for_the_hubs(
    pod: Pod, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = serve(refusing(403, ""))

    def hub(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 302, {"Location": f"{storage}/blob"}, b""

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    host = storage.removeprefix("http://")
    told = f"leads to {host}, which refuses {MODEL} of {REPO} (HTTP 403): have this cluster's network let it through"
    assert told in pod.run("fetch", endpoint=serve(hub))


def test_sigterm_while_the_hub_is_silent_leaves_a_verdict_too(pod: Pod, serve: Serve) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def silent(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        asked.set()
        go_on.wait(10)
        return 500, {}, b""

    pod.record["endpoint"] = serve(silent)
    with pod.running("link") as process:
        assert asked.wait(10)
        process.terminate()
        assert process.wait(5) == 143
    go_on.set()
    assert f"Tiny: Kubernetes ended this pod when 0.0 MB of 1.0 MB of {MODEL} are here: raise" in pod.log.read_text()


def test_a_verdict_tells_the_time_that_the_models_before_left(pod: Pod, serve: Serve) -> None:
    def busy(path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        if "none" not in path:
            return 503, {}, b""
        time.sleep(0.3)
        return 404, {}, b""

    pod.add("Slow", repo="acme/none")
    pod.add("Late")
    slow, late = pod.run("fetch", endpoint=serve(busy), deadline_seconds=0.9).split("; ")
    assert slow.startswith("Slow: the hub has no repository acme/none")
    (seconds,) = [part for part in late.split() if part.startswith("0.")]
    assert 0.3 < float(seconds) < 0.7


def test_a_listing_that_trickles_is_ended_by_the_deadline(unlocked: Pod, serve: Serve) -> None:
    def spaces() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.02)

    def trickling(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 200, {}, spaces()

    verdict = unlocked.run("fetch", endpoint=serve(trickling), deadline_seconds=0.5)
    assert f"the list of files of {REPO} is not here yet after 0.5 s (too slow)" in verdict
