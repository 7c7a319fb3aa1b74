"""The warm start, with a make that only sleeps."""

import os
from pathlib import Path

import pytest

from bench.warm import warm_up
from config.errors import UserError

MAKE = """#!/bin/sh
echo "$*" >> "$FAKE/calls"
case "$1" in
    down) sleep 1 ;;
    up) sleep 0.3; [ ! -e "$FAKE/broken" ] || { echo "no reply"; exit 2; } ;;
esac
"""


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "make").write_text(MAKE)
    (tmp_path / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


def test_the_time_is_that_of_make_up_alone(make: Path) -> None:
    assert 0.3 <= warm_up(make / "log") < 0.95
    assert (make / "calls").read_text().splitlines() == ["down STACK=local", "up STACK=local"]


def test_a_stack_that_gives_no_reply_is_an_error(make: Path) -> None:
    (make / "broken").touch()
    with pytest.raises(UserError, match=r"(?s)make up failed.*no reply"):
        warm_up(make / "log")
