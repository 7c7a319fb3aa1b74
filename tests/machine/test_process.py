import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.machine import process


@contextmanager
def pretender(folder: Path, state: Path) -> Generator[subprocess.Popen[bytes]]:
    """A shell whose command line is that of an init: `-m` turns job control on, the module's name is its script."""
    (folder / process.MODULE).write_text("read line")
    argv = process.command("python", state, "abc")
    with subprocess.Popen(argv, executable="/bin/sh", cwd=folder, stdin=subprocess.PIPE) as shell:
        try:
            yield shell
        finally:
            shell.kill()


def test_kill_ends_the_init_of_this_state_alone(tmp_path: Path) -> None:
    with pretender(tmp_path, tmp_path / "mine") as mine, pretender(tmp_path, tmp_path / "theirs") as theirs:
        assert process.kill(tmp_path / "mine", 5)
        assert mine.wait(5) == -9
        assert theirs.poll() is None


def test_kill_is_content_where_nothing_runs(tmp_path: Path) -> None:
    assert process.kill(tmp_path / "nothing", 5)


def test_a_process_outside_a_namespace_of_its_own_is_no_init(tmp_path: Path) -> None:
    with pretender(tmp_path, tmp_path / "state"):
        assert process.find(tmp_path / "state") is None


def test_a_zombie_is_no_init(tmp_path: Path) -> None:
    with pretender(tmp_path, tmp_path / "state") as shell:
        shell.kill()
        deadline = time.monotonic() + 5
        while process.kill(tmp_path / "state", 0.1) is False and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.kill(tmp_path / "state", 5)


@pytest.mark.cluster
def test_the_first_process_of_a_namespace_is_found_with_its_digest(tmp_path: Path) -> None:
    (tmp_path / process.MODULE).write_text("read line")
    argv = ["unshare", "--pid", "--fork", "--kill-child", "sh", *process.command("", tmp_path / "state", "abc")[1:]]
    with subprocess.Popen(argv, cwd=tmp_path, stdin=subprocess.PIPE) as shell:
        deadline = time.monotonic() + 5
        while (found := process.find(tmp_path / "state")) is None and time.monotonic() < deadline:
            time.sleep(0.05)
        assert found is not None
        assert found.digest == "abc"
        assert process.kill(tmp_path / "state", 5)
        assert shell.wait(5) != 0
    assert process.find(tmp_path / "state") is None
