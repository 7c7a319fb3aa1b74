"""What others read of the stack file's shape: editors a JSON Schema, Pulumi's CLI a config block."""

from typing import Any

import yaml
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from config.explain import description
from config.model import NAMESPACE, StackConfig

_HEAD = "# Generated: python -m config project > Pulumi.yaml\n"


def stack_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a whole `Pulumi.<stack>.yaml`; other namespaces are not ours to judge."""
    config = StackConfig.model_json_schema()
    keys = {f"{NAMESPACE}:{name}": _or_text(schema) for name, schema in config["properties"].items()}
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": f"A stack file of {NAMESPACE}",
        "type": "object",
        "properties": {
            "config": {
                "description": config["description"],
                "type": "object",
                "properties": keys,
                "required": [f"{NAMESPACE}:{name}" for name in config["required"]],
                "propertyNames": {"anyOf": [{"enum": list(keys)}, {"pattern": f"^(?!{NAMESPACE}:).+:"}]},
            },
            "encryptionsalt": {"type": "string", "description": "written by Pulumi"},
            "encryptedkey": {"type": "string", "description": "written by Pulumi"},
            "secretsprovider": {"type": "string", "description": "written by Pulumi"},
        },
        "required": ["config"],
        "$defs": config["$defs"],
    }


def _or_text(schema: JsonSchemaValue) -> JsonSchemaValue:
    """Pulumi writes a top-level scalar back as text, "true" or "1800"."""
    forms = {"boolean": "^(true|false)$", "integer": "^[0-9]+$"}
    if schema.get("type") not in forms:
        return schema
    about = {key: schema[key] for key in ("description", "default", "title") if key in schema}
    return {**about, "anyOf": [schema, {"type": "string", "pattern": forms[schema["type"]]}]}


def project_text() -> str:
    """Pulumi.yaml, with the config block made of the models."""
    project = {
        "name": NAMESPACE,
        "description": "A llama.cpp chat backend on the GPU nodes of a Kubernetes cluster",
        "runtime": {"name": "python", "options": {"toolchain": "uv", "virtualenv": ".venv"}},
        "requiredPulumiVersion": ">=3.259.0 <4.0.0",
        "config": _project_config(),
    }
    return _HEAD + yaml.safe_dump(project, sort_keys=False, allow_unicode=True, width=120)


def _project_config() -> dict[str, Any]:
    """Pulumi refuses a stack that lacks a declared key without a default: keys that may be absent need one."""
    schemas = StackConfig.model_json_schema(mode="validation")["properties"]
    defaults = StackConfig.model_construct().model_dump(mode="json", exclude_none=True)
    return {
        name: _declaration(field, schemas[name], defaults.get(name))
        for name, field in StackConfig.model_fields.items()
        if field.is_required() or name in defaults
    }


def _declaration(field: FieldInfo, schema: JsonSchemaValue, default: object) -> dict[str, Any]:
    declared: dict[str, Any] = {"type": schema.get("type", "object"), "description": description(field)}
    if declared["type"] == "array":
        declared["items"] = {"type": "object"}
    if not field.is_required():
        declared["default"] = default
    return declared
