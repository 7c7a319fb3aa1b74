"""Whether LiteLLM, the real one, lets go of its clients' connections once it is told to end."""

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

from components.connections import hook_env, hook_files
from components.scripts.llama_chat_connections import ENDS

ROOT = Path(__file__).parents[2]
PATHS = ("/health/liveliness", "/v1/models", "/nowhere")
KEY = f"sk-{token_hex(32)}"
pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def ends(tmp_path: Path) -> Path:
    """The file that a pod's preStop hook makes."""
    return tmp_path / "ends"


@pytest.fixture
def litellm(tmp_path: Path, ends: Path) -> Iterator[str]:
    """The address of a LiteLLM with no model that was started as our gateways are."""
    folder = tmp_path
    (script,) = hook_files().items()
    (folder / script[0]).write_text(script[1].replace(str(ENDS), str(ends)))
    (folder / "config.yaml").write_text("model_list: []\n")
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
