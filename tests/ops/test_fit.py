"""The table that a reviewer reads above a preview."""

import pytest

from config.model import StackConfig
from ops.fit import print_fit
from tests.locks import lock_of


def rows(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_each_model_is_shown_with_what_it_takes_of_what_there_is(
    config: StackConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    print_fit(config.with_lock(lock_of(config)))
    printed = capsys.readouterr().out
    glm = next(row for row in rows(printed) if "GLM-4.7-Flash" in row)
    assert glm[2:4] == ["15.83", "8.00"]  # GiB of weights; 2 slots of 32768 tokens of 128 KiB
    assert "the largest 1 of 2, and the server" in printed
    assert [row for row in rows(printed) if "48" in row]


def test_a_model_that_nobody_knows_is_said_to_be_so(config: StackConfig, capsys: pytest.CaptureFixture[str]) -> None:
    print_fit(config)
    printed = capsys.readouterr().out
    assert printed.count("not known: make lock") == 4
