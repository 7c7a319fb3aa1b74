"""Whether LiteLLM, the real one, lets go of its clients' connections once it is told to end."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from components.connections import hook_env, hook_files
from components.scripts.llama_chat_connections import ENDS

ROOT = Path(__file__).parents[2]
MODEL = "GLM-4.7-Flash"
PATHS = ("/health/liveliness", "/v1/models", "/nowhere")
KEY = f"sk-{token_hex(32)}"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("litellm")


@pytest.fixture
def ends(folder: Path) -> Iterator[Path]:
    """The file that a pod's preStop hook makes."""
    yield folder / "ends"
    (folder / "ends").unlink()


@pytest.fixture(scope="module")
def last_word() -> threading.Event:
    """What the backend's streams wait for before they end."""
    return threading.Event()


@pytest.fixture(scope="module")
def backend(last_word: threading.Event) -> Iterator[str]:
    """The address of a backend whose streams begin at once."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.say({"role": "assistant", "content": "one"}, None)
            assert last_word.wait(60)
            self.say({}, "stop")
            self.wfile.write(b"data: [DONE]\n\n")

        def say(self, delta: dict[str, str], end: str | None) -> None:
            choice = {"index": 0, "delta": delta, "finish_reason": end}
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the parent
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        last_word.set()
        server.shutdown()


@pytest.fixture(scope="module")
def litellm(folder: Path, backend: str) -> Iterator[str]:
    """The address of a LiteLLM with one model that was started as our gateways are."""
    (script,) = hook_files().items()
    (folder / script[0]).write_text(script[1].replace(str(ENDS), str(folder / "ends")))
    route = {"model": f"openai/{MODEL}", "api_base": backend, "api_key": "none"}
    (folder / "config.yaml").write_text(json.dumps({"model_list": [{"model_name": MODEL, "litellm_params": route}]}))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uv = [os.environ.get("UV", "uv"), "run", "--frozen", "--isolated", "--only-group", "gateway"]
    hook = {it["name"]: it["value"] for it in hook_env(str(folder))}
    arguments = ["--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*uv, "--project", str(ROOT), "--python", sys.executable, "litellm", *arguments],
            cwd=folder,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": KEY, **hook},
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while not alive(address):
            assert server.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield address
    finally:
        server.terminate()
        server.wait(60)


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


def test_the_real_litellm_closes_the_connection_of_a_stream_that_began_before_that(
    litellm: str, ends: Path, last_word: threading.Event
) -> None:
    last_word.set()
    assert not closed_after_stream(litellm, lambda: None)
    last_word.clear()

    def told_to_end() -> None:
        ends.touch()
        last_word.set()

    assert closed_after_stream(litellm, told_to_end)


def closed_after_stream(litellm: str, meanwhile: Callable[[], None]) -> bool:
    """Whether the server closes the connection of a whole stream, after whose first line `meanwhile` is called."""
    connection = HTTPConnection(litellm.removeprefix("http://"), timeout=60)
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "Count."}]}
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    first = answer.readline()
    assert first.startswith(b"data: {"), first
    meanwhile()
    assert answer.read().rstrip().endswith(b"data: [DONE]")
    assert answer.getheader("connection") is None
    assert connection.sock
    connection.sock.settimeout(3)
    try:
        return connection.sock.recv(1) == b""
    except TimeoutError:
        return False
    finally:
        connection.close()


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
