"""What the lock has to say of a stack, before anything is applied."""

from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError, Problem
from config.load import checked, load_file
from config.lock import Lock, LockedFile
from config.lock_policy import warnings
from config.scalars import quantity_bytes
from tests.locks import entry, lock_of

Values = dict[str, Any]


@pytest.fixture
def lock() -> Lock:
    return Lock(models=(entry("unsloth/GLM"), entry("unsloth/Qwen3"), entry("unsloth/Phi-4")))


@pytest.fixture
def values(values: Values) -> Values:
    """A sound stack that leaves to the lock what it can, with a pool of one."""
    values["storage"] = {"class_name": "local-path"}
    values["nodes"]["swap"] = "gpu-3"
    values["images"]["llama_swap"] = "reg.example/swap:v1"
    values["pools"] = [{"role": "swap", "models": [{"name": "Phi-4", "repo": "unsloth/Phi-4", "quant": "Q4_K_M"}]}]
    return values


def refused(values: Values, lock: Lock) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as error:
        checked(values, lock)
    return error.value.problems


def one(values: Values, lock: Lock) -> tuple[str, str, str]:
    (problem,) = refused(values, lock)
    return problem.key.removeprefix("llama-chat:"), problem.value, problem.remedy


def test_what_the_stack_leaves_out_follows_from_the_lock(values: Values, lock: Lock) -> None:
    static, _, pool = checked(values, lock).backends
    assert static.models[0].locked == lock.models[0]
    assert static.volume_gib == 50  # three times the model: the new one, the old one, and the one before
    assert static.models[0].fetch_seconds == 60 + 1700  # 10 MB/s
    assert static.startup_seconds == static.models[0].load_seconds == 60 + 170  # 100 MB/s
    assert static.cpu == "2"
    # 1 GiB of the server, 8 GiB of prompts, the input embedding, buffers
    assert 9.4 * 2**30 < quantity_bytes(static.memory) < 11 * 2**30
    assert pool.volume_gib == 50


def test_another_hub_and_another_volume_have_other_deadlines(values: Values, lock: Lock) -> None:
    values["hub"] = {"mb_per_second": 100}
    values["statics"][1]["storage"] = {"mb_per_second": 1000}
    first, second, _ = checked(values, lock).backends
    assert (first.models[0].fetch_seconds, first.models[0].load_seconds) == (60 + 170, 60 + 170)
    assert (second.models[0].fetch_seconds, second.models[0].load_seconds) == (60 + 170, 60 + 17)


def test_cores_are_asked_for_where_layers_are_computed_on_them(values: Values, lock: Lock) -> None:
    values["statics"][0]["runtime"] = {"gpu_layers": 20, "threads": 12}
    first, second, _ = checked(values, lock).backends
    assert (first.cpu, second.cpu) == ("12", "2")


def test_a_model_that_is_not_in_the_lock_is_refused(values: Values, lock: Lock) -> None:
    values["statics"][0]["model"]["quant"] = "Q8_0"
    values["storage"]["size_gib"] = 80
    key, value, remedy = one(values, lock)
    assert (key, value) == ("statics[0].model", "GLM-4.7-Flash")
    assert (
        remedy == "the lock has no entry for unsloth/GLM Q8_0 at main: run `make lock` with the stack's name as STACK"
    )


def test_an_unverified_model_warns_and_a_steady_stack_refuses_it(values: Values, lock: Lock) -> None:
    values["storage"]["size_gib"] = 80
    lock = Lock(models=(*lock.models[:2], entry("unsloth/Phi-4", unverified=True)))
    config = checked(values, lock)
    (warning,) = warnings(config)
    assert (warning.key, warning.value) == ("llama-chat:pools[0].models[0]", "Phi-4")
    assert warning.remedy.startswith("its entry in the lock is unverified, so its files may change: run `make lock`")
    digest = "@sha256:" + "0" * 64
    values |= {"steady": True, "images": {name: image + digest for name, image in values["images"].items()}}
    key, _, remedy = one(values, lock)
    assert (key, remedy.split(":")[0]) == ("pools[0].models[0]", "a steady stack takes locked models only")


def test_a_volume_whose_size_nobody_knows_is_refused(values: Values, lock: Lock) -> None:
    lock = Lock(models=(*lock.models[:2], entry("unsloth/Phi-4", unverified=True)))
    key, value, remedy = one(values, lock)
    assert (key, value) == ("storage.size_gib", "(missing)")
    assert "nobody knows yet how large the models of llama-swap are" in remedy


@pytest.mark.parametrize("own", [True, False])
def test_a_volume_that_is_too_small_is_refused(values: Values, lock: Lock, *, own: bool) -> None:
    (values["statics"][0].setdefault("storage", {}) if own else values["storage"])["size_gib"] = 49
    problems = refused(values, lock)
    expected = ["llama-chat:statics[0].storage.size_gib"] if own else ["llama-chat:storage.size_gib"] * 3
    assert [problem.key for problem in problems] == expected
    assert problems[0].remedy.startswith("llama-static-a needs 50 GiB: ")


def test_a_deadline_that_is_too_short_is_refused(values: Values, lock: Lock) -> None:
    values["statics"][0]["startup_seconds"] = 1989
    key, value, remedy = one(values, lock)
    assert (key, value) == ("statics[0].startup_seconds", "1989")
    assert remedy.startswith("GLM-4.7-Flash has 17.0 GB and may take 1990 s to fetch and load: ")
    values["statics"][0]["startup_seconds"] = 1990
    checked(values, lock)


def test_a_load_that_is_too_short_for_a_pools_slowest_model_is_refused(values: Values, lock: Lock) -> None:
    values["pools"][0]["load_seconds"] = 229
    assert one(values, lock)[:2] == ("pools[0].load_seconds", "229")


def test_memory_below_the_servers_own_is_refused(values: Values, lock: Lock) -> None:
    values["statics"][1]["resources"] = {"memory": "9Gi"}
    key, value, remedy = one(values, lock)
    assert (key, value) == ("statics[1].resources.memory", "9Gi")
    assert "lower runtime.prompt_cache_mib" in remedy
    values["statics"][1]["runtime"] = {"prompt_cache_mib": 0}
    checked(values, lock)


def test_what_does_not_fit_the_gpu_is_refused_unless_only_some_layers_go_there(values: Values, lock: Lock) -> None:
    values["gpu"]["vram_gib"] = 16
    values["statics"][1]["gpu"] = values["pools"][0]["gpu"] = {"vram_gib": 48}
    key, value, remedy = one(values, lock)
    assert (key, value) == ("gpu.vram_gib", "16.0")
    assert "llama-static-a needs " in remedy
    assert "GLM-4.7-Flash: weights 15.8, KV cache 2.0" in remedy
    values["statics"][0]["runtime"] = {"gpu_layers": 16}
    checked(values, lock)


def test_a_context_that_is_too_long_for_the_gpu_is_refused(values: Values, lock: Lock) -> None:
    values["statics"][0]["runtime"] = {"context_size": 81920}  # four slots of 10 GiB
    assert one(values, lock)[0] == "gpu.vram_gib"


def test_a_pool_must_hold_as_many_models_as_it_loads(values: Values, lock: Lock) -> None:
    values["pools"][0]["models"] += [{"name": "GLM", "repo": "unsloth/GLM", "quant": "Q4_K_M"}]
    values["gpu"]["vram_gib"] = 24
    checked(values, lock)
    values["pools"][0]["max_loaded"] = 2
    key, _, remedy = one(values, lock)
    assert key == "gpu.vram_gib"
    assert "Phi-4: weights" in remedy
    assert "GLM: weights" in remedy


def test_without_a_gpu_the_models_must_fit_what_they_may_take_of_the_node(values: Values, lock: Lock) -> None:
    values["gpu"] = {"resource": "none", "vram_gib": 16}
    values["runtime"]["gpu_layers"] = 0
    assert {problem.key for problem in refused(values, lock)} == {"llama-chat:gpu.vram_gib"}
    values["gpu"]["vram_gib"] = 32
    config = checked(values, lock)
    assert config.pinned[0].cpu == "8"


@pytest.mark.parametrize("stack", ["prod", "staging"])
def test_the_stacks_that_ship_fit_models_of_their_real_size(stack: str) -> None:
    """17 GB each, and 42.5 GB of the 70B at Q4_K_M, as its repository says."""
    file = Path(__file__).parents[2] / f"Pulumi.{stack}.yaml"
    known = lock_of(load_file(file))
    large = {"files": (LockedFile(path="70B-Q4_K_M.gguf", bytes=42_520_000_000, sha256="0" * 64),)}
    models = [entry.model_copy(update=large if "70B" in entry.repo else {}) for entry in known.models]
    config = load_file(file, Lock(models=tuple(models)))
    assert [backend.startup_seconds for backend in config.pinned] == [230, 230]
    assert config.pooled[0].models[1].fetch_seconds == 60 + 4252


def test_a_context_beyond_the_trained_one_is_refused(values: Values, lock: Lock) -> None:
    values["statics"][0]["runtime"] = {"context_size": 131073, "parallel": 1}
    key, value, remedy = one(values, lock)
    assert (key, value) == ("statics[0].model", "GLM-4.7-Flash")
    assert remedy.startswith("was trained with 131072 tokens of context")
    values["statics"][0]["runtime"]["extra_args"] = {"rope-scaling": "yarn"}
    checked(values, lock)


def test_what_is_known_of_a_pool_is_checked_beside_what_is_not(values: Values, lock: Lock) -> None:
    values["pools"][0]["models"] += [{"name": "New", "repo": "a/new", "quant": "Q4_K_M"}]
    values["pools"][0]["storage"] = {"size_gib": 10}
    lock = Lock(models=(*lock.models, entry("a/new", unverified=True)))
    assert one(values, lock)[:2] == ("pools[0].storage.size_gib", "10")


def test_experts_that_are_placed_by_hand_are_not_judged(values: Values, lock: Lock) -> None:
    values["gpu"]["vram_gib"] = 16
    values["runtime"]["extra_args"] = {"override-tensor": "exps=CPU"}
    checked(values, lock)
