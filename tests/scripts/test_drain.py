"""drain.sh against servers that say, byte for byte, what llama-server b11434 and llama-swap v250 say."""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.debian import installed

Content = bytes | Iterator[bytes]
Reply = tuple[int, dict[str, str], Content]
Serve = Callable[[Callable[[str, dict[str, str], bytes], Reply]], str]
Look = Mapping[str, Content]
SCRIPT = Path(__file__).parents[2] / "components" / "scripts" / "drain.sh"
NOBODY = "http://127.0.0.1:1"
pytestmark = pytest.mark.usefixtures("curl")


@pytest.fixture(scope="session")
def curl() -> str:
    """The server's image has it."""
    return installed("curl")


class Drained(NamedTuple):
    status: int
    said: str
    slept: list[str]
    """The seconds of each wait."""


class Drain:
    """Runs the script, whose waits take no time here."""

    def __init__(self, directory: Path) -> None:
        self._slept = directory / "slept"
        self._path = directory / "bin"
        self._path.mkdir()
        sleep = self._path / "sleep"
        sleep.write_text(f'#!/bin/sh\necho "$1" >> {self._slept}\n')
        sleep.chmod(0o755)

    def __call__(self, engine: str, url: str, *settle: str) -> Drained:
        line = ["sh", str(SCRIPT), engine, url.rsplit(":", 1)[-1], *settle]
        path = {**os.environ, "PATH": f"{self._path}:{os.environ['PATH']}"}
        ended = subprocess.run(line, env=path, capture_output=True, text=True, timeout=60, check=False)
        slept = self._slept.read_text().split() if self._slept.exists() else []
        return Drained(ended.returncode, ended.stderr, slept)


@pytest.fixture
def drain(tmp_path: Path) -> Drain:
    return Drain(tmp_path)


class Engine:
    """A server that is looked at time and again; what it says at the last look stays."""

    def __init__(self, begins: str, *looks: Look) -> None:
        self._begins = begins
        self._looks = list(looks)
        self.seen = 0
        self.paths: list[str] = []

    def __call__(self, path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        if path == "/health":
            return 200, {}, b'{"status":"ok"}'
        self.paths.append(path)
        self.seen += path == self._begins
        content = self._looks[min(self.seen, len(self._looks)) - 1].get(path)
        if content is None:
            return 400, {}, b'{"error":{"code":400,"message":"model is not loaded","type":"invalid_request_error"}}'
        return 200, {}, content


def metrics(processing: int = 0, deferred: int = 0) -> bytes:
    lines = [
        "# HELP llamacpp:n_tokens_max Largest observed sequence length (prompt + generation)",
        "# TYPE llamacpp:n_tokens_max counter",
        "llamacpp:n_tokens_max 0",
        "# HELP llamacpp:requests_processing Number of requests processing",
        "# TYPE llamacpp:requests_processing gauge",
        f"llamacpp:requests_processing {processing}",
        "# HELP llamacpp:requests_deferred Number of requests deferred",
        "# TYPE llamacpp:requests_deferred gauge",
        f"llamacpp:requests_deferred {deferred}",
    ]
    return "\n".join(lines).encode()


def server(*looks: bytes) -> Engine:
    """llama-server with one model."""
    return Engine("/metrics", *({"/metrics": look} for look in looks))


def listed(statuses: Mapping[str, str]) -> bytes:
    """A router's /v1/models."""
    # an argument of a model that looks as if it began another one
    traps = ["/app/llama-server", "--chat-template-kwargs", '{"id":"other","a":{', "--alias"]
    models: list[dict[str, object]] = [
        {
            "id": name,
            "aliases": [],
            "tags": [],
            "object": "model",
            "owned_by": "llamacpp",
            "created": 1795581443,
            "status": {"value": status, "args": [*traps, name], "preset": f"[{name}]\nctx-size = 8192\n\n"},
            "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
            "source": "preset",
            "can_remove": False,
            "meta": {"vocab_type": 1, "n_vocab": 285},
        }
        for name, status in statuses.items()
    ]
    return json.dumps({"data": models, "object": "list"}, separators=(",", ":")).encode()


def router(look: Mapping[str, str | tuple[int, int]]) -> Look:
    """What a router says of its models: a status, or else how many requests a loaded one has."""
    requests = {name: state for name, state in look.items() if not isinstance(state, str)}
    said = {f"/metrics?model={name}&autoload=false": metrics(*of_it) for name, of_it in requests.items()}
    return {
        "/v1/models": listed({name: str(look[name]) if name not in requests else "loaded" for name in look}),
        **said,
    }


def routers(*looks: Look) -> Engine:
    return Engine("/v1/models", *looks)


EMPTY = '{"operation":"snapshot"}'
FULL = '{"operation":"snapshot","requests":[{"id":"1","model":"a","req_path":"/v1/chat/completions","resp_bytes":0}]}'


def event(kind: str, data: str) -> bytes:
    message = json.dumps({"type": kind, "data": data}, separators=(",", ":"))
    return f"event:message\ndata:{message}\n\n".encode()


# a log has a line in it that looks like an event
LOG = json.dumps({"data": f"a\n{event('inflight', EMPTY).decode()}", "source": "upstream"})
MODELS = '[{"id":"a","name":"","description":"","state":"ready","unlisted":false,"peerID":""}]'
BEFORE = event("logData", LOG) + event("modelStatus", MODELS)
ENDED = event("inflight", '{"operation":"remove","id":"7"}')
IDLE, BUSY = BEFORE + event("inflight", EMPTY), BEFORE + event("inflight", FULL)


def swap(*looks: Content) -> Engine:
    """llama-swap."""
    return Engine("/api/events", *({"/api/events": look} for look in looks))


def test_the_events_of_an_idle_swap_are_those_that_were_seen() -> None:
    assert IDLE.splitlines()[-2] == rb'data:{"type":"inflight","data":"{\"operation\":\"snapshot\"}"}'


# --- an idle server is let go after two looks, a second apart


IDLE_ONES: dict[str, Callable[[], Engine]] = {
    "llama-server": lambda: server(metrics()),
    "router": lambda: routers(router({"Tiny-A.1_x": (0, 0), "b": "unloaded", "c": "sleeping", "d": (0, 0)})),
    "llama-swap": lambda: swap(IDLE),
}
ENGINES = pytest.mark.parametrize("engine", IDLE_ONES)


@ENGINES
def test_an_idle_server_is_let_go_after_two_looks(serve: Serve, drain: Drain, engine: str) -> None:
    idle = IDLE_ONES[engine]()
    assert drain(engine, serve(idle)) == (0, "", ["5", "1"])
    assert idle.seen == 2


@ENGINES
def test_the_time_until_no_node_sends_requests_may_be_given(drain: Drain, engine: str) -> None:
    assert drain(engine, NOBODY, "0").slept == ["0", "1"]


@ENGINES
def test_a_server_that_is_gone_is_not_waited_for(drain: Drain, engine: str) -> None:
    assert drain(engine, NOBODY) == (0, "", ["5", "1"])


def test_a_server_that_never_loaded_is_not_waited_for(serve: Serve, drain: Drain) -> None:
    def loading(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 503, {}, b'{"error":{"message":"Loading model","type":"unavailable_error","code":503}}'

    assert drain("llama-server", serve(loading)).slept == ["5", "1"]


def test_another_engine_is_refused_at_once(drain: Drain) -> None:
    told = "drain.sh: the engine is llama-server, router or llama-swap, not vllm\n"
    assert drain("vllm", NOBODY) == (2, told, [])


# --- a busy one is waited for


@pytest.mark.parametrize(
    ("looks", "seen"),
    [
        pytest.param([metrics(1, 0), metrics(0, 1), metrics()], 4, id="running and waiting requests"),
        pytest.param([metrics(), metrics(1, 0), metrics()], 4, id="a request that comes between two looks"),
        pytest.param([metrics(10, 0), metrics(0, 10), metrics()], 4, id="numbers that end in 0"),
        pytest.param([b"", metrics()], 3, id="no metrics"),
        pytest.param([b"llamacpp:requests_processing 0\n", metrics()], 3, id="half of them"),
    ],
)
def test_a_busy_server_is_waited_for(serve: Serve, drain: Drain, looks: list[bytes], seen: int) -> None:
    busy = server(*looks)
    assert drain("llama-server", serve(busy)).status == 0
    assert busy.seen == seen


NO_ANSWER: Look = {}
BOTH_IDLE = router({"a": (0, 0), "b": (0, 0)})


@pytest.mark.parametrize(
    ("looks", "seen"),
    [
        pytest.param([router({"a": (1, 0), "b": (0, 0)}), router({"a": (0, 0), "b": (0, 1)})], 4, id="each model's"),
        pytest.param([BOTH_IDLE, router({"a": (0, 0), "b": (1, 0)})], 4, id="a request between two looks"),
        pytest.param([router({"a": (0, 0), "b": "loading"})], 3, id="one that waits for a load"),
        pytest.param([router({"a": "unloaded", "b": "downloading"})], 3, id="a state that is none of ours"),
        pytest.param([{"/v1/models": listed({"a": "loaded"})}], 3, id="a model that went since it was listed"),
        pytest.param([{"/v1/models": listed({"a/b": "unloaded"})}], 3, id="a name that is none of ours"),
        pytest.param([{"/v1/models": b'{"data":[],"object":"list"}'}], 3, id="no models"),
        pytest.param([{"/v1/models": b'{"data": [{"id": "a", "status": {"value": "unloaded"}}]}'}], 3, id="spaces"),
        pytest.param([{"/v1/models": b""}], 3, id="nothing"),
        pytest.param([NO_ANSWER], 3, id="an error"),
    ],
)
def test_a_busy_router_is_waited_for(serve: Serve, drain: Drain, looks: list[Look], seen: int) -> None:
    busy = routers(*looks, BOTH_IDLE)
    assert drain("router", serve(busy)).status == 0
    assert busy.seen == seen


def test_a_routers_model_that_is_not_loaded_is_not_asked_and_none_is_loaded(serve: Serve, drain: Drain) -> None:
    idle = routers(router({"Tiny-A.1_x": (0, 0), "b": "unloaded", "c": "sleeping"}))
    drain("router", serve(idle))
    assert idle.paths == ["/v1/models", "/metrics?model=Tiny-A.1_x&autoload=false"] * 2


@pytest.mark.parametrize(
    ("looks", "seen"),
    [
        pytest.param([BUSY, BUSY], 4, id="running requests"),
        pytest.param([IDLE, BUSY], 4, id="a request that comes between two looks"),
        pytest.param([ENDED + BUSY], 3, id="running requests, after the end of another"),
        pytest.param([ENDED + IDLE], 2, id="no requests, after the end of the last one"),
        pytest.param([BUSY + event("inflight", EMPTY)], 3, id="a later snapshot"),
        pytest.param([BEFORE], 3, id="no snapshot"),
        pytest.param([BEFORE + event("inflight", '{"operation":"snapshot","jobs":[1]}')], 3, id="another snapshot"),
        pytest.param([b""], 3, id="nothing"),
    ],
)
def test_a_swap_is_waited_for_while_it_is_busy(serve: Serve, drain: Drain, looks: list[Content], seen: int) -> None:
    busy = swap(*looks, IDLE)
    assert drain("llama-swap", serve(busy)).status == 0
    assert busy.seen == seen


def test_events_that_never_end_are_left_after_their_beginning(serve: Serve, drain: Drain) -> None:
    ended = threading.Event()

    def events() -> Iterator[bytes]:
        yield IDLE
        ended.wait(30)

    begun = time.monotonic()
    idle = swap(events(), events())
    assert drain("llama-swap", serve(idle)).status == 0
    ended.set()
    assert idle.seen == 2
    assert time.monotonic() - begun < 20
