"""What the local stack keeps, and what it drops with a lost cluster."""

from pathlib import Path

import pytest

from config.errors import UserError
from local.bring_up import forget_lost, sole_user
from local.paths import INSTANCES, Instance
from local.stack_state import PASSPHRASE, pulumi_environment, secret


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return INSTANCES["test"]


def test_a_kept_secret_is_made_once_for_its_owner_alone(instance: Instance) -> None:
    first = secret(instance, PASSPHRASE)
    assert secret(instance, PASSPHRASE) == first
    assert (instance.state / PASSPHRASE).stat().st_mode & 0o777 == 0o600
    assert instance.state.stat().st_mode & 0o777 == 0o700
    assert secret(instance, "another") != first


def test_a_secret_that_was_half_written_is_made_anew(instance: Instance) -> None:
    instance.state.mkdir(parents=True)
    (instance.state / f"{PASSPHRASE}.part").write_text("sk-ha")
    assert len(secret(instance, PASSPHRASE)) > 40


def test_pulumis_state_is_kept_for_the_same_cluster_and_dropped_for_another(instance: Instance) -> None:
    pulumi_environment(instance)
    stack = instance.state / "pulumi" / "stack.json"
    forget_lost(instance, "one")
    stack.write_text("{}")
    forget_lost(instance, "one")
    assert stack.exists()
    forget_lost(instance, "two")
    assert not stack.exists()
    forget_lost(instance, "two")


def test_a_second_command_is_told_to_wait(instance: Instance) -> None:
    with sole_user(instance), pytest.raises(UserError, match="wait"), sole_user(instance):
        pass
    with sole_user(instance):
        pass
