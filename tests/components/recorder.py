"""Pulumi's mock engine, with everything that a program registers kept for the asking."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks


@dataclass(frozen=True)
class Registered:
    """One resource: Pulumi's type token and name, and the inputs in Kubernetes' own spelling."""

    type: str
    name: str
    inputs: dict[str, Any]
    custom_id: str | None
    provider: str


@dataclass
class Recorder(Mocks):
    """Answers every registration with its own inputs, as an API server that accepts all would."""

    registered: list[Registered] = field(default_factory=list[Registered])

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType] - untyped upstream
        self.registered.append(Registered(args.typ, args.name, inputs, args.resource_id, args.provider or ""))
        return (args.resource_id or f"{args.name}-id", inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"unexpected call of {args.token}")

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        """The inputs of the only resource whose type ends in `kind` and whose name holds `name`."""
        found = self.all(kind, name)
        assert len(found) == 1, [f"{resource.type} {resource.name}" for resource in self.registered]
        return found[0].inputs

    def all(self, kind: str, name: str = "") -> list[Registered]:
        return [it for it in self.registered if it.type.endswith(f":{kind}") and name in it.name]


def record(build: Callable[[], object]) -> Recorder:
    """Run `build` under the mock engine to its end, and return what it registered."""
    recorder = Recorder()
    pulumi.runtime.set_mocks(recorder, project="llama-chat", stack="test", preview=False)

    def run() -> None:
        build()

    pulumi.runtime.test(run)()  # pyright: ignore[reportUnknownMemberType] - untyped upstream
    return recorder
