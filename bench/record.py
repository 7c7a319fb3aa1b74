"""What a program registers, written down so that a bare program can register the same."""

import contextvars
import json
import re
import runpy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import pulumi
from pulumi.runtime import MockCallArgs, MockResourceArgs, Mocks
from pydantic import JsonValue

from config.model import NAMESPACE

_PROVIDER = "pulumi:providers:kubernetes"


@dataclass(frozen=True, kw_only=True)
class Registration:
    """One object, as a call of its plain `pulumi_kubernetes` class."""

    key: str
    """Kind and name: what others depend on."""
    module: str
    kind: str
    name: str
    id: str | None
    """Where it is not made but read."""
    inputs: dict[str, Any]
    """The constructor's arguments; what is nested in them is in Kubernetes' own spelling."""
    depends_on: list[str]
    timeouts: dict[str, str] | None
    protect: bool | None
    retain_on_delete: bool | None


def record(program: Path, config: Mapping[str, JsonValue], stack: str) -> list[Registration]:
    """Run a program under Pulumi's mock engine; its objects, in the order in which its text makes them.

    `config` holds the stack file's values, by name without `llama-chat:`. Components are left out: they are layers.
    """
    engine, seen = _Engine(), list[pulumi.ResourceTransformationArgs]()

    def run() -> None:
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in config.items()}
        pulumi.runtime.set_all_config({f"{NAMESPACE}:{name}": text for name, text in texts.items()}, [])
        # the mock engine hears of an object late, and never of its options
        pulumi.runtime.register_stack_transformation(seen.append)
        runpy.run_path(str(program), run_name="__main__")

    def under_mocks() -> None:
        pulumi.runtime.set_mocks(engine, project=NAMESPACE, stack=stack, preview=False)
        pulumi.runtime.test(run)()  # pyright: ignore[reportUnknownMemberType] - untyped upstream

    # Pulumi's settings, transformations among them, stay behind
    contextvars.copy_context().run(under_mocks)
    objects = [args for args in seen if args.type_ == _PROVIDER or args.type_.startswith("kubernetes:")]
    return [_registration(args, engine.inputs[args.type_, args.name]) for args in objects]


def to_json(registrations: Sequence[Registration]) -> str:
    """The text that bare.py reads."""
    providers = [it for it in registrations if it.kind == "Provider"]
    objects = [asdict(it) for it in registrations if it.kind != "Provider"]
    return json.dumps({"provider": providers[0].inputs, "objects": objects})


@dataclass
class _Engine(Mocks):
    """Answers every registration with its own inputs, as an API server that accepts all would."""

    inputs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict[tuple[str, str], dict[str, Any]])

    def new_resource(self, args: MockResourceArgs) -> tuple[str, dict[str, Any]]:
        inputs = cast("dict[str, Any]", args.inputs)  # pyright: ignore[reportUnknownMemberType] - untyped upstream
        self.inputs[args.typ, args.name] = inputs
        return (args.resource_id or f"{args.name}-id", inputs)

    def call(self, args: MockCallArgs) -> tuple[dict[str, Any], list[tuple[str, str]] | None]:
        if args.token.endswith(":readStackOutputs"):
            return {"outputs": {}}, []
        raise NotImplementedError(f"no program of ours calls {args.token}")


def _registration(args: pulumi.ResourceTransformationArgs, inputs: dict[str, Any]) -> Registration:
    opts = args.opts
    after = cast("Sequence[pulumi.Resource]", opts.depends_on or ())
    timeouts = opts.custom_timeouts
    module, kind = _class(args.type_)
    return Registration(
        key=f"{kind} {args.name}",
        module=module,
        kind=kind,
        name=args.name,
        id=cast("str | None", opts.id),
        inputs={} if opts.id else {_snake(key): _plain(args.type_, value) for key, value in inputs.items()},
        depends_on=[" ".join((_class(it.pulumi_resource_type)[1], it.pulumi_resource_name)) for it in after],
        timeouts=vars(timeouts) if timeouts else None,
        protect=opts.protect,
        retain_on_delete=opts.retain_on_delete,
    )


def _class(token: str) -> tuple[str, str]:
    """`kubernetes:rbac.authorization.k8s.io/v1:Role` is `pulumi_kubernetes.rbac.v1`'s Role."""
    if token == _PROVIDER:
        return "pulumi_kubernetes", "Provider"
    _, place, kind = token.split(":")
    group, _, version = place.partition("/")
    return f"pulumi_kubernetes.{group.partition('.')[0]}.{version}", kind


def _snake(key: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower()


def _plain(token: str, value: object) -> object:
    """A provider's inputs travel as JSON in text."""
    return value == "true" if token == _PROVIDER and value in ("true", "false") else value
