"""The command: one table, whatever it says."""

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

import bench.__main__ as command
from bench.fetches import Fetches
from bench.previews import TITLES, Previews
from config.errors import UserError

SLOW = {"empty": 1.0, "bare": 2.0, "prod": 2.1, "few": 2.0, "many": 3.0}


@pytest.fixture(autouse=True)
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(_instance: object, folder: Path, runs: int) -> Previews:
        assert folder.is_dir()
        return Previews(
            seconds={name: [SLOW[name]] * runs for name in TITLES}, peak_mib={name: [100.0] * runs for name in TITLES}
        )

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(command, "measure", measure)
    fetched = Fetches(fetch=[1.0] * 5, curl=[1.1] * 5, again=[1.5] * 5)

    def fetches(_folder: Path, _runs: int) -> Fetches:
        return fetched

    monkeypatch.setattr(command, "measure_fetches", fetches)


def verdicts(printed: str) -> list[tuple[str, str, str]]:
    cells = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines() if line.startswith("|")]
    return [(row[1], row[2], row[7]) for row in cells[2:] if row[6]]


def test_a_missed_aim_is_shown_and_fails_nothing(tmp_path: Path) -> None:
    file = tmp_path / "bench.md"
    result = CliRunner().invoke(command.app, ["--runs", "7", "--warm-runs", "0", "--markdown", str(file)])
    assert result.exit_code == 0
    assert verdicts(result.stdout) == [
        ("prod : an empty program", "7", "met"),
        ("prod : the same objects, none of our layers", "7", "met"),
        ("prod with 500 pool models : prod with 5 pool models", "7", "missed"),
        ("fetch : curl and sha256sum", "5", "met"),
        ("sent again after a kill at half way", "5", "missed"),
    ]
    assert file.read_text() == result.stdout
    assert f"- machine: {os.cpu_count()} cores" in result.stdout


def test_the_warm_start_is_measured_as_often_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    took = [200.0, 170.0]

    def takes(_log: Path) -> float:
        return took.pop()

    monkeypatch.setattr(command, "warm_up", takes)
    result = CliRunner().invoke(command.app, ["--warm-runs", "2"])
    assert verdicts(result.stdout)[-1] == ("make up after make down", "2", "missed")


def test_a_warm_start_that_fails_does_not_take_the_rest_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_log: Path) -> float:
        raise UserError("make up failed")

    monkeypatch.setattr(command, "warm_up", fails)
    result = CliRunner().invoke(command.app, [])
    assert str(result.exception) == "make up failed"
    assert "prod : an empty program" in result.stdout
    assert "make up after make down" not in result.stdout


def test_fewer_than_five_runs_are_no_median() -> None:
    assert CliRunner().invoke(command.app, ["--runs", "4"]).exit_code == 2
