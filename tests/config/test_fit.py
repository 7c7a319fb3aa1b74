from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.fit import Fit, fit
from config.lock import Shape
from config.parts import Runtime
from config.scalars import FlagValue

KIB, MIB = 2**10, 2**20


def shape(**changes: Any) -> Shape:  # noqa: ANN401 - fields of the shape
    """Llama-3.1-70B's, but for what is changed."""
    values: dict[str, Any] = {
        "architecture": "llama",
        "parameters": 70_553_706_496,
        "tensor_bytes": (1200 + 1000 + 80 * 500) * MIB,
        "layers": 80,
        "trained_context": 131072,
        "vocabulary": 128256,
        "embedding_length": 8192,
        "heads": 64,
        "kinds": "F",
        "kv_heads": 8,
        "key_length": 128,
        "value_length": 128,
        "activations": 3 * 28672,
        "input_bytes": 1000 * MIB,
        "output_bytes": 1200 * MIB,
        "block_bytes": 80 * 500 * MIB,
    }
    return Shape(**values | changes)


LLAMA = shape()
QWEN = shape(
    architecture="qwen3moe",
    layers=48,
    embedding_length=2048,
    heads=32,
    kv_heads=4,
    vocabulary=151936,
    activations=34816,
    block_bytes=48 * 350 * MIB,
    expert_bytes=48 * 320 * MIB,
)
GLM = shape(
    architecture="deepseek2",
    layers=47,
    embedding_length=2048,
    heads=20,
    kv_heads=1,
    key_length=576,
    value_length=512,
    mla_rank=512,
    vocabulary=154880,
    activations=30720,
)
GEMMA = shape(
    architecture="gemma3",
    layers=62,
    embedding_length=5376,
    heads=32,
    kv_heads=16,
    kinds="SSSSSF",
    sliding_window=1024,
    vocabulary=262208,
    activations=64512,
    tied=True,
)
GPT_OSS = shape(
    architecture="gpt-oss",
    layers=24,
    embedding_length=2880,
    kv_heads=8,
    key_length=64,
    value_length=64,
    kinds="SF",
    sliding_window=128,
    vocabulary=201088,
    activations=34560,
)
QWEN_NEXT = shape(
    architecture="qwen3next",
    layers=48,
    embedding_length=2048,
    heads=16,
    kv_heads=2,
    key_length=256,
    value_length=256,
    kinds="RRRF",
    state_size=548864,
    vocabulary=151936,
    activations=35840,
)
ALL = (LLAMA, QWEN, GLM, GEMMA, GPT_OSS, QWEN_NEXT)


def served(of: Shape, context_size: int = 4096, parallel: int = 1, gpu_layers: int = 999, **flags: FlagValue) -> Fit:
    extra = {name.replace("_", "-"): value for name, value in flags.items()}
    return fit(
        of,
        Runtime(context_size=context_size, max_tokens=1, parallel=parallel, gpu_layers=gpu_layers, extra_args=extra),
    )


# llama.cpp b11434's own numbers for these models' metadata with a GPU (its RPC backend) and nothing allocated
@pytest.mark.parametrize(
    ("of", "kv", "on_gpu", "on_host"),
    [
        (LLAMA, 21474836480, 260061216, 83904544),
        (QWEN, 6442450944, 104871968, 33572896),
        (GLM, 3548381184, 96479264, 33568800),
        (GEMMA, 7985954816, 194535456, 62418976),
        (GPT_OSS, 1686110208, 111958048, 41183264),
        (QWEN_NEXT, 1926758400, 106969152, 33572928),
    ],
)
def test_caches_and_buffers_are_those_that_llama_cpp_lays_out_on_a_gpu(
    of: Shape, kv: int, on_gpu: int, on_host: int
) -> None:
    needed = served(of, 16384, 4)
    output = of.vocabulary * 4 * 4
    assert (needed.on_gpu.kv, needed.on_host.kv) == (kv, 0)
    assert needed.on_gpu.compute == pytest.approx(on_gpu, rel=0.1 if of.state_size else 0.01)
    assert needed.on_host.compute - output == pytest.approx(on_host, rel=0.01)


def test_some_blocks_alone_go_to_the_gpu_from_the_last_one_on() -> None:
    needed = served(LLAMA, 16384, 4, gpu_layers=40)  # the output layer and 39 blocks
    assert (needed.on_host.kv, needed.on_gpu.kv) == (11005853696, 10468982784)  # as llama.cpp b11434 has it
    assert needed.on_gpu.weights == (1200 + 39 * 500) * MIB
    assert needed.on_host.weights == (1000 + 41 * 500) * MIB
    assert needed.on_host.compute - 128256 * 4 * 4 == pytest.approx(276842528, rel=0.01)
    assert needed.on_gpu.compute - 250 * MIB == pytest.approx(226502688, rel=0.2)  # and a copy of the host's weights


@pytest.mark.parametrize(("of", "each"), [(LLAMA, 320 * KIB), (QWEN, 96 * KIB), (GLM, 47 * 576 * 2)])
def test_a_token_takes_what_its_architecture_keeps_of_it(of: Shape, each: int) -> None:
    assert served(of, 32768).kv == 32768 * each
    assert served(of, 32768, 3).kv == 3 * 32768 * each


def test_contexts_come_in_steps_of_256_tokens_a_slot() -> None:
    assert served(LLAMA, 300, 3).kv == 3 * 512 * 320 * KIB
    assert served(LLAMA, 300, 3, kv_unified=True).kv == 1024 * 320 * KIB


def test_a_sliding_window_is_kept_once_a_slot_and_with_room_for_a_batch() -> None:
    row = 2 * 16 * 128 * 2
    assert served(GEMMA, 16384, 2).kv == 2 * row * (10 * 16384 + 52 * 1536)
    assert served(GEMMA, 16384, 2, ubatch_size=1024).kv == 2 * row * (10 * 16384 + 52 * 2048)
    assert served(GEMMA, 512, 2).kv == 2 * row * 62 * 512
    assert served(GEMMA, 16384, 2, kv_unified=True).kv == row * (10 * 32768 + 52 * 2560)
    assert served(GEMMA, 16384, 2, swa_full=True).kv == 2 * row * 62 * 16384


def test_sliding_blocks_may_have_heads_of_their_own() -> None:
    gemma4 = shape(
        layers=60,
        kinds="SSSSSF",
        kv_heads=(16, 16, 16, 16, 16, 4),
        sliding_window=1024,
        key_length=512,
        value_length=512,
        sliding_key_length=256,
        sliding_value_length=256,
    )
    # llama.cpp b11434's numbers, the second with the values of all blocks as long as the longest
    assert served(gemma4, 8192, 2).kv == 3680 * MIB
    assert served(gemma4, 8192, 2, flash_attn="off").kv == 4320 * MIB


def test_a_recurrent_state_grows_with_slots_alone() -> None:
    attention = 12 * 2 * (256 + 256) * 2
    for context, slots in [(4096, 1), (16384, 1), (4096, 5)]:
        assert served(QWEN_NEXT, context, slots).kv == slots * (context * attention + 36 * 548864 * 4)
    both = shape(kinds="B", state_size=1000)
    assert served(both, 4096, 2).kv == served(LLAMA, 4096, 2).kv + 2 * 80 * 4000
    assert served(shape(kinds="-"), 4096).kv == 0


@pytest.mark.parametrize(
    ("key", "value", "part"), [("q8_0", "q8_0", 34 / 64), ("q4_0", "f16", 82 / 128), ("f32", "bf16", 1.5)]
)
def test_a_cache_may_have_other_types(key: str, value: str, part: float) -> None:
    assert served(LLAMA, cache_type_k=key, cache_type_v=value).kv == served(LLAMA).kv * part


def test_the_values_of_mla_are_in_its_keys() -> None:
    assert served(GLM, cache_type_k="q8_0", cache_type_v="f32").kv == served(GLM, cache_type_k="q8_0").kv
    assert served(GLM, flash_attn="off").kv == served(GLM).kv


def test_without_flash_attention_the_scores_of_a_batch_are_held_at_once() -> None:
    assert served(LLAMA, 8192).on_gpu.compute + 64 * 8192 * 512 * 4 * 0.8 < served(LLAMA, 8192, fa="off").on_gpu.compute


@pytest.mark.parametrize("of", ALL)
def test_without_a_gpu_everything_is_on_the_host_a_tied_embedding_once(of: Shape) -> None:
    needed = served(of, gpu_layers=0)
    assert (needed.device, needed.host) == (0, needed.total)
    weights = of.output_bytes + of.block_bytes + (0 if of.tied else of.input_bytes)
    assert needed.weights == weights
    assert served(of).weights == of.input_bytes + of.output_bytes + of.block_bytes


def test_blocks_that_only_speculate_count_among_those_that_are_offloaded() -> None:
    assert served(shape(draft_layers=1), gpu_layers=81).on_host.kv == served(LLAMA).kv // 80
    assert served(shape(draft_layers=1), gpu_layers=82).on_host.kv == 0


def test_experts_and_caches_may_stay_on_the_host() -> None:
    usual = served(QWEN)
    kept = served(QWEN, cpu_moe=True)
    assert kept.on_host.weights - usual.on_host.weights == 48 * 320 * MIB
    assert kept.weights == usual.weights
    assert kept.on_host.compute > usual.on_host.compute
    assert served(QWEN, n_cpu_moe=12).on_host.weights - usual.on_host.weights == 12 * 320 * MIB
    assert served(LLAMA, cpu_moe=True).device == served(LLAMA).device
    for flags in ({"kv-offload": False}, {"no-kv-offload": True}):
        needed = served(LLAMA, **flags)
        assert (needed.on_gpu.kv, needed.on_host.kv) == (0, served(LLAMA).kv)


def test_checkpoints_are_copies_of_what_cannot_be_rolled_back() -> None:
    window = 52 * 1024 * 2 * 16 * 128 * 2
    assert served(GEMMA, 16384, 2).checkpoints == 2 * 32 * window
    assert served(GEMMA, 16384, 2, ctx_checkpoints=3).checkpoints == 2 * 3 * window
    assert served(GEMMA, 16384, 2, swa_full=True).checkpoints == 0
    assert served(QWEN_NEXT, 16384, 2).checkpoints == 2 * 32 * 36 * 548864 * 4
    assert served(LLAMA, 16384, 2).checkpoints == 0


def test_it_says_where_it_only_assumes() -> None:
    assert not served(LLAMA, ubatch_size=256).assumed
    assert served(shape(assumed=True)).assumed
    assert served(LLAMA, mmproj="/models/mmproj.gguf").assumed


def test_a_flag_that_stops_the_server_stops_no_estimate() -> None:
    assert served(LLAMA, ubatch_size="many").total == served(LLAMA).total
    assert served(LLAMA, cache_type_k="q9").kv == served(LLAMA, cache_type_k="f32").kv


def test_it_reads_as_three_sizes() -> None:
    assert str(served(LLAMA, 16384, 4)) == "weights 41.2, KV cache 20.0, buffers 0.3 GiB"


@given(
    of=st.sampled_from(ALL),
    context=st.integers(256, 200_000),
    slots=st.integers(1, 16),
    layers=st.integers(0, 90),
    unified=st.booleans(),
)
def test_more_context_more_slots_or_larger_batches_never_take_less(
    of: Shape, context: int, slots: int, layers: int, *, unified: bool
) -> None:
    usual = served(of, context, slots, layers, kv_unified=unified)
    more = (
        served(of, context + 1000, slots, layers, kv_unified=unified),
        served(of, context, slots + 1, layers, kv_unified=unified),
        served(of, context, slots, layers, kv_unified=unified, ubatch_size=1024),
    )
    for larger in more:
        assert larger.kv >= usual.kv
        # batches are rounded up to a multiple of the slots, so one slot more may round up by less
        assert larger.device >= usual.device - usual.compute // 16
        assert larger.host >= usual.host - usual.compute // 16


@given(of=st.sampled_from(ALL), layers=st.integers(1, 80), slots=st.integers(1, 8))
def test_more_layers_on_the_gpu_take_more_there_and_less_on_the_host(of: Shape, layers: int, slots: int) -> None:
    fewer, more = (served(of, 8192, slots, count) for count in (layers, layers + 1))
    assert more.on_gpu.weights + more.on_gpu.kv >= fewer.on_gpu.weights + fewer.on_gpu.kv
    assert more.host <= fewer.host
    assert (more.weights, more.kv) == (fewer.weights, fewer.kv)
