"""llama-swap's document, held against what its schema says."""

import json
import shlex
from typing import Any

import pytest
from pydantic import ValidationError
from syrupy.assertion import SnapshotAssertion

from config.model import StackConfig
from render.document import to_yaml
from render.litellm import litellm
from render.llama_swap import SwapModel, llama_swap
from tests.conftest import stack_config


def document(config: StackConfig) -> dict[str, Any]:
    return json.loads(json.dumps(llama_swap(config.pooled[0])))


def with_three(values: dict[str, Any], **changes: object) -> StackConfig:
    values["pools"][0]["models"].append({"name": "Phi-4", "repo": "unsloth/phi-4-GGUF", "quant": "Q4_K_M"})
    values["pools"][0] |= changes
    return stack_config(values)


def test_the_document_is_as_recorded(config: StackConfig, snapshot: SnapshotAssertion) -> None:
    assert to_yaml(llama_swap(config.pooled[0])) == snapshot


def test_each_command_is_one_server_on_the_port_that_llama_swap_gives(config: StackConfig) -> None:
    command = shlex.split(document(config)["models"]["DeepSeek-R1-Distill"]["cmd"])
    assert command[:5] == ["/app/llama-server", "--host", "127.0.0.1", "--port", "${PORT}"]
    assert command[command.index("--model") + 1] == "/models/weights/DeepSeek-R1-Distill/model.gguf"
    assert command[command.index("--alias") + 1] == "DeepSeek-R1-Distill"


def test_a_flags_value_with_blanks_and_quotes_stays_one_argument(values: dict[str, Any]) -> None:
    template = '{"enable_thinking": false}'
    values["pools"][0]["models"][1]["runtime"] = {"extra_args": {"chat-template-kwargs": template}}
    command = shlex.split(document(stack_config(values))["models"]["DeepSeek-R1-Distill"]["cmd"])
    assert command[command.index("--chat-template-kwargs") + 1] == template


def test_the_gateway_waits_longer_than_a_swap_which_waits_longer_than_the_worst_load(config: StackConfig) -> None:
    (pool,) = config.pooled
    routes = json.loads(json.dumps(litellm(config)))["model_list"]
    gateway = min(it["litellm_params"]["timeout"] for it in routes if "llama-swap" in it["litellm_params"]["api_base"])
    health = document(config)["healthCheckTimeout"]
    answer = pool.grace_seconds - 10
    assert health == pool.load_seconds == 240
    assert gateway >= answer + health + answer


def test_one_model_at_a_time_is_the_conservative_default(config: StackConfig) -> None:
    router = document(config)["routing"]["router"]
    assert router["use"] == "group"
    assert router["settings"]["groups"]["pool"] == {
        "swap": True,
        "exclusive": True,
        "members": ["Llama-3.1-70B-Instruct", "DeepSeek-R1-Distill"],
    }
    models = document(config)["models"].values()
    assert {model["ttl"] for model in models} == {900}


def test_a_title_may_wait_beside_the_answers_that_a_model_has_slots_for(values: dict[str, Any]) -> None:
    models = document(stack_config(values))["models"].values()
    assert [model["concurrencyLimit"] for model in models] == [2, 3]
    values["pools"][0]["concurrency_limit"] = 1
    models = document(stack_config(values))["models"].values()
    assert [model["concurrencyLimit"] for model in models] == [1, 1]
    assert all("--parallel 1 " in model["cmd"] for model in models)


def test_all_models_may_stay_loaded(values: dict[str, Any]) -> None:
    groups = document(with_three(values, max_loaded=7))["routing"]["router"]["settings"]["groups"]
    assert groups["pool"]["swap"] is False


def test_some_may_stay_loaded_whichever_they_are(values: dict[str, Any]) -> None:
    router = document(with_three(values, max_loaded=2))["routing"]["router"]
    assert router["use"] == "matrix"
    assert list(router["settings"]["matrix"]["vars"].values())[2] == "Phi-4"
    assert router["settings"]["matrix"]["sets"] == {"loaded": "(m0 | m1 | m2) & (m0 | m1 | m2)"}


def test_no_request_of_a_user_is_kept(config: StackConfig) -> None:
    assert document(config)["captureBuffer"] == 0


@pytest.mark.parametrize(
    "change", [{"cmd": ""}, {"ttl": -2}, {"proxy": "localhost"}, {"concurrency_limit": -1}, {"unknown": 1}]
)
def test_what_the_schema_forbids_cannot_be_rendered(change: dict[str, Any]) -> None:
    right: dict[str, Any] = {
        "cmd": "x",
        "proxy": "http://127.0.0.1:1",
        "check_endpoint": "/health",
        "ttl": 0,
        "concurrency_limit": 1,
    }
    SwapModel(**right)
    with pytest.raises(ValidationError):
        SwapModel(**{**right, **change})
