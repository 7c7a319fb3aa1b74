"""The fetch script in real pods against the local hub: killed, cut, refused, lied to, and without room."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from local.machine import layout, process
from tests.e2e.fetching import OWNER, Fetching
from tests.e2e.line import ROOT, Line

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
SIZE = 40 * 2**20
TOKEN = "hf_fetch0123456789"  # noqa: S105 - it opens nothing but a repository of these tests
OTHER_PORT = 8091


@pytest.fixture(scope="module")
def fetching(line: Line) -> Iterator[Fetching]:
    """The cluster without the stack."""
    started = line.ops("cluster")
    assert started.returncode == 0, started.stdout
    made = Fetching(line)
    yield made
    made.close()


def kill(config: str) -> None:
    """SIGKILL for the process of a pod that reads this config; no other pod of any cluster does."""
    found: list[int] = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it ended while we looked
            if config.encode() in entry.read_bytes().split(b"\0"):
                found.append(int(entry.parent.name))
    (pid,) = found
    os.kill(pid, signal.SIGKILL)


def test_a_kill_9_half_way_costs_next_to_nothing_of_what_came(fetching: Fetching) -> None:
    model = fetching.publish("killed", SIZE, faults={"bytes_per_second": SIZE // 4})
    part = Path("parts") / f"{model['files'][0]['sha256']}.part"
    fetching.start("killed", model)
    deadline = time.monotonic() + 60
    while not _size(fetching, part) > SIZE / 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    kill("/catalog/killed-0.json")
    killed = fetching.ended("killed")
    assert (killed.code, killed.message) == (128 + signal.SIGKILL, "")
    assert not fetching.on_volume(model).exists()
    fetching.configure("killed")
    again = fetching.run("killed-again", model)
    assert (again.code, again.message) == (0, "")
    assert fetching.on_volume(model).read_bytes() == fetching.file("killed").read_bytes()
    first, second = fetching.starts("killed")
    sent = int(next(line for line in fetching.asked("killed") if "bytes sent" in line).split()[1])
    assert first == 0
    assert SIZE / 2 < second <= sent
    assert sent - second < SIZE / 100


def _size(fetching: Fetching, part: Path) -> int:
    try:
        return (fetching.volume() / part).stat().st_size
    except (FileNotFoundError, ValueError):  # the volume is made for its first pod
        return 0


def test_a_hub_that_cuts_every_10_mb_is_asked_on_at_once(fetching: Fetching) -> None:
    model = fetching.publish("cut", SIZE, faults={"cut_bytes": 10_000_000})
    ended = fetching.run("cut", model)
    assert (ended.code, ended.message) == (0, "")
    assert fetching.starts("cut") == [0, 10_000_000, 20_000_000, 30_000_000, 40_000_000]
    assert "hung up after 10000000 of 41943040 bytes of cut-F32.gguf: again in 0 s" in ended.log
    assert fetching.on_volume(model).read_bytes() == fetching.file("cut").read_bytes()


@pytest.mark.parametrize(
    ("name", "faults", "told"),
    [
        ("busy", {"status": 429, "times": 2, "retry_after": "2"}, "HTTP 429, which asks to wait 2 s: again in 2 s"),
        ("away", {"status": 503, "every": 2}, "HTTP 503: again in 1 s"),
    ],
)
def test_a_hub_that_answers_429_or_503_is_waited_for(
    fetching: Fetching, name: str, faults: dict[str, Any], told: str
) -> None:
    model = fetching.publish(name, SIZE, faults=faults)
    ended = fetching.run(name, model)
    assert (ended.code, ended.message) == (0, "")
    assert told in ended.log
    assert len(fetching.starts(name)) == 1 + faults.get("times", 1)
    assert fetching.on_volume(model).read_bytes() == fetching.file(name).read_bytes()


@pytest.mark.parametrize(("name", "extra"), [("short", -1_000_000), ("long", 1_000_000)])
def test_a_content_length_that_lies_changes_nothing(fetching: Fetching, name: str, extra: int) -> None:
    model = fetching.publish(name, SIZE, faults={"extra_length": extra})
    ended = fetching.run(name, model)
    assert (ended.code, ended.message) == (0, "")
    assert fetching.starts(name) == [0]
    assert fetching.on_volume(model).read_bytes() == fetching.file(name).read_bytes()


def test_one_wrong_byte_is_noticed_and_the_file_fetched_anew(fetching: Fetching) -> None:
    model = fetching.publish("spoiled", SIZE, faults={"wrong_byte": SIZE // 3, "times": 1})
    ended = fetching.run("spoiled", model)
    assert (ended.code, ended.message) == (0, "")
    assert fetching.starts("spoiled") == [0, 0]
    assert fetching.on_volume(model).read_bytes() == fetching.file("spoiled").read_bytes()


def test_a_byte_that_stays_wrong_is_the_pods_termination_message(fetching: Fetching) -> None:
    model = fetching.publish("wrong", SIZE, faults={"wrong_byte": SIZE // 3})
    ended = fetching.run("wrong", model)
    assert ended.code == 1
    assert ended.message.startswith("wrong: wrong-F32.gguf came with the SHA-256 ")
    assert ended.message.endswith(
        f" instead of {model['files'][0]['sha256']} and was thrown away, twice: "
        "check hub.endpoint and what lies on the way to it, then run it again"
    )
    assert not fetching.on_volume(model).exists()


@pytest.fixture
def token(fetching: Fetching) -> Iterator[None]:
    """The hub's token in its Secret, which every pod reads where it is."""
    secret = {"kind": "Secret", "metadata": {"name": "hf-token"}, "stringData": {"token": TOKEN}}
    fetching.create({"apiVersion": "v1", **secret})
    yield
    fetching.kubectl("delete", "secret", "hf-token")


@pytest.fixture
def elsewhere(line: Line, fetching: Fetching) -> Iterator[Path]:
    """Another host that has the repository `moved` as well; what it is asked, as its log has it."""
    model = fetching.publish("moved", SIZE, faults={"redirect": f"http://{layout.CONTROL}:{OTHER_PORT}"})
    root, log = line.instance.state / "elsewhere", line.scratch / "elsewhere.log"
    (root / model["repo"]).mkdir(parents=True)
    (root / model["repo"] / fetching.file("moved").name).hardlink_to(fetching.file("moved"))
    init = process.find(line.instance.state)
    assert init
    inside = ["nsenter", f"--target={init.pid}", "--mount", "--net", "--", "env", f"PYTHONPATH={ROOT}"]
    serve = [sys.executable, "-m", "local.hub", "--root", str(root), "--host", layout.CONTROL]
    command = [*inside, *serve, "--port", str(OTHER_PORT)]
    with log.open("w") as output, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output) as server:
        assert server.stdout
        assert b"hub of" in server.stdout.readline(), log.read_text()
        yield log
        server.terminate()


@pytest.mark.usefixtures("token")
def test_another_host_that_the_hub_redirects_to_sees_no_token(fetching: Fetching, elsewhere: Path) -> None:
    model = fetching.locked("moved")
    ended = fetching.run("moved", model)
    assert (ended.code, ended.message) == (0, "")
    assert fetching.on_volume(model).read_bytes() == fetching.file("moved").read_bytes()
    path = f"/{model['repo']}/resolve/{model['commit']}/moved-F32.gguf"
    assert fetching.asked("moved") == [f'"GET {path} HTTP/1.1" 302 bytes=0- with a token']
    assert fetching.asked("moved", elsewhere)[0] == f'"GET {path} HTTP/1.1" 206 bytes=0- without a token'


def gate() -> dict[str, Any]:
    return {"gated": True, "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}


def test_a_gated_repository_without_a_token_is_told_in_one_line(fetching: Fetching) -> None:
    ended = fetching.run("gated", fetching.publish("gated", SIZE, **gate()))
    assert ended.code == 1
    assert ended.message == (
        f"gated: the hub wants a token for gated {OWNER}/gated-GGUF (HTTP 401): ask for access at "
        f"http://hub.llama-chat.internal:8090/{OWNER}/gated-GGUF and name a Secret with a token in hub.token_secret"
    )


@pytest.mark.usefixtures("token")
def test_a_gated_repository_opens_to_the_token_of_the_secret(fetching: Fetching) -> None:
    model = fetching.publish("opened", SIZE, **gate())
    ended = fetching.run("opened", model)
    assert (ended.code, ended.message) == (0, "")
    assert TOKEN not in ended.log
    assert fetching.on_volume(model).read_bytes() == fetching.file("opened").read_bytes()


def in_memory(mebibytes: int) -> dict[str, Any]:
    return {"emptyDir": {"medium": "Memory", "sizeLimit": f"{mebibytes}Mi"}}


def test_a_full_volume_is_told_before_the_first_byte(fetching: Fetching) -> None:
    ended = fetching.run("large", fetching.publish("large", SIZE), volume=in_memory(96))
    assert ended.code == 1
    assert ended.message == (
        "large: 41.9 MB are to come and 67.1 MB must stay free, and the volume has 0.10 GB free and 0.0 MB that "
        "nothing needs: raise storage.size_gib, or delete old models below /models/files"
    )
    assert fetching.asked("large") == []


def test_on_a_full_volume_what_left_the_catalog_long_ago_makes_room(fetching: Fetching) -> None:
    models = [fetching.publish(name, SIZE // 4) for name in ("first", "second", "third", "fourth")]
    ended = fetching.run("catalogs", *models, action="link", volume=in_memory(100))
    assert (ended.code, ended.message) == (0, "")
    gone = [line for line in ended.log.splitlines() if "makes room" in line]
    oldest = f"/models/files/{models[0]['repo']}/{models[0]['commit']}/first-F32.gguf"
    assert gone == [f"fourth: {oldest} makes room: 10.5 MB that no catalog has needed lately"]
