"""Whether LiteLLM, the real one, lets go of its clients' connections once it is told to end."""

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple

import httpx
import pytest

from components.connections import hook_env, hook_files
from components.gateway_routes import KEEP_ALIVE_SECONDS
from components.scripts.llama_chat_connections import ENDS, IDLE_SECONDS
from tests.gateway_group import with_litellm

Reply = tuple[int, dict[str, str], Iterator[bytes]]
MODEL = "GLM-4.7-Flash"
COMPLETION = {"id": "1", "created": 1, "model": MODEL}
PATHS = ("/health/liveliness", "/v1/models", "/nowhere")
SHORT_SECONDS = 12
"""In the place of IDLE_SECONDS."""
KEY = f"sk-{token_hex(32)}"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("litellm")


@pytest.fixture
def ends(folder: Path) -> Iterator[Path]:
    """The file that a pod's preStop hook makes."""
    yield folder / "ends"
    (folder / "ends").unlink(missing_ok=True)


class Backend:
    """Its streams begin at once; they and its whole answers end with the last word."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.last_word = threading.Event()

    def __call__(self, _path: str, _headers: dict[str, str], body: bytes) -> Reply:
        self.asked.set()
        if json.loads(body).get("stream"):
            return 200, {"Content-Type": "text/event-stream"}, self._stream()
        return 200, {"Content-Type": "application/json"}, self._whole()

    def _stream(self) -> Iterator[bytes]:
        yield self._event({"role": "assistant", "content": "one"}, None)
        assert self.last_word.wait(60)
        yield self._event({}, "stop") + b"data: [DONE]\n\n"

    def _whole(self) -> Iterator[bytes]:
        assert self.last_word.wait(60)
        choice = {"index": 0, "message": {"role": "assistant", "content": "one"}, "finish_reason": "stop"}
        yield json.dumps({**COMPLETION, "object": "chat.completion", "choices": [choice]}).encode()

    def _event(self, delta: dict[str, str], end: str | None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        chunk = {**COMPLETION, "object": "chat.completion.chunk", "choices": [choice]}
        return f"data: {json.dumps(chunk)}\n\n".encode()


@pytest.fixture(scope="module")
def everyones_backend() -> Backend:
    return Backend()


class Server(NamedTuple):
    """A LiteLLM that runs."""

    address: str
    process: subprocess.Popen[bytes]


@pytest.fixture
def backend(everyones_backend: Backend) -> Iterator[Backend]:
    """One that waits; afterwards nothing waits for it."""
    everyones_backend.asked.clear()
    everyones_backend.last_word.clear()
    yield everyones_backend
    everyones_backend.last_word.set()


@pytest.fixture(scope="module")
def server(folder: Path, everyones_backend: Backend, serve_all: Callable[[Backend], str]) -> Iterator[Server]:
    """A LiteLLM with one model that was started as our gateways are."""
    (script,) = hook_files().items()
    edited = script[1].replace(str(ENDS), str(folder / "ends"))
    edited = edited.replace(f"IDLE_SECONDS = {IDLE_SECONDS}", f"IDLE_SECONDS = {SHORT_SECONDS}")
    (folder / script[0]).write_text(edited)
    route = {"model": f"openai/{MODEL}", "api_base": f"{serve_all(everyones_backend)}/v1", "api_key": "none"}
    (folder / "ends").touch()  # by a container that hung, and was started anew
    (folder / "config.yaml").write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": route}]}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    set_by_us = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": KEY,
        "KEEPALIVE_TIMEOUT": str(KEEP_ALIVE_SECONDS),
        **{it["name"]: it["value"] for it in hook_env(str(folder))},
    }
    arguments = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            with_litellm("litellm", *arguments),
            cwd=folder,
            env={**os.environ, **set_by_us},
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while not alive(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield Server(address, process)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def litellm(server: Server) -> str:
    """Its address; the last test stops it."""
    assert server.process.poll() is None
    return server.address


def alive(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/health/liveliness", trust_env=False).is_success
    return False


def test_the_real_litellm_closes_each_connection_once_its_pod_is_told_to_end(litellm: str, ends: Path) -> None:
    with httpx.Client(base_url=litellm, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as client:
        kept = [client.get(path).headers.get("connection") for path in PATHS]
        ends.touch()
        closed = [client.get(path).headers.get("connection") for path in (*PATHS, *PATHS)]
    assert kept == [None] * 3
    assert closed == ["close"] * 6


def test_the_real_litellm_says_so_with_an_answer_that_was_asked_for_before_that(
    litellm: str, ends: Path, backend: Backend
) -> None:
    with asking(litellm, stream=False) as connection:
        assert backend.asked.wait(60)
        ends.touch()
        backend.last_word.set()
        answer = connection.getresponse()
        assert json.loads(answer.read())["choices"][0]["message"]["content"] == "one"
        assert answer.getheader("connection") == "close"


def test_the_real_litellm_keeps_the_connection_of_a_stream_that_began_before_that_for_one_answer_more(
    litellm: str, ends: Path, backend: Backend
) -> None:
    with asking(litellm, stream=True) as connection:
        ends_meanwhile(connection, ends.touch, backend)
        ask(connection, stream=True)
        answer = connection.getresponse()
        assert answer.read().rstrip().endswith(b"data: [DONE]")
        assert answer.getheader("connection") == "close"


def test_the_real_litellm_answers_on_each_connection_until_it_lay_idle_after_it_was_told_to_stop(
    server: Server, folder: Path, ends: Path, backend: Backend
) -> None:
    address = server.address

    def stop() -> None:
        ends.touch()
        server.process.terminate()
        deadline = time.monotonic() + 30
        while alive(address):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    with connected(address) as idle, connected(address) as new, asking(address, stream=True) as busy:
        get(idle)
        new.connect()
        ends_meanwhile(busy, stop, backend)
        assert [get(connection) for connection in (new, busy)] == ["close", "close"]
        assert idle.sock.recv(1) == b""
    server.process.wait(60)
    assert "Finished server process" in (folder / "log").read_text()


@contextmanager
def connected(litellm: str) -> Generator[HTTPConnection]:
    with closing(HTTPConnection(litellm.removeprefix("http://"), timeout=60)) as connection:
        yield connection


@contextmanager
def asking(litellm: str, *, stream: bool) -> Generator[HTTPConnection]:
    """A connection on which a chat request was sent."""
    with connected(litellm) as connection:
        ask(connection, stream=stream)
        yield connection


def ask(connection: HTTPConnection, *, stream: bool) -> None:
    body = {"model": MODEL, "stream": stream, "messages": [{"role": "user", "content": "Count."}]}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)


def ends_meanwhile(connection: HTTPConnection, told: Callable[[], None], backend: Backend) -> None:
    """Read a whole stream, after whose first line the server is told to end: its head says nothing of that."""
    answer = connection.getresponse()
    first = answer.readline()
    assert first.startswith(b"data: {"), first
    told()
    backend.last_word.set()
    assert answer.read().rstrip().endswith(b"data: [DONE]")
    assert answer.getheader("connection") is None


def get(connection: HTTPConnection) -> str | None:
    """Ask anything; what the answer says of the connection."""
    connection.request("GET", "/health/liveliness")
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (200, b'"I\'m alive!"')
    return answer.getheader("connection")


def test_what_an_adopted_one_has_in_these_variables_stays() -> None:
    theirs = [{"name": "PYTHONPATH", "value": "/theirs"}, {"name": "LITELLM_WORKER_STARTUP_HOOKS", "value": "a:b"}]
    assert [it["value"] for it in hook_env("/ours", theirs)] == [
        "/ours:/theirs",
        "llama_chat_connections:watch,a:b",
    ]


def test_one_that_reads_them_from_elsewhere_is_left_alone() -> None:
    assert (
        hook_env("/ours", [{"name": "PYTHONPATH", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]) == []
    )
