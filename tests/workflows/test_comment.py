"""One comment a stack on a pull request: made once, then written anew."""

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / ".github" / "comment.sh"
GH = """#!/bin/sh
# as gh does: lists the comment that is there, and remembers what it is told to write
printf '%s\\n' "$@" >> "$CALLS"
case "$*" in *--paginate*) [ -z "$FAILS" ] && printf '%s' "$THERE" || exit 1 ;; esac
"""


@pytest.fixture
def preview(tmp_path: Path) -> Path:
    (tmp_path / "gh").write_text(GH)
    (tmp_path / "gh").chmod(0o755)
    file = tmp_path / "preview.txt"
    file.write_text("Previewing update (prod)\n")
    return file


def comment(preview: Path, *, there: str = "", fails: str = "") -> tuple[int, str]:
    calls = preview.parent / "calls"
    path = f"{preview.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", SCRIPT, "prod", preview, "7"],
        env={**os.environ, "PATH": path, "CALLS": str(calls), "THERE": there, "FAILS": fails},
        check=False,
    )
    return done.returncode, calls.read_text()


def test_the_first_preview_makes_a_comment_under_its_hidden_mark(preview: Path) -> None:
    status, calls = comment(preview)
    assert status == 0
    assert "body=<!-- llama-chat preview of prod -->\n### Preview of prod\n~~~~~~\nPreviewing update (prod)" in calls
    assert "PATCH" not in calls


def test_the_next_one_takes_its_place(preview: Path) -> None:
    status, calls = comment(preview, there="41\n42\n")
    assert status == 0
    assert "PATCH\nrepos/{owner}/{repo}/issues/comments/41\n" in calls


def test_of_a_long_one_the_end_is_kept(preview: Path) -> None:
    preview.write_text("x" * 300_000 + "\nerror: the reason\n")
    status, calls = comment(preview)
    assert status == 0
    assert "error: the reason" in calls
    assert len(calls) < 65_536


def test_a_listing_that_fails_writes_nothing(preview: Path) -> None:
    status, calls = comment(preview, fails="yes")
    assert status != 0
    assert "body=" not in calls
