"""A hub on a free port of this machine's loopback."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from local.hub.server import HubServer


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[str]:
    """The hub's URL; its repositories lie below `tmp_path`."""
    with HubServer(tmp_path, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.url
        server.shutdown()
        thread.join()
