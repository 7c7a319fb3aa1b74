"""The program of an older commit: its files, and its own Python packages."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from config.errors import UserError
from local.uv import uv_command
from ops.history import Record
from ops.recorded import another_file

NOT_OURS = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT", "UV_PROJECT", "PYTHONPATH")
"""What would lead an older program to today's packages."""


@dataclass(frozen=True, kw_only=True)
class Checkout:
    """The git checkout that a stack is updated from."""

    folder: Path
    """The Pulumi project in it."""
    file: Path
    """The stack's file."""

    def has(self, commit: str) -> bool:
        """Whether this clone has the commit."""
        return self._git("cat-file", "-e", f"{commit}^{{commit}}").returncode == 0

    def require(self, commit: str) -> None:
        """UserError where this clone does not have the commit."""
        if self.has(commit):
            return
        if self._git("rev-parse", "--git-dir").returncode:
            raise UserError(f"{self.folder} is no git checkout: run this in a clone of the project's repository.")
        missing = f"Commit {commit} is not in this clone"
        if self._git("rev-parse", "--is-shallow-repository").stdout.strip() == "true":
            raise UserError(f"{missing}, which is a shallow one: run `git fetch --unshallow`, then this again.")
        raise UserError(
            f"{missing}: run `git fetch origin {commit}`, or fetch it from the clone it was made in, then this again."
        )

    def explains(self, record: Record) -> bool:
        """Whether a dirty record's stack file was another one than its commit's: that much of the dirt is recorded.

        UserError where this clone does not have the commit.
        """
        commit = record.commit or ""
        self.require(commit)
        with tempfile.TemporaryDirectory() as scratch:
            then = self._at(commit, self.file, Path(scratch))
            project = self._at(commit, self.folder / "Pulumi.yaml", Path(scratch))
            return then is not None and project is not None and another_file(record, then, project, self.file)

    def changed(self, *paths: Path) -> bool:
        """Whether files, or any file in folders, are not as they are committed; UserError outside of a checkout."""
        done = self._git("status", "--porcelain", "--untracked-files=all", "--", *map(str, paths))
        if done.returncode:
            raise UserError(f"git status failed, mend what it says: {done.stderr.strip()}")
        return bool(done.stdout)

    def committed(self, file: Path) -> str | None:
        """A file's text as it is committed; None where it is not."""
        with tempfile.TemporaryDirectory() as scratch:
            copy = self._at("HEAD", file, Path(scratch))
            return copy.read_text(encoding="utf-8") if copy else None

    def commit(self, message: str, *paths: Path) -> None:
        """Commit files and folders as they are now, and nothing else; UserError with git's complaint where it fails.

        On no branch nobody would find the commit again.
        """
        if self._git("symbolic-ref", "--quiet", "HEAD").returncode == 1:
            raise UserError("git's HEAD is detached: switch to a branch (`git switch <branch>`), then run this again.")
        names = [str(path.resolve()) for path in paths]
        for step in (["add"], ["commit", "--quiet", "--only", "--message", message]):
            done = self._git(*step, "--", *names)
            if done.returncode:
                self._git("reset", "--quiet", "--", *names)
                complaint = " ".join((done.stderr or done.stdout).split())
                raise UserError(f"git {step[0]} failed, mend what it says and run this again: {complaint}")

    @contextmanager
    def worktree(self, commit: str) -> Generator[Path]:
        """The Pulumi project's folder as the commit has it, in a worktree that is gone afterwards."""
        self.require(commit)
        place = Path(tempfile.mkdtemp(prefix="llama-chat-rollback-"))
        tree = place / "program"
        try:
            # this clone's hooks have no business in there
            made = self._git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(tree), commit)
            if made.returncode:
                raise UserError(f"git worktree add failed, mend what it says: {made.stderr.strip()}")
            yield tree / self._git("rev-parse", "--show-prefix").stdout.strip()
        finally:
            self._git("worktree", "remove", "--force", str(tree))
            shutil.rmtree(place, ignore_errors=True)

    def _at(self, commit: str, file: Path, scratch: Path) -> Path | None:
        """A copy of a file as the commit has it; None where it had none, or the file lies outside of the project."""
        folder, file = self.folder.resolve(), file.resolve()
        if not file.is_relative_to(folder):
            return None
        shown = self._git("show", f"{commit}:./{file.relative_to(folder)}")
        if shown.returncode:
            return None
        copy = scratch / file.name
        copy.write_text(shown.stdout, encoding="utf-8")
        return copy

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *arguments], cwd=self.folder, capture_output=True, text=True, check=False)


def install(program: Path, *, online: bool) -> None:
    """Install an older program's own locked packages beside it: of uv's cache alone, unless it may go online.

    UserError where one is not to be had.
    """
    command = [uv_command(), "sync", "--quiet", "--frozen", "--no-dev"]
    env = program_environment({"UV_OFFLINE": "0"} if online else {})
    done = subprocess.run(command, cwd=program, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        remedy = "look at what uv says" if online else "where there is a network, say ONLINE=1 (--online)"
        raise UserError(f"The packages of that commit's uv.lock cannot be installed: {remedy}: {done.stderr.strip()}")


def program_environment(more: Mapping[str, str]) -> dict[str, str]:
    """What an older program is run with: none of today's packages, and none that was not installed beforehand.

    Pulumi's Python host runs `uv sync` before each program. uv's cache has packages for the Python that is running.
    """
    kept = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    ours = {"UV_FROZEN": "1", "UV_OFFLINE": "1", "UV_NO_DEV": "1", "UV_PYTHON": sys.executable}
    return {**kept, **ours, **more}
