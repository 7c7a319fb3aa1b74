"""Small servers on this machine's loopback that the pods' scripts are tried against."""

import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from local.hub.server import HubServer

sys.path.append(str(Path(__file__).parents[2] / "components" / "scripts"))  # in pods they lie side by side, too

Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, str], bytes | Iterator[bytes]]]
"""What a server says: path, headers (names in lower case) and body in; status, headers and body, or its parts, out."""


@contextmanager
def _running(server: ThreadingHTTPServer) -> Generator[str]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def hub_root(tmp_path: Path) -> Path:
    root = tmp_path / "hub"
    root.mkdir()
    return root


@pytest.fixture
def hub(hub_root: Path) -> Iterator[str]:
    """The URL of a hub of the repositories below `hub_root`."""
    with _running(HubServer(hub_root, "127.0.0.1", 0)) as url:
        yield url


def _serve() -> Iterator[Callable[[Answer], str]]:
    """Starts a server that answers as the given function says; returns its URL."""
    with ExitStack() as servers:
        yield lambda answer: servers.enter_context(_running(_server(answer)))


serve = pytest.fixture(_serve, name="serve")
serve_all = pytest.fixture(_serve, scope="module", name="serve_all")
"""The same, for all tests of a file."""


def _server(answer: Answer) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, replied, content = answer(self.path, headers, body)
            self.send_response(status)
            length = {"Content-Length": str(len(content))} if isinstance(content, bytes) else {}
            for name, value in {**length, **replied}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # a client that has heard enough
                for part in [content] if isinstance(content, bytes) else content:
                    self.wfile.write(part)

        do_POST = do_GET  # noqa: N815 - the base class's name

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server
