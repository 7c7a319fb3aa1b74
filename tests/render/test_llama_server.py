"""llama-server's command line, a router's presets and the records beside them."""

import json
import shlex
from typing import Any

import pytest

from config.model import StackConfig
from render.document import content_name
from render.llama_server import arguments, fetch_record, router_arguments, router_presets
from tests.conftest import stack_config


def flag(line: list[str], name: str) -> str:
    return line[line.index(name) + 1]


def section(presets: str, name: str) -> dict[str, str]:
    text = presets.split(f"[{name}]\n")[1].split("\n\n", maxsplit=1)[0]
    return dict(line.split(" = ", 1) for line in text.strip().splitlines())


@pytest.fixture
def router(values: dict[str, Any]) -> dict[str, Any]:
    values["pools"][0] |= {"engine": "llama-server", "max_loaded": 2, "concurrency_limit": 1}
    return values


def test_context_is_per_slot_so_the_server_gets_it_times_the_slots(config: StackConfig) -> None:
    assert flag(arguments(config.pinned[0]), "--ctx-size") == str(32768 * 2)


def test_a_backends_own_knob_beats_the_stacks(config: StackConfig) -> None:
    first, second = (arguments(backend) for backend in config.pinned)
    assert (flag(first, "--n-gpu-layers"), flag(second, "--n-gpu-layers")) == ("999", "0")
    assert flag(second, "--ctx-size") == str(65536 * 2)
    assert flag(first, "--n-predict") == flag(second, "--n-predict") == "4096"


def test_a_server_with_layers_on_the_gpu_logs_how_many(config: StackConfig) -> None:
    on_gpu, on_cpu = (arguments(backend) for backend in config.pinned)
    assert flag(on_gpu, "--log-verbosity") == "4"
    assert "--log-verbosity" not in on_cpu


def test_the_server_answers_under_the_name_that_users_see(config: StackConfig) -> None:
    assert flag(arguments(config.pinned[0]), "--alias") == "GLM-4.7-Flash"


def test_further_flags_are_handed_on_with_their_values(values: dict[str, Any]) -> None:
    values["runtime"]["extra_args"] = {"cache-type-k": "q8_0", "swa-full": True, "context-shift": False}
    line = arguments(stack_config(values).pinned[0])
    assert flag(line, "--cache-type-k") == "q8_0"
    assert {"--swa-full", "--no-context-shift"} <= set(line)


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        (None, "model.gguf"),
        ("GLM-4.7-Flash-Q4_K_M.gguf", "model.gguf"),
        ("Q4/Big-Q4_K_M-00001-of-00003.gguf", "Big-Q4_K_M-00001-of-00003.gguf"),
        ("Big-Q4_K_M-00002-of-00003.gguf", "model.gguf"),
    ],
)
def test_the_server_opens_a_fixed_path_but_for_a_split_ggufs_first_shard(
    values: dict[str, Any], filename: str | None, name: str
) -> None:
    for model in (values["statics"][0]["model"], values["pools"][0]["models"][0]):
        model["filename"] = filename
    config = stack_config(values)
    assert flag(arguments(config.pinned[0]), "--model") == f"/models/weights/{name}"
    pooled = json.loads(json.dumps(fetch_record(config, config.pooled[0])))["models"][0]
    assert pooled["model_path"] == f"/models/weights/Llama-3.1-70B-Instruct/{name}"


def test_the_record_names_repo_quant_and_filename(config: StackConfig) -> None:
    assert fetch_record(config, config.pinned[0]) == {
        "endpoint": "https://huggingface.co",
        "deadline_seconds": 600,
        "models": [
            {
                "name": "GLM-4.7-Flash",
                "repo": "unsloth/GLM-4.7-Flash-GGUF",
                "quant": "Q4_K_M",
                "filename": None,
                "revision": "main",
                "commit": None,
                "files": [],
                "model_path": "/models/weights/model.gguf",
                "deadline_seconds": 600,
            }
        ],
    }


def test_the_router_reads_one_section_a_model_and_loads_as_many_as_may_stay(router: dict[str, Any]) -> None:
    router["pools"][0]["max_loaded"] = 1
    (pool,) = stack_config(router).pooled
    presets = router_presets(pool)
    assert flag(router_arguments(pool), "--models-max") == "1"
    assert section(presets, "Llama-3.1-70B-Instruct")["load-on-startup"] == "true"
    assert section(presets, "DeepSeek-R1-Distill")["load-on-startup"] == "false"
    assert section(presets, "DeepSeek-R1-Distill")["model"] == "/models/weights/DeepSeek-R1-Distill/model.gguf"


def test_the_routers_slots_are_no_more_than_the_pool_lets_in(router: dict[str, Any]) -> None:
    keys = section(router_presets(stack_config(router).pooled[0]), "DeepSeek-R1-Distill")
    assert (keys["parallel"], keys["ctx-size"]) == ("1", "32768")


def test_an_idle_model_sleeps_after_the_pools_ttl_and_never_without_one(router: dict[str, Any]) -> None:
    assert section(router_presets(stack_config(router).pooled[0]), "DeepSeek-R1-Distill")["sleep-idle-seconds"] == "900"
    router["pools"][0]["ttl_seconds"] = 0
    assert "sleep-idle" not in router_presets(stack_config(router).pooled[0])


def test_no_argument_of_ours_needs_a_shells_quotes(config: StackConfig) -> None:
    line = arguments(config.pinned[0])
    assert shlex.split(" ".join(line)) == line


def test_a_name_by_content_changes_with_the_content_alone() -> None:
    one = content_name("config", {"a": "1", "b": "2"})
    assert one == content_name("config", {"b": "2", "a": "1"})
    assert one != content_name("config", {"a": "1", "b": "3"})
    assert one.startswith("config-")
