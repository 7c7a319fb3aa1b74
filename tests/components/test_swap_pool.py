"""What stands in the cluster for many models on one node."""

import json
from typing import Any

import pytest
import yaml

from components.smoke_test import SmokeTest, backend_test
from components.swap_pool import SwapPool, SwapPoolArgs
from config.lock import Lock
from config.model import StackConfig
from tests.components.recorder import Recorder, record
from tests.conftest import stack_config
from tests.locks import lock_of


def build(config: StackConfig) -> Recorder:
    def both() -> None:
        (backend,) = config.pooled
        pool = SwapPool(backend.name, SwapPoolArgs(config=config, backend=backend))
        SmokeTest(f"{backend.name}-smoke", backend_test(config, backend, pool))

    return record(both)


def with_router(values: dict[str, Any]) -> StackConfig:
    values["pools"][0] |= {"engine": "llama-server", "max_loaded": 2}
    return stack_config(values)


def pod(recorder: Recorder) -> dict[str, Any]:
    return recorder.one("Deployment")["spec"]["template"]["spec"]


def asked(recorder: Recorder) -> dict[str, str]:
    record = json.loads(recorder.one("ConfigMap", "smoke")["data"]["smoke.json"])
    return {model["name"]: model["content"] for model in record["models"]}


def test_the_pool_has_the_service_name_and_the_one_gpu_that_the_runbook_gives(config: StackConfig) -> None:
    recorder = build(config)
    (server,) = pod(recorder)["containers"]
    assert recorder.one("Service")["metadata"]["name"] == "llama-swap"
    assert server["resources"]["limits"]["amd.com/gpu"] == "1"
    assert recorder.one("Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_llama_swap_reads_its_document_from_a_config_map_by_content(config: StackConfig) -> None:
    recorder = build(config)
    (server,) = pod(recorder)["containers"]
    documents = recorder.one("ConfigMap", "llama-swap-server")
    assert (server["name"], server["command"]) == ("llama-swap", ["/app/llama-swap"])
    assert server["args"][:2] == ["-config", "/server/llama-swap.yaml"]
    assert list(yaml.safe_load(documents["data"]["llama-swap.yaml"])["models"]) == [
        "Llama-3.1-70B-Instruct",
        "DeepSeek-R1-Distill",
    ]
    assert documents["metadata"]["name"] in [
        it["configMap"]["name"] for it in pod(recorder)["volumes"] if "configMap" in it
    ]


def test_the_router_is_the_servers_own_entrypoint_with_a_preset_a_model(values: dict[str, Any]) -> None:
    recorder = build(with_router(values))
    (server,) = pod(recorder)["containers"]
    assert "command" not in server
    assert server["image"] == "ghcr.io/ggml-org/llama.cpp:server-rocm-b1"
    assert server["args"][server["args"].index("--models-preset") + 1] == "/server/presets.ini"
    assert "[DeepSeek-R1-Distill]" in recorder.one("ConfigMap", "llama-swap-server")["data"]["presets.ini"]


def test_each_engine_is_drained_in_its_own_way(values: dict[str, Any]) -> None:
    ways = [
        pod(build(config))["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][2]
        for config in (stack_config(values), with_router(values))
    ]
    assert ways == ["llama-swap", "router"]


def test_all_files_are_fetched_before_the_pod_and_each_is_linked_below_its_models_name(config: StackConfig) -> None:
    recorder = build(config)
    catalog = json.loads(recorder.one("ConfigMap", "llama-swap-models")["data"]["models.json"])
    assert [(model["name"], model["model_path"]) for model in catalog["models"]] == [
        ("Llama-3.1-70B-Instruct", "/models/weights/Llama-3.1-70B-Instruct/model.gguf"),
        ("DeepSeek-R1-Distill", "/models/weights/DeepSeek-R1-Distill/model.gguf"),
    ]
    assert catalog["deadline_seconds"] == 2 * 600
    (fetch,) = recorder.all("Job", "fetch")
    assert fetch.name in recorder.all("Deployment")[0].after


def test_the_pod_drains_as_long_as_a_request_may_wait_for_another_model_load_and_answer(config: StackConfig) -> None:
    assert pod(build(config))["terminationGracePeriodSeconds"] == 110 + 240 + 110 + 110 + 10


def test_nobody_waits_for_a_slot_where_no_more_requests_are_let_in_than_there_are(values: dict[str, Any]) -> None:
    values["pools"][0]["concurrency_limit"] = 1
    assert pod(build(stack_config(values)))["terminationGracePeriodSeconds"] == 110 + 240 + 110 + 10


def test_a_change_of_one_model_changes_what_is_asked_of_that_one_alone(values: dict[str, Any]) -> None:
    before = asked(build(stack_config(values)))
    values["pools"][0]["models"][1]["quant"] = "Q5_K_M"
    after = asked(build(stack_config(values)))
    assert {name for name in before if before[name] != after[name]} == {"DeepSeek-R1-Distill"}


@pytest.mark.parametrize(
    "shared",
    [
        {"image": "reg.example/llama-swap:v2"},
        {"max_loaded": 2},
        {"resources": {"memory": "8Gi"}},
    ],
)
def test_what_all_models_share_is_asked_for_every_model_again(values: dict[str, Any], shared: dict[str, Any]) -> None:
    before = asked(build(stack_config(values)))
    values["pools"][0] |= shared
    after = asked(build(stack_config(values)))
    assert not set(before.items()) & set(after.items())


def locked(config: StackConfig) -> StackConfig:
    return config.with_lock(lock_of(config))


def test_only_a_pool_that_says_so_leaves_out_what_passed_before(values: dict[str, Any]) -> None:
    def skips(config: StackConfig) -> set[bool]:
        record = json.loads(build(config).one("ConfigMap", "smoke")["data"]["smoke.json"])
        return {model["skip_passed"] for model in record["models"]}

    assert skips(stack_config(values)) == {False}  # files that may change under the same name
    assert skips(locked(stack_config(values))) == {True}
    values["pools"][0]["smoke"] = "all"
    assert skips(locked(stack_config(values))) == {False}


def test_what_every_server_is_started_with_is_asked_for_every_model_again(
    values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = asked(build(stack_config(values)))
    monkeypatch.setattr("render.smoke.SERVER_FLAGS", {"metrics": False})
    after = asked(build(stack_config(values)))
    assert not set(before.items()) & set(after.items())


def test_a_model_that_leaves_is_no_reason_to_ask_the_others(values: dict[str, Any]) -> None:
    values["storage"] = {"class_name": "local-path"}
    before = asked(build(locked(stack_config(values))))
    values["pools"][0]["models"].pop(0)
    after = asked(build(locked(stack_config(values))))
    assert after == {"DeepSeek-R1-Distill": before["DeepSeek-R1-Distill"]}


def test_another_hub_is_a_reason_to_ask_every_model_again(values: dict[str, Any]) -> None:
    before = asked(build(stack_config(values)))
    values["hub"]["endpoint"] = "https://hub.example"
    assert not set(before.items()) & set(asked(build(stack_config(values))).items())


def test_a_lock_that_moved_on_is_a_reason_to_ask_that_model_again(values: dict[str, Any]) -> None:
    config = stack_config(values)
    lock = lock_of(config)
    moved = [
        entry.model_copy(update={"commit": "1" * 40}) if "DeepSeek" in entry.repo else entry for entry in lock.models
    ]
    before, after = asked(build(config.with_lock(lock))), asked(build(config.with_lock(Lock(models=tuple(moved)))))
    assert {name for name in before if before[name] != after[name]} == {"DeepSeek-R1-Distill"}
