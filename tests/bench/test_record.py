"""The bare program registers what the real one does."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.record import Registration, record, to_json
from bench.stacks import PROGRAM, ROOT

pytestmark = pytest.mark.usefixtures("kubeconfig")
BARE = ROOT / "bench" / "bare.py"
WRAPPED = """from pathlib import Path
from bench.wrapper import run
run(Path({program!r}))
"""


@pytest.fixture
def recorded(values: dict[str, Any]) -> list[Registration]:
    return record(PROGRAM, values, "test")


def test_what_a_bare_program_reads_makes_it_register_the_same(
    recorded: list[Registration], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "registrations.json").write_text(to_json(recorded))
    monkeypatch.chdir(tmp_path)
    again = record(BARE, {}, "test")
    assert len(again) > 40
    assert {it.key: it for it in again} == {it.key: it for it in recorded}


def test_objects_alone_are_recorded_with_their_order_and_protection(recorded: list[Registration]) -> None:
    by_key = {re.sub(r"-[0-9a-f]{10}$", "", it.key): it for it in recorded}
    assert {it.module.split(".")[0] for it in recorded} == {"pulumi_kubernetes"}
    deployment = by_key["Deployment llama-static-a-deployment"]
    after = [by_key["Job llama-static-a-fetch"], by_key["ConfigMap llama-static-a-server"]]
    assert deployment.depends_on == [it.key for it in after]
    assert deployment.timeouts is not None
    assert deployment.timeouts["delete"]
    assert by_key["PersistentVolumeClaim llama-static-a-cache"].protect is True
    assert by_key["Node nodes-static-a-node"].id == "gpu-node-1"
    assert by_key["Provider cluster"].inputs["enable_config_map_mutable"] is True


def test_nothing_of_the_wrapped_program_is_waited_for_and_nothing_else_changes(
    recorded: list[Registration], values: dict[str, Any], tmp_path: Path
) -> None:
    program = tmp_path / "__main__.py"
    program.write_text(WRAPPED.format(program=str(PROGRAM)))
    wrapped = record(program, values, "test")
    for before, after in zip(recorded, wrapped, strict=True):
        metadata = after.inputs.get("metadata", {})
        skipped = metadata.get("annotations", {}).pop("pulumi.com/skipAwait", None)
        assert skipped == (None if after.kind == "Provider" or after.id else "true"), after.key
        before.inputs.get("metadata", {}).get("annotations", {}).pop("pulumi.com/skipAwait", None)
        assert _without_empty(after) == _without_empty(before)


def _without_empty(it: Registration) -> str:
    """A metadata without annotations and one with none are the same."""
    return json.dumps({**vars(it), "inputs": it.inputs}, sort_keys=True).replace('"annotations": {}, ', "")
