"""What is built once: each result in a folder named by all that decides it, put in place whole."""

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from config.errors import UserError
from local.console import say
from local.paths import cache_dir


class Recipe(Protocol):
    """How one folder of commands is made."""

    @property
    def name(self) -> str:
        """Its folder's name, before the key."""
        ...

    @property
    def commands(self) -> tuple[str, ...]:
        """The files that it must make."""
        ...

    def ingredients(self) -> Iterable[bytes]:
        """All that decides the result: sources, versions, flags."""
        ...

    def require(self) -> None:
        """Raise UserError where something that the build needs is absent from this machine."""
        ...

    def build(self, work: Path, out: Path, log: Path) -> None:
        """Make the commands in `out`, with `work` as an empty scratch folder."""
        ...


def folder(recipe: Recipe) -> Path:
    """Where its commands lie, once they are built."""
    digest = hashlib.sha256()
    for ingredient in (f"{platform.system()} {platform.machine()}".encode(), *recipe.ingredients()):
        # Each with its length: two lists of ingredients never read alike.
        digest.update(b"%d:" % len(ingredient) + ingredient)
    return cache_dir() / "tools" / f"{recipe.name}-{digest.hexdigest()[:16]}"


def make(recipe: Recipe) -> Path:
    """Build what is not there yet; return its folder."""
    final = folder(recipe)
    if not final.is_dir():
        with building_lock() as tools:
            # Another run may have built it while this one waited.
            if not final.is_dir():
                _build(recipe, final, tools)
    return final


@contextmanager
def building_lock() -> Generator[Path]:
    """One build at a time, of all that run on this machine; yields the folder of built tools."""
    tools = cache_dir() / "tools"
    tools.mkdir(parents=True, exist_ok=True)
    with (tools / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is building tools: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield tools


def _build(recipe: Recipe, final: Path, tools: Path) -> None:
    for leftover in tools.glob(".building-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    log = cache_dir() / "logs" / f"{recipe.name}.log"
    log.unlink(missing_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".building-", dir=tools))
    try:
        work, out = scratch / "work", scratch / "out"
        work.mkdir()
        out.mkdir()
        recipe.build(work, out, log)
        for command in recipe.commands:
            _settle(out / command, log)
        out.rename(final)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _settle(command: Path, log: Path) -> None:
    """On disk before it is taken for whole."""
    if not command.is_file():
        raise UserError(f"The build made no {command.name}: read {log}.")
    command.chmod(0o755)
    with command.open("rb") as written:
        os.fsync(written.fileno())


def link(recipe: Recipe) -> None:
    """Name the newest in `<cache>/bin`, one folder that people can put on their PATH."""
    final, names = folder(recipe), cache_dir() / "bin"
    names.mkdir(parents=True, exist_ok=True)
    for command in recipe.commands:
        name, target = names / command, final / command
        if not name.is_symlink() or name.readlink() != target:
            with tempfile.TemporaryDirectory(prefix=".linking-", dir=names) as scratch:
                temporary = Path(scratch) / command
                temporary.symlink_to(target)
                temporary.replace(name)
