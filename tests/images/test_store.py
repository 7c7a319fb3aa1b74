import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from local.images.store import cached_layer, files_layer


def _names(tar: Path) -> list[str]:
    with tarfile.open(tar) as archive:
        return archive.getnames()


def test_a_layer_is_built_once(cache: Path) -> None:
    built: list[Path] = []

    def build(root: Path) -> None:
        built.append(root)
        (root / "file").write_text("content")

    first, second = cached_layer("kind", "key", build), cached_layer("kind", "key", build)
    assert first == second
    assert len(built) == 1
    assert _names(first.path) == ["file"]
    assert first.path.parent.parent == cache


def test_another_key_is_another_layer(cache: Path) -> None:
    layers = [cached_layer("kind", name, lambda root: (root / "file").touch()) for name in ("a", "b")]
    assert layers[0].path != layers[1].path
    assert len(list(cache.glob("kind-*"))) == 2


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def build(root: Path) -> None:
        (root / "half").touch()
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError, match="no space"):
        cached_layer("kind", "key", build)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_a_killed_build_is_swept_and_made_anew(cache: Path) -> None:
    code = """
import time
from pathlib import Path
from local.images.store import cached_layer

def build(root: Path) -> None:
    (root / "half").touch()
    print("half", flush=True)
    time.sleep(60)

cached_layer("kind", "key", build)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ})
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"half\n"
        process.send_signal(signal.SIGKILL)
    assert len(list(cache.glob("unfinished-*/root/half"))) == 1
    assert not list(cache.glob("kind-*"))

    started = time.monotonic()
    layer = cached_layer("kind", "key", lambda root: (root / "whole").touch())
    assert time.monotonic() - started < 10  # the dead run's lock went with it
    assert _names(layer.path) == ["whole"]
    assert not list(cache.glob("unfinished-*"))


@pytest.mark.usefixtures("cache")
def test_files_are_runnable_by_anybody_and_named_by_content(tmp_path: Path) -> None:
    (tmp_path / "server").write_bytes(b"program")
    layer = files_layer({"/app/server": tmp_path / "server", "/etc/note": b"note"})
    assert layer == files_layer({"/etc/note": b"note", "/app/server": b"program"})
    assert layer.digest != files_layer({"/app/server": b"program", "/etc/note": b"other"}).digest
    with tarfile.open(layer.path) as archive:
        server = archive.getmember("app/server")
        content = archive.extractfile(server)
        assert content is not None
        assert content.read() == b"program"
    assert server.mode == 0o755
