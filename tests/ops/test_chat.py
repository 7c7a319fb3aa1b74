"""The first reply, and the line to go on with."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from config.errors import UserError
from config.model import StackConfig
from local.paths import Instance
from local.stack_state import MASTER_KEY, secret
from ops import chat


class Gateway(ThreadingHTTPServer):
    """A gateway that gives one reply, and remembers who asked."""

    def __init__(self, reply: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.reply = reply
        self.keys: list[str | None] = []


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Gateway)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Authorization"])
        body = json.dumps({"choices": [{"message": {"content": self.server.reply}}]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the parent
        del format, args


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with Gateway(" Rome. ") as server:
        threading.Thread(target=server.serve_forever).start()
        yield server
        server.shutdown()


@pytest.fixture
def instance(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(chat, "PATIENCE_SECONDS", 0)
    port = gateway.server_address[1]
    return Instance(name="test", api_port=0, gateway_port=port, registry_port=0, hub_port=0)


def test_the_reply_is_asked_for_with_the_kept_key_and_through_no_proxy(
    gateway: Gateway, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert chat.first_reply(instance, "m") == "Rome."
    assert gateway.keys == [f"Bearer {secret(instance, MASTER_KEY)}"]


def test_an_empty_reply_is_none(gateway: Gateway, instance: Instance) -> None:
    gateway.reply = ""
    with pytest.raises(UserError, match="gives no reply of m"):
        chat.first_reply(instance, "m")


def test_the_line_to_go_on_with_names_the_secret_and_shows_no_key(instance: Instance, config: StackConfig) -> None:
    line = chat.curl_line(instance, "kubectl", config, "m")
    assert "get secret litellm" in line
    assert "--noproxy '*'" in line
    assert secret(instance, MASTER_KEY) not in line
