"""A small, whole stack that tests change one value of at a time."""

import json
import os
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.capture import CaptureManager

from config.model import StackConfig
from local.bring_up import build_tools
from local.toolchain import Tools

CONTEXTS = ("homelab", "llama-chat-local", "homelab-prod", "homelab-staging")
VALUES: dict[str, Any] = {
    "cluster": {"context": "homelab", "namespace": "ai"},
    "gpu": {"resource": "amd.com/gpu", "vram_gib": 48, "supplemental_groups": [44, 109]},
    "images": {
        "llama_server": "ghcr.io/ggml-org/llama.cpp:server-rocm-b1",
        "llama_swap": "ghcr.io/mostlygeek/llama-swap:v1-rocm-b1",
        "python": "docker.io/library/python:3.13-slim",
        "litellm": "ghcr.io/berriai/litellm:v1",
    },
    "nodes": {"static-a": "gpu-node-1", "static-b": "gpu-node-2", "swap": "gpu-node-3"},
    "runtime": {"context_size": 32768, "max_tokens": 4096, "parallel": 2},
    "storage": {"class_name": "local-path", "size_gib": 80},
    "startup_seconds": 600,
    "grace_seconds": 120,
    "statics": [
        {
            "role": "static-a",
            "model": {"name": "GLM-4.7-Flash", "repo": "unsloth/GLM-4.7-Flash-GGUF", "quant": "Q4_K_M"},
        },
        {
            "role": "static-b",
            "model": {
                "name": "Qwen3-Coder-30B-A3B",
                "repo": "unsloth/Qwen3-Coder-30B-A3B-Instruct-GGUF",
                "quant": "Q4_K_M",
            },
            "runtime": {"context_size": 65536, "gpu_layers": 0},
            "resources": {"memory": "24Gi"},
        },
    ],
    "pools": [
        {
            "role": "swap",
            "load_seconds": 240,
            "models": [
                {
                    "name": "Llama-3.1-70B-Instruct",
                    "repo": "bartowski/Meta-Llama-3.1-70B-Instruct-GGUF",
                    "quant": "Q4_K_M",
                    "runtime": {"context_size": 8192, "parallel": 1},
                },
                {
                    "name": "DeepSeek-R1-Distill",
                    "repo": "unsloth/DeepSeek-R1-Distill-Qwen-32B-GGUF",
                    "quant": "Q4_K_M",
                },
            ],
        }
    ],
    "hub": {"token_secret": {"name": "hf-token", "key": "token"}},
    "gateway": {"master_key_secret": {"name": "litellm", "key": "master-key"}},
}


def stack_config(values: dict[str, Any]) -> StackConfig:
    """The config that `values` make, read as a stack file is: JSON in, strict types."""
    return StackConfig.model_validate_json(json.dumps(values))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip, with the reason, what cannot run here."""
    if sys.platform != "linux" or os.geteuid() != 0:
        for item in items:
            if item.get_closest_marker("cluster"):
                item.add_marker(pytest.mark.skip(reason="the one-machine cluster needs Linux and root"))


@pytest.fixture(scope="session")
def tools(request: pytest.FixtureRequest) -> Tools:
    """Every tool that the local stack needs; a first build takes half an hour, and shows how far it is."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert isinstance(capture, CaptureManager)
    with capture.global_and_fixture_disabled():
        return build_tools()


@pytest.fixture
def values() -> dict[str, Any]:
    return deepcopy(VALUES)


@pytest.fixture
def config(values: dict[str, Any]) -> StackConfig:
    return stack_config(values)


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig that knows the contexts of all stacks, and no cluster behind them."""
    path = tmp_path / "kubeconfig"
    contexts: list[dict[str, Any]] = [{"name": name, "context": {}} for name in CONTEXTS]
    path.write_text(yaml.safe_dump({"contexts": contexts}))
    monkeypatch.setenv("KUBECONFIG", str(path))
    return path
