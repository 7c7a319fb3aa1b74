from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from config.model import StackConfig
from config.schema import project_text, stack_schema

ROOT = Path(__file__).parents[2]


Values = dict[str, Any]


def properties(schema: dict[str, Any]) -> dict[str, Any]:
    """The keys that a part of the schema allows, through references and `null` alternatives."""
    if "$ref" in schema:
        return properties(stack_schema()["$defs"][schema["$ref"].removeprefix("#/$defs/")])
    if "anyOf" in schema:
        return {key: item for option in schema["anyOf"] for key, item in properties(option).items()}
    return schema.get("properties", {})


def test_the_project_file_is_what_the_models_say() -> None:
    assert (ROOT / "Pulumi.yaml").read_text(encoding="utf-8") == project_text()


def test_pulumi_demands_exactly_the_keys_without_a_default() -> None:
    declared = yaml.safe_load(project_text())["config"]
    demanded = {name for name, declaration in declared.items() if "default" not in declaration}
    assert demanded == {name for name, field in StackConfig.model_fields.items() if field.is_required()}


def test_only_keys_without_a_default_are_left_undeclared() -> None:
    # Pulumi would demand them: a key that may be absent needs a default
    declared = yaml.safe_load(project_text())["config"]
    assert set(StackConfig.model_fields) - set(declared) == {"master_key", "startup_seconds"}


def test_what_pulumi_fills_in_is_what_the_models_fill_in(
    values: Values, as_file: Callable[[Values], StackConfig]
) -> None:
    declared = yaml.safe_load(project_text())["config"]
    filled_in = {name: declaration["default"] for name, declaration in declared.items() if "default" in declaration}
    assert as_file(filled_in | values) == as_file(values)


def test_every_declared_key_has_a_type_that_pulumi_knows_and_a_description() -> None:
    for name, declaration in yaml.safe_load(project_text())["config"].items():
        assert declaration["type"] in {"string", "integer", "boolean", "array", "object"}, name
        assert ("items" in declaration) == (declaration["type"] == "array"), name
        assert len(declaration["description"]) > 8, name


def test_the_schema_knows_every_key_of_the_local_stack() -> None:
    schema = stack_schema()["properties"]["config"]["properties"]
    config: Values = yaml.safe_load((ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8"))["config"]
    for key, value in config.items():
        assert key in schema
        if isinstance(value, dict) and key != "llama-chat:nodes":
            assert set(cast("Values", value)) <= set(properties(schema[key])), key


def test_the_schema_refuses_unknown_keys_of_ours_alone() -> None:
    config = stack_schema()["properties"]["config"]
    known, other = config["propertyNames"]["anyOf"]
    assert (
        set(known["enum"]) == set(config["properties"]) == {f"llama-chat:{name}" for name in StackConfig.model_fields}
    )
    assert other == {"pattern": "^(?!llama-chat:).+:"}
    assert all(part["additionalProperties"] is False for part in stack_schema()["$defs"].values())


@pytest.mark.parametrize("name", StackConfig.model_fields)
def test_every_key_of_the_schema_is_described(name: str) -> None:
    schema = stack_schema()
    part = schema["properties"]["config"]["properties"][f"llama-chat:{name}"]
    target = schema["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part
    assert part.get("description") or target.get("description")


def test_the_schema_takes_a_switch_as_pulumi_writes_it_back() -> None:
    part = stack_schema()["properties"]["config"]["properties"]["llama-chat:steady"]
    assert [option["type"] for option in part["anyOf"]] == ["boolean", "string"]
