"""Layers are made once: each lies in the cache under a name that tells its content, and is put there whole."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from local.images.oci import Layer, write_layer
from local.paths import cache_dir

_UNFINISHED = "unfinished-"


def cached_layer(kind: str, key: str, build: Callable[[Path], None]) -> Layer:
    """The layer of all that `build` puts into the empty folder that it gets.

    `key` stands for everything that `build` depends on. The folder has an empty scratch folder `../scratch` beside it.
    """
    home = _images() / f"{kind}-{_short(key)}"
    if not home.is_dir():
        with _workshop() as workshop:
            # Another run may have made it while this one waited.
            if not home.is_dir():
                _make(build, workshop).rename(home)
    return Layer(path=home / "layer.tar", digest=(home / "digest").read_text())


def files_layer(files: Mapping[str, bytes | Path]) -> Layer:
    """A layer of these files (absolute path in the image -> content), each readable and runnable by anybody."""
    contents = {path: source if isinstance(source, bytes) else source.read_bytes() for path, source in files.items()}
    key = "\n".join(f"{path} {hashlib.sha256(contents[path]).hexdigest()}" for path in sorted(contents))

    def build(root: Path) -> None:
        for path, content in contents.items():
            write_file(root, path, content)

    return cached_layer("files", key, build)


def write_file(root: Path, path: str, content: bytes) -> None:
    """Put a file at the absolute `path` of the image whose files lie below `root`, runnable by anybody."""
    target = root / path.removeprefix("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    target.chmod(0o755)


def _make(build: Callable[[Path], None], workshop: Path) -> Path:
    root, done = workshop / "root", workshop / "done"
    for folder in (root, done, workshop / "scratch"):
        folder.mkdir()
    build(root)
    (done / "digest").write_text(write_layer(root, done / "layer.tar"))
    return done


@contextmanager
def _workshop() -> Generator[Path]:
    """A temporary folder beside the finished layers, one run at a time."""
    images = _images()
    images.mkdir(parents=True, exist_ok=True)
    with (images / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Whoever holds the lock is alone: these are of a run that was killed.
        for left in images.glob(f"{_UNFINISHED}*"):
            shutil.rmtree(left)
        with TemporaryDirectory(prefix=_UNFINISHED, dir=images) as workshop:
            yield Path(workshop)


def _images() -> Path:
    return cache_dir() / "images"


def _short(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:20]
