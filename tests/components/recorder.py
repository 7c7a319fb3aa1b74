"""Pulumi's mock engine, with everything that a program registers kept for the asking."""

import contextvars
from collections.abc import Callable, Sequence
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
    options: pulumi.ResourceOptions

    @property
    def after(self) -> list[str]:
        """Names of what it waits for."""
        waited_for = cast("Sequence[pulumi.Resource]", self.options.depends_on or ())
        return sorted(it.pulumi_resource_name for it in waited_for)

    @property
    def stated(self) -> dict[str, Any]:
        """The options that decide what becomes of the live object."""
        timeouts = self.options.custom_timeouts
        options = {
            "after": self.after,
            "protect": self.options.protect,
            "retain_on_delete": self.options.retain_on_delete,
            "timeouts": {name: wait for name, wait in vars(timeouts).items() if wait} if timeouts else None,
        }
        return {name: value for name, value in options.items() if value}


@dataclass
class Recorder(Mocks):
    """Answers every registration with its own inputs, as an API server that accepts all would."""

    outputs: dict[str, Any] = field(default_factory=dict[str, Any])
    """What the stack's last update left as its outputs."""
    registered: list[Registered] = field(default_factory=list[Registered])
    options: dict[tuple[str, str], pulumi.ResourceOptions] = field(
        default_factory=dict[tuple[str, str], pulumi.ResourceOptions]
    )

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType] - untyped upstream
        options = self.options[args.typ, args.name]
        self.registered.append(Registered(args.typ, args.name, inputs, args.resource_id, args.provider or "", options))
        return (args.resource_id or f"{args.name}-id", inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token.endswith(":readStackOutputs"):
            return {"outputs": self.outputs}, []
        raise AssertionError(f"unexpected call of {args.token}")

    def one(self, kind: str, name: str = "") -> dict[str, Any]:
        """The inputs of the only resource whose type ends in `kind` and whose name holds `name`."""
        found = self.all(kind, name)
        assert len(found) == 1, [f"{resource.type} {resource.name}" for resource in self.registered]
        return found[0].inputs

    def all(self, kind: str, name: str = "") -> list[Registered]:
        return [it for it in self.registered if it.type.endswith(f":{kind}") and name in it.name]


def record(build: Callable[[], object], outputs: dict[str, Any] | None = None) -> Recorder:
    """Run `build` under the mock engine to its end, and return what it registered.

    `outputs` are those of the stack's last update.
    """
    recorder = Recorder(outputs or {})

    def keep(args: pulumi.ResourceTransformationArgs) -> None:
        recorder.options[args.type_, args.name] = args.opts

    def run() -> None:
        # the mock engine itself hears nothing of an object's options
        pulumi.runtime.register_stack_transformation(keep)
        build()

    def under_mocks() -> None:
        pulumi.runtime.set_mocks(recorder, project="llama-chat", stack="test", preview=False)
        pulumi.runtime.test(run)()  # pyright: ignore[reportUnknownMemberType] - untyped upstream

    # Pulumi's settings, transformations among them, would reach the next test
    contextvars.copy_context().run(under_mocks)
    return recorder
