from collections.abc import Callable
from typing import Any

import pytest
from pydantic import JsonValue

from config.errors import Problem

Values = dict[str, Any]
BothWays = Callable[[Values], tuple[Problem, ...]]
Case = tuple[str, JsonValue, str, str, str]

# path, value put there, key as shown, value as shown, what the remedy says
CASES: dict[str, Case] = {
    "a GPU count that is not whole": ("gpu.count", 1.5, "gpu.count", "1.5", "must be a whole number: whole GPUs"),
    "a GPU count of zero": ("gpu.count", 0, "gpu.count", "0", "must be at least 1: whole GPUs"),
    "a GPU count in quotes": ("gpu.count", "1", "gpu.count", "1", "must be a whole number, without quotes: whole"),
    "a GPU count of true": ("gpu.count", True, "gpu.count", "true", "must be a whole number: whole GPUs"),
    "memory that is not finite": ("gpu.vram_gib", float("inf"), "gpu.vram_gib", "Infinity", "must be a number: memory"),
    "memory of nothing": ("gpu.vram_gib", 0, "gpu.vram_gib", "0", "must be more than 0: memory of one GPU in GiB"),
    "a port too high": ("gateway.port", 65536, "gateway.port", "65536", "must be at most 65535: the Service's port"),
    "a choice that is none": ("gateway.mode", "own", "gateway.mode", "own", "must be 'deploy' or 'adopt': run our own"),
    "text for a list": ("statics", "none", "statics", "none", "must be a list: backends"),
    "a list for an object": ("storage", [1], "storage", "[…]", "must be an object with keys of its own: The volume"),
    "an object for text": ("cluster.context", {"a": 1}, "cluster.context", "{…}", "must be text; put quotes around"),
    "a number for text": (
        "statics.0.model.revision",
        12,
        "statics[0].model.revision",
        "12",
        "must be text; put quotes",
    ),
    "no context": ("cluster.context", "", "cluster.context", "(empty)", "must not be empty: kubeconfig context"),
    "no backend": ("statics", [], "statics", "[…]", "must have at least 1 entry: backends"),
    "a switch that is no switch": ("steady", "on", "steady", "on", "must be true or false, without quotes: past the"),
    "seconds that are no number": ("grace_seconds", "soon", "grace_seconds", "soon", "must be a whole number, without"),
    "a host that is no name": (
        "nodes.static-a",
        "GPU 1",
        "nodes.static-a",
        "GPU 1",
        "does not have the form wanted, such",
    ),
    "a role that is no label": (
        "nodes.Static",
        "gpu-3",
        "nodes.Static",
        "Static",
        "such as static-a: gpu-node-1: role",
    ),
    "a role too long": (
        "statics.1.role",
        "r" * 31,
        "statics[1].role",
        "r" * 31,
        "must have at most 30 characters: value",
    ),
    "a quantity with a space": (
        "resources",
        {"cpu": "4 cores"},
        "resources.cpu",
        "4 cores",
        "such as 250m or 16Gi: CPU",
    ),
    "a repository without owner": (
        "statics.0.model.repo",
        "GLM",
        "statics[0].model.repo",
        "GLM",
        "such as unsloth/GLM",
    ),
    "a repository that climbs": (
        "statics.0.model.repo",
        "../x",
        "statics[0].model.repo",
        "../x",
        "does not have the form",
    ),
    "a file that climbs": (
        "statics.0.model.filename",
        "../x.gguf",
        "statics[0].model.filename",
        "../x.gguf",
        "such as GLM",
    ),
    "a model name with a space": ("statics.0.model.name", "GLM 4", "statics[0].model.name", "GLM 4", "such as GLM-4.7"),
    "an image without registry": (
        "images.python",
        "python:3.11",
        "images.python",
        "python:3.11",
        "such as ghcr.io/owner",
    ),
    "a hub that is no URL": (
        "hub",
        {"endpoint": "hub.local"},
        "hub.endpoint",
        "hub.local",
        "such as https://huggingface.co",
    ),
    "a value with control characters": (
        "cluster.namespace",
        "a\x1b[2J",
        "cluster.namespace",
        "a\\u001b[2J",
        "such as llm",
    ),
    "a value of many lines": (
        "gateway.deployment",
        "a\nb",
        "gateway.deployment",
        "a\\nb",
        "does not have the form wanted",
    ),
    "a nested typing slip": (
        "gpu.cuont",
        2,
        "gpu.cuont",
        "(hidden)",
        "is not a key here: did you mean count? known keys:",
    ),
    "a key like no other": (
        "hub",
        {"zzz": 1},
        "hub.zzz",
        "(hidden)",
        "is not a key here: known keys: endpoint, mb_per_second, token_",
    ),
    "a top-level typing slip": (
        "statiks",
        5,
        "statiks",
        "(hidden)",
        "is not a key here: did you mean statics? known keys:",
    ),
    "a secret where its name belongs": (
        "hub",
        {"token_secret": "x"},
        "hub.token_secret",
        "(hidden)",
        "must be an object",
    ),
}


def put(values: Values, path: str, value: JsonValue) -> Values:
    *parents, last = path.split(".")
    target: Any = values
    for part in parents:
        target = target[int(part)] if part.isdecimal() else target[part]
    target[last] = value
    return values


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_is_refused_with_key_value_and_remedy(case: Case, values: Values, both_ways: BothWays) -> None:
    path, value, key, shown, remedy = case
    (problem,) = both_ways(put(values, path, value))
    assert (problem.key, problem.value) == (f"llama-chat:{key}", shown)
    assert remedy in problem.remedy


@pytest.mark.parametrize(
    ("path", "description"),
    [
        ("gateway", "The LiteLLM in front of all backends"),
        (
            "gpu.resource",
            "extended resource name: amd.com/gpu, nvidia.com/gpu, gpu.intel.com/i915 …; none is CPU only",
        ),
        ("statics.1.model.quant", "quantisation, such as Q4_K_M"),
    ],
)
def test_a_missing_key_says_what_belongs_there(
    path: str, description: str, values: Values, both_ways: BothWays
) -> None:
    *parents, last = path.split(".")
    target: Any = values
    for part in parents:
        target = target[int(part)] if part.isdecimal() else target[part]
    del target[last]
    (problem,) = both_ways(values)
    assert problem.key == "llama-chat:" + path.replace(".1.", "[1].")
    assert (problem.value, problem.remedy) == ("(missing)", f"is missing: add it: {description}")


def test_all_problems_of_the_shape_come_at_once(values: Values, both_ways: BothWays) -> None:
    del values["storage"]
    put(put(put(values, "gpu.count", 0), "statics.1.model.quant", "Q 4"), "extra", "1")
    assert [problem.key for problem in both_ways(values)] == [
        "llama-chat:gpu.count",
        "llama-chat:storage",
        "llama-chat:statics[1].model.quant",
        "llama-chat:extra",
    ]


def test_a_long_value_is_shortened(values: Values, both_ways: BothWays) -> None:
    (problem,) = both_ways(put(values, "gateway.deployment", "_" * 500))
    assert problem.value == "_" * 59 + "…"
