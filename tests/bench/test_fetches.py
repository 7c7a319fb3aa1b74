"""Fetches that are measured, on a small file."""

from pathlib import Path

import pytest

from bench.fetches import measure_fetches
from config.errors import UserError

SIZE = 32 * 2**20


def test_both_ways_are_measured_and_a_killed_fetch_asks_for_almost_nothing_again(tmp_path: Path) -> None:
    measured = measure_fetches(tmp_path, 1, SIZE)
    assert len(measured.fetch) == len(measured.curl) == len(measured.again) == 1
    assert min(*measured.fetch, *measured.curl) > 0
    # what lay in the connection's buffers is lost: of so small a file a part that counts
    assert 0 <= measured.again[0] < 50


def test_without_curl_there_is_nothing_to_compare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install curl"):
        measure_fetches(tmp_path, 1, SIZE)
