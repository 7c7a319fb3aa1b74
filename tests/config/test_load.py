import contextvars
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest

from config.load import checked, load_file
from config.model import StackConfig
from config.program import load_pulumi, master_key

Values = dict[str, Any]
Load = Callable[[Values], StackConfig]

LOCAL = Path(__file__).parents[2] / "Pulumi.local.yaml"


def test_the_local_stack_loads_whole() -> None:
    config = load_file(LOCAL)
    assert [(backend.name, backend.host) for backend in config.backends] == [
        ("llama-static-a", "gpu-static-a"),
        ("llama-static-b", "gpu-static-b"),
        ("llama-swap", "gpu-swap"),
    ]
    assert config.exposed_names == ("gemma-3-270m", "tiny-ada", "tiny-bohr", "tiny-curie", "tiny-dirac")
    runtime = config.pinned[0].served.runtime
    assert (runtime.context_size, runtime.parallel, runtime.gpu_layers) == (1024, 2, 0)
    assert (config.cluster.context, config.cluster.namespace) == ("llama-chat-local", "ai")
    assert (config.startup_seconds, config.grace_seconds, config.steady) == (None, 60, False)


def test_a_backends_own_values_beat_the_stacks(values: Values) -> None:
    values["statics"][1] |= {"runtime": {"context_size": 65536}, "gpu": {"vram_gib": 24}, "grace_seconds": 90}
    first, second = checked(values).pinned
    assert (first.served.runtime.context_size, first.gpu.vram_gib, first.grace_seconds) == (4096, 48, 300)
    assert (second.served.runtime.context_size, second.gpu.vram_gib, second.grace_seconds) == (65536, 24, 90)
    assert second.served.runtime.max_tokens == 1024


def test_a_backends_own_image_tolerations_and_pull_secrets_stand_for_the_stacks(values: Values) -> None:
    values |= {"tolerations": [{"key": "gpu"}], "pull_secrets": ["mirror"]}
    values["statics"][1] |= {"image": "reg.example/llama:cuda-1", "tolerations": [], "pull_secrets": []}
    first, second = checked(values).backends
    assert (first.image, len(first.tolerations), first.pull_secrets) == ("reg.example/llama:b1", 1, ("mirror",))
    assert (second.image, second.tolerations, second.pull_secrets) == ("reg.example/llama:cuda-1", (), ())


def test_a_pooled_models_knobs_beat_the_pools_and_those_the_stacks(values: Values) -> None:
    values["nodes"]["swap"] = "gpu-3"
    values["images"]["llama_swap"] = "reg.example/llama-swap:v1"
    values["pools"] = [
        {
            "role": "swap",
            "runtime": {"parallel": 1, "context_size": 8192},
            "models": [
                {"name": "Phi-4", "repo": "unsloth/Phi-4", "quant": "Q4_K_M", "runtime": {"context_size": 2048}},
                {"name": "Gemma-3", "repo": "unsloth/Gemma-3", "quant": "Q4_K_M"},
            ],
        }
    ]
    (pool,) = checked(values).pooled
    assert [(served.name, served.runtime.context_size) for served in pool.models] == [
        ("Phi-4", 2048),
        ("Gemma-3", 8192),
    ]
    assert {(served.runtime.parallel, served.runtime.max_tokens) for served in pool.models} == {(1, 1024)}
    assert (pool.engine, pool.max_loaded, pool.smoke, pool.image) == (
        "llama-swap",
        1,
        "changed",
        "reg.example/llama-swap:v1",
    )


def test_scalars_may_be_text_as_pulumi_config_set_writes_them(values: Values) -> None:
    config = checked(values | {"steady": "false", "startup_seconds": "900"})
    assert (config.steady, config.startup_seconds) == (False, 900)


@pytest.mark.usefixtures("kubeconfig")
def test_both_ways_in_give_the_same_config(values: Values, as_file: Load, as_program: Load) -> None:
    values |= {"master_key": {"secure": "v1:ciphertext"}, "grace_seconds": 90, "hub": {"endpoint": "http://hub:1"}}
    assert as_program(values) == as_file(values)


def test_a_program_sees_only_its_own_namespace() -> None:
    context = contextvars.copy_context()
    context.run(pulumi.runtime.set_all_config, {"aws:region": "x"}, ["aws:region"])
    with pytest.raises(pulumi.RunError) as caught:
        context.run(load_pulumi, None)
    assert "aws" not in str(caught.value)
    assert str(caught.value).startswith("llama-chat:cluster: (missing): is missing: add it: The cluster")


def test_the_program_reads_the_master_key_where_there_is_one() -> None:
    context = contextvars.copy_context()
    context.run(pulumi.runtime.set_all_config, {}, [])
    assert context.run(master_key) is None
    context.run(pulumi.runtime.set_all_config, {"llama-chat:master_key": "x"}, ["llama-chat:master_key"])
    assert isinstance(context.run(master_key), pulumi.Output)


def test_the_encrypted_master_key_is_known_but_never_kept(values: Values) -> None:
    config = checked(values | {"master_key": "decrypted"}, encrypted=["master_key"])
    assert config.has_master_key
    assert "decrypted" not in repr(config)
    assert not checked(values).has_master_key
