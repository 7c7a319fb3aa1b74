"""What a rollback asks of the cluster before and after."""

import json
from pathlib import Path
from typing import Any

import pytest

from config.errors import UserError
from config.lock import lock_text
from config.model import StackConfig
from ops import restored_checks
from ops.kube import Kube
from ops.restored_checks import look_first, smoke_there
from ops.rollback import Restored
from tests.locks import lock_of
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, adopting, adopting_values

KUBE = Kube(context="homelab", namespace="ai")


@pytest.fixture
def restored(tmp_path: Path, values: dict[str, Any]) -> Restored:
    """A program of an older commit, whose Python only notes what it is asked to run."""
    program, file = tmp_path / "program", tmp_path / "Pulumi.prod.yaml"
    # what the lock of these tests would want more of
    del values["startup_seconds"], values["statics"][1]["resources"]
    (program / "ops").mkdir(parents=True)
    python = program / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" > asked\necho "$VIRTUAL_ENV" >> asked\nexit "${VERDICT:-0}"\n')
    python.chmod(0o755)
    file.write_text(json.dumps({"config": {f"llama-chat:{key}": value for key, value in values.items()}}))
    return Restored(stack="prod", program=program, file=file, variables={})


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[StackConfig]:
    seen: list[StackConfig] = []

    def look(config: StackConfig, _kube: Kube, _stack: str) -> None:
        seen.append(config)

    monkeypatch.setattr(restored_checks, "preflight", look)
    return seen


def test_the_cluster_is_looked_at_with_the_old_config_and_the_old_lock(
    restored: Restored, looked_at: list[StackConfig], config: StackConfig
) -> None:
    (restored.program / "models.lock.yaml").write_text(lock_text(lock_of(config)))
    look_first(KUBE, restored)
    assert [seen.exposed_names for seen in looked_at] == [config.exposed_names]
    assert set(looked_at[0].lock.models) == set(lock_of(config).models)


def test_what_was_adopted_is_read_where_the_old_commit_has_it(restored: Restored, looked_at: list[StackConfig]) -> None:
    folder = restored.program / "legacy" / "prod"
    folder.mkdir(parents=True)
    for name, text in {
        "litellm.yaml": LITELLM,
        "librechat.yaml": LIBRECHAT,
        "gateway.yaml": json.dumps(GATEWAY),
        "frontend.yaml": json.dumps(FRONTEND),
    }.items():
        (folder / name).write_text(text)
    config = adopting()
    values = adopting_values()
    del values["startup_seconds"], values["statics"][1]["resources"]
    restored.file.write_text(json.dumps({"config": {f"llama-chat:{key}": value for key, value in values.items()}}))
    (restored.program / "models.lock.yaml").write_text(lock_text(lock_of(config)))
    look_first(KUBE, restored)
    assert [seen.adopted.litellm for seen in looked_at] == [LITELLM]


def test_an_old_config_that_todays_checkout_refuses_is_told_and_stops_nothing(
    restored: Restored, looked_at: list[StackConfig], capfd: pytest.CaptureFixture[str]
) -> None:
    restored.file.write_text(json.dumps({"config": {"llama-chat:of_another_age": 1}}))
    look_first(KUBE, restored)
    assert looked_at == []
    told = capfd.readouterr().err
    assert told.startswith("not looked at the cluster first: this checkout does not take that config: llama-chat:")
    assert "llama-chat:of_another_age: (hidden): is not a key here" in told


def test_the_old_commits_own_smoke_tests_are_run_with_its_own_python(
    restored: Restored, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    smoke_there(restored)
    assert "that commit has no `make smoke`" in capfd.readouterr().err
    assert not (restored.program / "asked").exists()
    (restored.program / "ops" / "smoke.py").touch()
    monkeypatch.setenv("VIRTUAL_ENV", "today's")
    smoke_there(restored)
    asked, environment = (restored.program / "asked").read_text().splitlines()
    assert asked == f"-m ops smoke --stack prod --config-file {restored.file}"
    assert environment == ""
    monkeypatch.setenv("VERDICT", "1")
    with pytest.raises(UserError, match="a smoke test fails"):
        smoke_there(restored)
