"""The program itself, on the stack file that ships."""

import json
import runpy
from pathlib import Path

import pulumi
import yaml
from syrupy.assertion import SnapshotAssertion

from tests.components.recorder import Recorder, record

ROOT = Path(__file__).parents[2]


def program(stack: str) -> Recorder:
    document = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in document["config"].items()}

    def run() -> None:
        pulumi.runtime.set_all_config(texts, [])
        runpy.run_path(str(ROOT / "__main__.py"))

    return record(run)


def test_what_the_local_stack_registers_is_as_recorded(snapshot: SnapshotAssertion) -> None:
    registered = program("local").registered
    for it in registered:
        data = it.inputs.get("data", {})
        data.update({name: "(a script of ours)" for name in data if name.endswith((".py", ".sh"))})
    assert {f"{it.type} {it.name}": it.inputs for it in sorted(registered, key=lambda it: it.name)} == snapshot


def test_every_object_is_a_child_of_a_component_and_goes_through_the_named_context() -> None:
    recorder = program("local")
    assert recorder.one("kubernetes", "cluster") == {
        "clusterIdentifier": "llama-chat-local",
        "context": "llama-chat-local",
    }
    objects = [it for it in recorder.registered if it.type.startswith("kubernetes:")]
    assert len(objects) > 10
    assert {it.provider.split("::")[-2] for it in objects} == {"cluster"}


def test_nothing_in_the_program_is_a_secret() -> None:
    assert not program("local").all("Secret")
