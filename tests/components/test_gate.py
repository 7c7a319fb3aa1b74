"""The gate in the program, and what the stack's outputs say once a phase stands."""

import runpy
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
import pytest

from config import gate, program
from config.model import StackConfig
from tests.components.adopted import adopting
from tests.components.manifests import ROOT
from tests.components.recorder import Recorder, record
from tests.conftest import VALUES, stack_config

SINCE = "2026-01-24T10:00:00Z"


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the program exports, by name, as soon as it is known."""
    told: dict[str, Any] = {}

    def export(name: str, value: Any) -> None:  # noqa: ANN401 - as Pulumi's own
        pulumi.Output.from_input(value).apply(lambda known: told.update({name: known}))

    monkeypatch.setattr(pulumi, "export", export)
    return told


def run(monkeypatch: pytest.MonkeyPatch, config: StackConfig, outputs: dict[str, Any]) -> Recorder:
    monkeypatch.setattr(program, "load_pulumi", lambda: config)
    return record(lambda: runpy.run_path(str(ROOT / "__main__.py")), outputs)


def test_the_first_phase_is_told_with_the_time_at_which_it_was_reached(
    monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any]
) -> None:
    run(monkeypatch, adopting("parallel"), {})
    assert exported["phase"] == "parallel"
    assert datetime.now(UTC) - datetime.fromisoformat(exported["phase_since"]) < timedelta(minutes=5)


@pytest.mark.parametrize("phase", ["parallel", "done"])
def test_a_phase_that_stands_keeps_its_time(
    monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any], phase: str
) -> None:
    before = {"phase": phase, "phase_since": SINCE}
    run(monkeypatch, adopting(phase), before)
    assert {name: exported[name] for name in before} == before


def test_another_phase_has_another_time(monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any]) -> None:
    run(monkeypatch, adopting("test"), {"phase": "frontend", "phase_since": SINCE})
    assert exported["phase"] == "test"
    assert exported["phase_since"] > SINCE


def test_a_phase_too_far_is_refused_before_anything_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    registered: list[str] = []

    def new_resource(_: Recorder, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        registered.append(args.name)
        return "", {}

    monkeypatch.setattr(Recorder, "new_resource", new_resource)
    with pytest.raises(pulumi.RunError, match=r"^llama-chat:migration\.phase: cutover: this stack has reached par"):
        run(monkeypatch, adopting("cutover"), {"phase": "parallel", "phase_since": SINCE})
    assert registered == []


def test_the_outputs_wait_for_the_last_of_gateway_frontend_and_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    waited_for: list[str] = []

    def export_phase(_config: object, _reached: object, last: tuple[pulumi.Resource, ...]) -> None:
        waited_for.extend(it.pulumi_resource_name for it in last)

    monkeypatch.setattr(gate, "export_phase", export_phase)
    run(monkeypatch, adopting("done"), {"phase": "done", "phase_since": SINCE})
    assert [name.partition("-rollout-")[0] for name in waited_for] == [
        "llm-gateway",
        "gateway-legacy-vllm-general",
        "gateway-legacy-vllm-code",
        "frontend-routes",
        "frontend-deployment",
        "librechat",
    ]


def test_a_gateway_of_our_own_has_no_phase_and_begins_with_the_first_when_it_adopts(
    monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any]
) -> None:
    run(monkeypatch, stack_config(VALUES), {})
    assert sorted(exported) == ["gateway", "models"]
    with pytest.raises(pulumi.RunError, match="reached no phase yet: write parallel"):
        run(monkeypatch, adopting("test"), exported)


@pytest.mark.parametrize(
    ("phase", "renamed", "told"), [("frontend", False, False), ("done", True, True), ("cutover", True, False)]
)
def test_the_outputs_say_whether_legacy_names_are_listed_no_more(
    monkeypatch: pytest.MonkeyPatch, exported: dict[str, Any], phase: str, *, renamed: bool, told: bool
) -> None:
    run(monkeypatch, migrating(phase, renamed=renamed), {"phase": phase, "phase_since": SINCE})
    assert exported["renamed"] is told


def test_legacy_names_stay_routed_until_the_update_that_unlists_them_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    config = migrating("done", renamed=True, keep_aliases=False)
    before = {"phase": "done", "phase_since": SINCE}
    with pytest.raises(
        pulumi.RunError, match=r"keep_aliases: false: LibreChat still lists legacy names: bring renamed"
    ):
        run(monkeypatch, config, {**before, "renamed": False})
    run(monkeypatch, config, {**before, "renamed": True})
    # a program that knew no such output
    run(monkeypatch, config, before)


def migrating(phase: str, **changes: bool) -> StackConfig:
    config = adopting(phase)
    migration = config.migration.model_copy(update=changes)
    return config.model_copy(update={"migration": migration}).with_adopted(config.adopted)
