"""Whether LiteLLM, the real one, ends each connection with its answer."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import httpx
import pytest

from components.connections import hook_env

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "components" / "scripts"
KEY = f"sk-{token_hex(32)}"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a LiteLLM with no model that was started as our gateways are."""
    folder = tmp_path_factory.mktemp("litellm")
    (folder / "config.yaml").write_text("model_list: []\n")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    uv = [os.environ.get("UV", "uv"), "run", "--frozen", "--isolated", "--only-group", "gateway"]
    hook = {it["name"]: it["value"] for it in hook_env(str(SCRIPTS))}
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


@pytest.mark.parametrize("path", ["/health/liveliness", "/v1/models", "/nowhere"])
def test_each_answer_of_the_real_litellm_closes_its_connection(litellm: str, path: str) -> None:
    with httpx.Client(base_url=litellm, trust_env=False, headers={"Authorization": f"Bearer {KEY}"}) as client:
        answers = [client.get(path) for _ in range(2)]
    assert [it.headers["connection"] for it in answers] == ["close", "close"]


def test_what_an_adopted_one_has_in_these_variables_stays() -> None:
    theirs = [{"name": "PYTHONPATH", "value": "/theirs"}, {"name": "LITELLM_WORKER_STARTUP_HOOKS", "value": "a:b"}]
    assert [it["value"] for it in hook_env("/ours", theirs)] == [
        "/ours:/theirs",
        "llama_chat_connections:close_each,a:b",
    ]


def test_one_that_reads_them_from_elsewhere_is_left_alone() -> None:
    assert (
        hook_env("/ours", [{"name": "PYTHONPATH", "valueFrom": {"configMapKeyRef": {"name": "x", "key": "y"}}}]) == []
    )
