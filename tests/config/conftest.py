import contextvars
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pydantic import JsonValue

from config.errors import ConfigError, Problem
from config.load import load_file
from config.model import StackConfig
from config.program import load_pulumi

Values = dict[str, Any]


@pytest.fixture
def values() -> Values:
    """A stack with two static backends, right in every way."""
    return {
        "steady": False,
        "cluster": {"context": "homelab"},
        "gpu": {"resource": "amd.com/gpu", "vram_gib": 48},
        "images": {
            "llama_server": "reg.example/llama:b1",
            "python": "reg.example/python:3.11",
            "litellm": "reg.example/litellm:v1",
        },
        "nodes": {"static-a": "gpu-1", "static-b": "gpu-2"},
        "runtime": {"context_size": 4096, "max_tokens": 1024},
        "storage": {"class_name": "local-path", "size_gib": 80},
        "statics": [
            {"role": "static-a", "model": {"name": "GLM-4.7-Flash", "repo": "unsloth/GLM", "quant": "Q4_K_M"}},
            {"role": "static-b", "model": {"name": "Qwen3-Coder-30B-A3B", "repo": "unsloth/Qwen3", "quant": "Q4_K_M"}},
        ],
        "gateway": {"master_key_secret": {"name": "litellm", "key": "master-key"}},
    }


def passed_on(values: Values) -> tuple[dict[str, str], list[str]]:
    """What Pulumi's engine passes on: all values as text, decrypted, and the keys that held something encrypted."""

    def decrypted(value: JsonValue) -> JsonValue:
        if isinstance(value, dict):
            return "decrypted" if list(value) == ["secure"] else {key: decrypted(item) for key, item in value.items()}
        return [decrypted(item) for item in value] if isinstance(value, list) else value

    texts = {name: decrypted(value) for name, value in values.items()}
    config = {f"llama-chat:{name}": text if isinstance(text, str) else json.dumps(text) for name, text in texts.items()}
    return config, [f"llama-chat:{name}" for name, value in values.items() if '"secure"' in json.dumps(value)]


@pytest.fixture
def as_program() -> Callable[[Values], StackConfig]:
    """Loads values as a running program gets them."""

    def load(values: Values) -> StackConfig:
        context = contextvars.copy_context()
        context.run(pulumi.runtime.set_all_config, *passed_on(values))
        return context.run(load_pulumi, None)

    return load


@pytest.fixture
def as_file(tmp_path: Path) -> Callable[[Values], StackConfig]:
    """Loads values from a stack file."""

    def load(values: Values) -> StackConfig:
        file = tmp_path / "Pulumi.dev.yaml"
        file.write_text(yaml.safe_dump({"config": {f"llama-chat:{name}": value for name, value in values.items()}}))
        return load_file(file)

    return load


@pytest.fixture
def both_ways(
    as_file: Callable[[Values], StackConfig], as_program: Callable[[Values], StackConfig]
) -> Callable[[Values], tuple[Problem, ...]]:
    """The problems of a stack, which a file and a running program must tell in the same words."""

    def refused(values: Values) -> tuple[Problem, ...]:
        with pytest.raises(ConfigError) as from_file:
            as_file(values)
        with pytest.raises(pulumi.RunError) as from_program:
            as_program(values)
        assert str(from_program.value) == str(from_file.value)
        return from_file.value.problems

    return refused
