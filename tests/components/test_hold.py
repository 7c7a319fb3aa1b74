"""The stack's own outputs, read while Pulumi writes the state that has them."""

from types import SimpleNamespace

import pytest

from config import hold
from tests.components.recorder import record

HALF = "invocation of pulumi:pulumi:readStackOutputs returned an error: failed to load checkpoint: EOF"


def read(monkeypatch: pytest.MonkeyPatch, errors: list[str]) -> str:
    """The phase in the outputs, where reading them goes wrong as often as that before it goes well."""

    def invoke(_token: str, _inputs: object) -> SimpleNamespace:
        if errors:
            # as Pulumi hands the engine's errors on
            raise Exception(errors.pop(0))  # noqa: TRY002
        return SimpleNamespace(value={"outputs": {"phase": "test"}})

    told: list[str] = []
    monkeypatch.setattr(hold, "invoke", invoke)
    monkeypatch.setattr(hold, "WAITS", (0, 0))
    record(lambda: told.append(hold.previous_outputs()["phase"]))
    return told[0]


def test_a_state_that_is_half_written_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, [HALF, HALF]) == "test"


def test_one_that_stays_so_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="failed to load checkpoint"):
        read(monkeypatch, [HALF] * 3)


def test_another_failure_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = ["no such stack", "never asked again"]
    with pytest.raises(Exception, match="no such stack"):
        read(monkeypatch, errors)
    assert errors == ["never asked again"]
