"""In which order gateway and LibreChat change: no user is shown a name that nobody routes."""

import runpy

import pytest

from config import program
from tests.components.adopted import adopting
from tests.components.manifests import ROOT
from tests.components.recorder import Recorder, record

REACHED = {"phase": "done", "phase_since": "2026-11-24T10:00:00Z"}


def registered(monkeypatch: pytest.MonkeyPatch, phase: str) -> Recorder:
    monkeypatch.setattr(program, "load_pulumi", lambda: adopting(phase))
    return record(lambda: runpy.run_path(str(ROOT / "__main__.py")), REACHED)


@pytest.mark.parametrize("phase", ["cutover", "frontend", "done"])
def test_a_name_of_ours_is_listed_once_it_is_routed(monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    recorder = registered(monkeypatch, phase)
    (listed,) = [it for it in recorder.all("ConfigMapPatch") if it.name.startswith("frontend")]
    (rolled,) = recorder.all("Job", "llm-gateway-rollout")
    assert listed.after == [rolled.name]


@pytest.mark.parametrize("phase", ["parallel", "test"])
def test_going_back_a_name_of_ours_is_routed_until_it_is_no_longer_listed(
    monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    recorder = registered(monkeypatch, phase)
    first = "gateway-routes" if phase == "parallel" else "llm-gateway-smoke"
    (changed,) = [it for it in (*recorder.all("Job"), *recorder.all("ConfigMapPatch")) if it.name.startswith(first)]
    (rolled,) = recorder.all("Job", "librechat-rollout")
    assert {"frontend-routes", rolled.name} <= set(changed.after)
    # where Pulumi's own wait for a LibreChat that does not get ready would fail
    assert ("frontend-deployment" in {*changed.after, *rolled.after}) == (phase == "test")
    (listed,) = [it for it in recorder.all("ConfigMapPatch") if it.name.startswith("frontend")]
    assert not [name for name in listed.after if name.startswith("gateway")]


def test_the_way_back_to_the_first_phase_waits_for_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = registered(monkeypatch, "parallel")
    ours = [it for it in recorder.registered if it.name.startswith(("gateway", "frontend", "llm-gateway"))]
    assert len(ours) > 5
    assert [it.name for it in ours if any(name.startswith("llama-") for name in it.after)] == []
