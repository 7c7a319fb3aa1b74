import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.errors import UserError
from config.lock import Shape
from local import tiny_gguf
from ops.gguf_header import is_whole, read_shape
from tests.fit import tiny_models

Keys = Mapping[str, int | list[int] | list[bool]]


def made(path: Path, architecture: str, keys: Keys, tensors: tuple[str, ...] = ()) -> Path:
    """A model of few tensors of 8 values each."""
    writer = gguf.GGUFWriter(path, architecture)
    usual: Keys = {"context_length": 4096, "embedding_length": 4, "attention.head_count": 2}
    for key, value in {**usual, **keys}.items():
        name = f"{architecture}.{key}"
        writer.add_array(name, value) if isinstance(value, list) else writer.add_uint32(name, int(value))
    for tensor in ("token_embd.weight", *tensors):
        writer.add_tensor(tensor, np.zeros((2, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def shape_of(tmp_path: Path, architecture: str, keys: Keys) -> Shape:
    return read_shape([made(tmp_path / "model.gguf", architecture, {"block_count": 6, **keys})])


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    tiny_gguf.write(tmp_path / "tiny.gguf", "tiny-ada", 1)
    return tmp_path / "tiny.gguf"


def header_bytes(file: Path) -> int:
    return int(gguf.GGUFReader(file).data_offset)


def begun(file: Path, filled: int) -> Path:
    """A file as long as that one, of which only the beginning is there."""
    part = file.with_suffix(".part")
    part.write_bytes(file.read_bytes()[:filled])
    os.truncate(part, file.stat().st_size)
    return part


def test_a_models_shape_stands_in_its_header(tiny: Path) -> None:
    assert read_shape([tiny]) == Shape(
        architecture="llama",
        parameters=118720,
        tensor_bytes=4 * 118720,
        layers=2,
        trained_context=4096,
        vocabulary=285,
        embedding_length=64,
        heads=4,
        kinds="F",
        kv_heads=4,
        key_length=16,
        value_length=16,
        activations=3 * 128,
        input_bytes=4 * 285 * 64,
        output_bytes=4 * (285 + 1) * 64,
        block_bytes=4 * 2 * (2 * 64 + 4 * 64 * 64 + 3 * 64 * 128),
    )


def test_the_rest_of_the_file_need_not_be_there(tiny: Path) -> None:
    part = begun(tiny, header_bytes(tiny))
    assert is_whole(part, header_bytes(tiny))
    assert read_shape([part]) == read_shape([tiny])


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(part=st.floats(0, 1, exclude_max=True))
def test_a_part_of_a_header_is_not_whole(tiny: Path, part: float) -> None:
    filled = int(part * (header_bytes(tiny) - gguf.GGUF_DEFAULT_ALIGNMENT))  # what fills it up to there says nothing
    assert not is_whole(begun(tiny, filled), filled)


def test_what_lies_behind_the_header_does_no_harm(tiny: Path) -> None:
    assert all(is_whole(tiny, filled) for filled in range(header_bytes(tiny), tiny.stat().st_size, 50_000))
    assert is_whole(tiny, tiny.stat().st_size)


@pytest.mark.parametrize("content", [b"", b"GG", b"<!doctype html>" * 100, b"GGUF\x03\0\0\0" + b"\xff" * 100])
def test_what_is_no_gguf_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model-Q4_K_M.gguf"
    file.write_bytes(content)
    assert not is_whole(file, len(content))
    with pytest.raises(UserError, match=r"^model-Q4_K_M.gguf: is no GGUF that can be read \(.*\): choose another"):
        read_shape([file])


def test_a_file_that_is_cut_or_not_there_is_refused_by_name(tiny: Path) -> None:
    for size in (header_bytes(tiny) // 2, header_bytes(tiny) + 100):
        os.truncate(tiny, size)
        with pytest.raises(UserError, match=r"^tiny.gguf: is no GGUF that can be read"):
            read_shape([tiny])
    tiny.unlink()
    with pytest.raises(UserError, match=r"^tiny.gguf: is no GGUF that can be read"):
        read_shape([tiny])


@pytest.mark.parametrize("key", ["block_count", "context_length", "embedding_length"])
def test_a_header_that_lacks_a_key_is_refused_with_it(tmp_path: Path, key: str) -> None:
    with pytest.raises(UserError, match=rf"^model.gguf: its header lacks llama.{key}: choose another file"):
        shape_of(tmp_path, "llama", {key: 0})


def test_a_header_without_architecture_or_embedding_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    for key in ("block_count", "context_length", "embedding_length"):
        writer.add_uint32(f"llama.{key}", 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with pytest.raises(UserError, match=r"^model.gguf: its header lacks token_embd.weight"):
        read_shape([tmp_path / "model.gguf"])
    content = (tmp_path / "model.gguf").read_bytes().replace(b"general.architecture", b"general.architectura")
    (tmp_path / "model.gguf").write_bytes(content)
    with pytest.raises(UserError, match=r"^model.gguf: its header lacks general.architecture"):
        read_shape([tmp_path / "model.gguf"])


def test_the_shards_of_a_model_are_one(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "GGUFWriter", partial(gguf.GGUFWriter, split_max_tensors=8))
    tiny_gguf.write(tmp_path / "split.gguf", "tiny-ada", 1)
    shards = sorted(tmp_path.glob("split-*.gguf"))
    assert len(shards) == 3
    assert read_shape(shards) == read_shape([tiny])
    with pytest.raises(UserError, match=r"^split-00001-of-00003.gguf: is one of 3 shards, and 2 are here"):
        read_shape(shards[:2])


def test_a_vocabulary_of_many_words_is_read_at_once(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_token_list([f"word {i}" for i in range(100_000)])
    writer.add_token_scores([0.5] * 100_000)
    for key in ("block_count", "context_length", "embedding_length"):
        writer.add_uint32(f"llama.{key}", 1)
    writer.add_tensor("token_embd.weight", np.zeros((100_000, 1), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shape = read_shape([tmp_path / "model.gguf"])
    assert (shape.vocabulary, shape.layers) == (100_000, 1)


def test_weights_are_told_apart_by_where_they_go(tmp_path: Path) -> None:
    tensors = ("output_norm.weight", "output.weight", "per_layer_token_embd.weight", "rope_freqs.weight")
    blocks = (
        "blk.0.attn_norm.weight",
        "blk.1.ffn_up_exps.weight",
        "blk.1.ffn_gate_inp.weight",
        "blk.2.nextn.eh_proj.weight",
    )
    keys = {"block_count": 3, "nextn_predict_layers": 1}
    shape = read_shape([made(tmp_path / "model.gguf", "glm4moe", keys, tensors + blocks)])
    one = 2 * 4 * 4
    assert (shape.layers, shape.draft_layers, shape.parameters) == (2, 1, 9 * 8)
    assert (shape.input_bytes, shape.output_bytes) == (2 * one, 3 * one)
    assert (shape.block_bytes, shape.expert_bytes) == (3 * one, one)
    assert not shape.tied


def test_a_tied_embedding_counts_for_the_output_too(tmp_path: Path) -> None:
    shape = read_shape([made(tmp_path / "model.gguf", "gemma2", {"block_count": 2}, ("output_norm.weight",))])
    assert (shape.tied, shape.input_bytes, shape.output_bytes) == (True, 32, 64)


WINDOW = {"attention.sliding_window": 64}
HEADS_AT_1_AND_4 = [2 if i % 3 == 1 else 0 for i in range(6)]


@pytest.mark.parametrize(
    ("architecture", "keys", "kept"),
    [
        ("llama", WINDOW, ("F", 2, 0)),
        ("phi3", WINDOW, ("F", 2, 0)),
        ("gemma3", WINDOW, ("SSSSSF", 2, 64)),
        ("gemma3", {}, ("F", 2, 0)),
        ("gemma2", {}, ("SF", 2, 4096)),
        ("gpt-oss", WINDOW, ("SF", 2, 64)),
        ("cohere2", WINDOW | {"attention.sliding_window_pattern": 3}, ("SSF", 2, 64)),
        ("cohere2moe", WINDOW, ("FSSS", 2, 64)),
        ("llama4", {}, ("SSSF", 2, 8192)),
        ("llama4", {"attention.sliding_window": 0}, ("F", 2, 0)),
        ("exaone4", WINDOW, ("F", 2, 0)),
        ("exaone4", WINDOW | {"block_count": 64}, ("SSSF", 2, 64)),
        ("gemma4", WINDOW | {"attention.sliding_window_pattern": [True, True, False] * 2}, ("SSF", 2, 64)),
        (
            "gemma4",
            WINDOW | {"attention.sliding_window_pattern": [1] * 6, "attention.shared_kv_layers": 2},
            ("SSSS--", 2, 64),
        ),
        ("gemma3n", WINDOW | {"block_count": 25}, ("SSSSFSSSSFSSSSFSSSSF-----", 2, 64)),
        ("mamba", {}, ("R", 0, 0)),
        ("falcon-h1", {}, ("B", 2, 0)),
        ("granitehybrid", {"attention.head_count_kv": HEADS_AT_1_AND_4}, ("RFR", 2, 0)),
        ("lfm2", {"attention.head_count_kv": HEADS_AT_1_AND_4}, ("RFR", 2, 0)),
        ("lfm2", WINDOW | {"attention.head_count_kv": HEADS_AT_1_AND_4}, ("RSR", 2, 64)),
        ("nemotron_h", {"attention.head_count_kv": [0, 0, 4] * 2, "feed_forward_length": [0, 9, 0] * 2}, ("R-F", 4, 0)),
        ("qwen3next", {}, ("RRRF", 2, 0)),
        ("qwen35", {"full_attention_interval": 2}, ("RF", 2, 0)),
        ("qwen35moe", {"attention.recurrent_layers": [True, False, False] * 2}, ("RFF", 2, 0)),
        ("deci", {"attention.head_count_kv": [4, 2, 0] * 2}, ("FF-", (4, 2, 0), 0)),
    ],
)
def test_blocks_keep_what_their_architecture_says(
    tmp_path: Path, architecture: str, keys: Keys, kept: tuple[str, int | tuple[int, ...], int]
) -> None:
    shape = shape_of(tmp_path, architecture, keys)
    assert (shape.kinds, shape.kv_heads, shape.sliding_window) == kept
    assert not shape.assumed


@pytest.mark.parametrize("architecture", ["not-yet-known", "glm-dsa"])
def test_an_unknown_architecture_may_keep_everything(tmp_path: Path, architecture: str) -> None:
    keys: Keys = {"attention.head_count_kv": [0, 2, 1] * 2, **WINDOW}
    shape = shape_of(tmp_path, architecture, keys)
    assert (shape.assumed, shape.kinds, shape.kv_heads, shape.state_size) == (True, "F", 2, 0)
    state = {"ssm.conv_kernel": 4, "ssm.inner_size": 8, "ssm.state_size": 16}
    shape = shape_of(tmp_path, architecture, {**keys, **state})
    assert (shape.assumed, shape.kinds, shape.kv_heads, shape.state_size) == (True, "B", 2, 3 * 8 + 8 * 16)


MAMBA = {"ssm.conv_kernel": 4, "ssm.inner_size": 8, "ssm.state_size": 16}


@pytest.mark.parametrize(
    ("architecture", "keys", "size"),
    [
        ("mamba", MAMBA, 3 * 8 + 8 * 16),
        ("mamba2", MAMBA | {"ssm.group_count": 2}, 3 * (8 + 2 * 2 * 16) + 8 * 16),
        ("rwkv7", {"wkv.head_size": 64}, 4 * 2 + 4 * 64),
        ("arwkv7", {"wkv.head_size": 64, "token_shift_count": 1}, 4 + 4 * 64),
        ("lfm2", {"shortconv.l_cache": 3, "attention.head_count_kv": [0, 2] * 3}, 4 * 2),
        (
            "kimi-linear",
            {"ssm.conv_kernel": 4, "kda.head_dim": 8, "attention.head_count_kv": [0, 2] * 3},
            3 * 3 * 2 * 8 + 8 * 8 * 2,
        ),
    ],
)
def test_a_recurrent_state_has_its_architectures_size(tmp_path: Path, architecture: str, keys: Keys, size: int) -> None:
    assert shape_of(tmp_path, architecture, keys).state_size == size


def test_mla_keeps_its_compressed_keys_alone(tmp_path: Path) -> None:
    lengths = {"attention.key_length": 576, "attention.value_length": 512, "attention.kv_lora_rank": 512}
    absorbed = {"attention.key_length_mla": 256, "attention.value_length_mla": 256, "attention.head_count_kv": 1}
    shape = shape_of(tmp_path, "deepseek2", {**lengths, **absorbed})
    assert (shape.mla_rank, shape.key_length, shape.value_length, shape.kv_heads) == (512, 576, 512, 1)
    assert shape_of(tmp_path, "deepseek2", lengths).mla_rank == 0  # a file of the old kind


@pytest.mark.parametrize("architecture", tiny_models.KEYS)
def test_what_a_block_computes_at_once_grows_with_what_it_computes(tmp_path: Path, architecture: str) -> None:
    sizes: list[int] = []
    for factor in (1, 4):
        changed = {"feed_forward_length": factor * 768, "expert_feed_forward_length": factor * 1024}
        tiny_models.write(tmp_path / "model.gguf", architecture, changed)
        sizes.append(read_shape([tmp_path / "model.gguf"]).activations)
    assert 0 < sizes[0] < sizes[1]
