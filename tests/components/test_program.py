"""The program itself, on the stack file that ships."""

import pulumi
import pytest
from syrupy.assertion import SnapshotAssertion

from tests.components.manifests import program

pytestmark = pytest.mark.usefixtures("kubeconfig")


@pytest.mark.parametrize("stack", ["local", "prod"])
def test_what_a_stack_registers_is_as_recorded(snapshot: SnapshotAssertion, stack: str) -> None:
    registered = program(stack).registered
    for it in registered:
        data = it.inputs.get("data", {})
        it.inputs.pop("kubeconfig", None)  # the path of this run's own
        data.update({name: "(a script of ours)" for name in data if name.endswith((".py", ".sh"))})
    recorded = {
        f"{it.type} {it.name}": {**it.inputs, "(options)": it.stated}
        for it in sorted(registered, key=lambda it: it.name)
    }
    assert recorded == snapshot


def test_every_object_is_a_child_of_a_component_and_goes_through_the_named_context() -> None:
    recorder = program("local")
    provider = recorder.one("kubernetes", "cluster")
    assert (provider["context"], provider["clusterIdentifier"]) == ("llama-chat-local", "llama-chat-local")
    objects = [it for it in recorder.registered if it.type.startswith("kubernetes:")]
    assert len(objects) > 10
    assert {it.provider.split("::")[-2] for it in objects} == {"cluster"}


def test_a_context_that_the_kubeconfig_lacks_is_refused_before_anything_is_registered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent")
    with pytest.raises(pulumi.RunError, match=r"llama-chat-local: the kubeconfig .* has no such context: it has none"):
        program("local")


def test_nothing_in_the_program_is_a_secret() -> None:
    assert not program("local").all("Secret")
