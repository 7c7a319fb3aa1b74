"""What went wrong is one line of the log a model, and all of them fit a termination message."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.scripts import fetch_model
from components.scripts.fetch_model import message
from tests.scripts.fetch.conftest import REPO, Pod


def test_the_verdict_on_two_hundred_models_fits_a_termination_message_and_the_log_has_all(
    unlocked: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"Model-{number}" for number in range(200)]
    for name in names:
        unlocked.add(name, quant="Q2_K")
    verdict = unlocked.run("fetch", deadline_seconds=60)
    assert 3000 < len(verdict.encode()) < 4096
    first, second, *_, last = verdict.split("; ")
    assert first.startswith(f"Model-0: {REPO} at main has no GGUF of quant Q2_K: ")
    assert second.startswith("Model-1: ")
    assert last == "the log tells all 200"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == names
    assert all(line.endswith("set filename to one of: tiny-Q4_K_M.gguf, tiny-Q8_0.gguf") for line in lines)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3000), min_size=1, max_size=60))
def test_a_message_is_whole_or_cut_to_its_room(failures: list[str]) -> None:
    told = message(failures)
    whole = "; ".join(failures)
    assert len(told.encode()) < 4096
    assert (told == whole) is (len(whole.encode()) < 4096)
    assert told == whole or told.endswith(f"; the log tells all {len(failures)}")
    assert told.startswith(failures[0][:20])


@pytest.mark.parametrize("size", [4095, 4096])
def test_one_long_failure_is_cut_only_where_it_must_be(size: int) -> None:
    failure = "é" + "x" * (size - 2)
    assert (message([failure]) == failure) is (size < 4096)


@pytest.mark.parametrize("count", [*range(2, 40), 200, 5000])
def test_many_long_failures_fit(count: int) -> None:
    told = message(["x" * 4000] * count)
    assert 3500 < len(told.encode()) < 4096
    assert told.count("…") == min(count, 33)


def test_a_broken_config_is_one_line(pod: Pod) -> None:
    del pod.model["repo"]
    assert "is not the record of models (KeyError('repo'))" in pod.run("fetch")
    pod.record["models"] = None
    assert "is not the record of models" in pod.run("fetch")
    command = pod.command("fetch")
    pod.config.unlink()
    assert fetch_model.main(command) == 1
    assert pod.log.read_text() == f"{pod.config}: No such file or directory: check the volume and who owns it"


def test_outside_a_pod_the_verdict_is_only_printed(unlocked: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    unlocked.model["quant"] = "Q2_K"
    assert fetch_model.main([*unlocked.command("fetch")[:-1], "/proc/none/termination-log"]) == 1
    assert "no GGUF of quant Q2_K" in capsys.readouterr().out


def test_a_volume_that_fills_up_is_told_of_each_model(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    pod.add("One")
    pod.add("Two")
    told = f"{pod.models}: No space left on device: raise storage.size_gib, or delete old models"
    assert pod.run("fetch", deadline_seconds=60) == f"One: {told}; Two: {told}"
    assert pod.files() == {}


def test_a_token_with_a_line_end_is_sent_without_it(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_let_me_in\n")
    assert pod.run("fetch") == ""


@pytest.mark.parametrize("token", ["hf_let me_in", "hf_let\nme_in", "hf_“let_me_in”"])
def test_a_token_that_can_be_no_header_is_refused_and_never_shown(
    pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], token: str
) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    verdict = pod.run("fetch")
    assert verdict == "the hub's token can be no HTTP header: write the Secret of hub.token_secret anew"
    assert "hf_" not in capsys.readouterr().out + verdict


def test_a_pod_that_starts_again_writes_nothing(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pod.run("link") == ""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("model_files.write_whole", "model_space.write_whole", "model_volume.write_whole"):
        monkeypatch.setattr(name, full)
    monkeypatch.setattr("pathlib.Path.symlink_to", full)
    assert pod.run("link") == ""
