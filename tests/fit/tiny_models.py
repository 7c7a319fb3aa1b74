"""Whole GGUF files of zeros, one for each kind of cache: small weights, and heads that make a cache of some size."""

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np

WIDTH, INNER, LAYERS, CONTEXT = 256, 768, 6, 32768
_HEADS, _KV_HEADS, _HEAD = 8, 4, 64
_TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
_TYPES = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [gguf.TokenType.BYTE] * 256

Keys = Mapping[str, int | float | list[int]]
Shapes = dict[str, tuple[int, ...]]
"""A tensor's dimensions by its name, rows first."""

_ATTENTION: Keys = {
    "attention.head_count": _HEADS,
    "attention.head_count_kv": _KV_HEADS,
    "attention.key_length": _HEAD,
    "attention.value_length": _HEAD,
    "rope.dimension_count": _HEAD,
}
_EXPERTS: Keys = {"expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 128}
# as GLM-4.7-Flash has it, a quarter as wide
_MLA: Keys = {
    "attention.head_count": _HEADS,
    "attention.head_count_kv": 1,
    "attention.key_length": 576,
    "attention.value_length": 512,
    "attention.key_length_mla": 128,
    "attention.value_length_mla": 128,
    "attention.q_lora_rank": 192,
    "attention.kv_lora_rank": 512,
    "rope.dimension_count": 64,
    "leading_dense_block_count": 1,
    "expert_shared_count": 1,
    "expert_gating_func": 2,
}
_STATES: Keys = {
    "attention.head_count": _HEADS,
    "attention.head_count_kv": [0, 0, _KV_HEADS, 0, 0, _KV_HEADS],
    "attention.key_length": _HEAD,
    "attention.value_length": _HEAD,
    "rope.dimension_count": _HEAD,
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2 * WIDTH,
    "ssm.state_size": 128,
    "ssm.time_step_rank": 16,
    "ssm.group_count": 1,
}
KEYS: dict[str, Keys] = {
    "llama": _ATTENTION,
    "gemma3": {**_ATTENTION, "attention.sliding_window": 512},
    "deepseek2": {**_MLA, **_EXPERTS},
    "qwen3moe": {**_ATTENTION, **_EXPERTS},
    "granitehybrid": _STATES,
}
"""What each architecture's header says beside what all of them say."""


def write(path: Path, architecture: str, changed: Keys | None = None) -> None:
    """Write a model of one of the architectures of `KEYS`, some keys changed."""
    writer = gguf.GGUFWriter(path, architecture)
    common: Keys = {
        "context_length": CONTEXT,
        "embedding_length": WIDTH,
        "block_count": LAYERS,
        "feed_forward_length": INNER,
        "attention.layer_norm_rms_epsilon": 1e-5,
    }
    for key, value in {**common, **KEYS[architecture], **(changed or {})}.items():
        _add(writer, f"{architecture}.{key}", value)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_TOKENS)
    writer.add_token_scores([0.0] * len(_TOKENS))
    writer.add_token_types(_TYPES)
    for name, shape in _tensors(architecture).items():
        writer.add_tensor(name, np.zeros(shape, np.float32 if len(shape) == 1 or ".ssm_" in name else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: float | list[int]) -> None:
    if isinstance(value, list):
        writer.add_array(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    else:
        writer.add_uint32(key, value)


def _tensors(architecture: str) -> Shapes:
    tensors: Shapes = {"token_embd.weight": (len(_TOKENS), WIDTH), "output_norm.weight": (WIDTH,)}
    if architecture != "gemma3":  # tied
        tensors["output.weight"] = (len(_TOKENS), WIDTH)
    for layer in range(LAYERS):
        block = {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), **_block(architecture, layer)}
        tensors |= {
            f"blk.{layer}.{name}" if "." in name or name in {"ssm_a", "ssm_d"} else f"blk.{layer}.{name}.weight": shape
            for name, shape in block.items()
        }
    return tensors


def _block(architecture: str, layer: int) -> Shapes:
    dense = {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
    sparse = {
        "ffn_gate_inp": (8, WIDTH),
        "ffn_gate_exps": (8, 128, WIDTH),
        "ffn_up_exps": (8, 128, WIDTH),
        "ffn_down_exps": (8, WIDTH, 128),
    }
    shared = {"ffn_gate_shexp": (128, WIDTH), "ffn_up_shexp": (128, WIDTH), "ffn_down_shexp": (WIDTH, 128)}
    norms = {"attn_q_norm": (_HEAD,), "attn_k_norm": (_HEAD,)}
    match architecture:
        case "gemma3":
            after = {"post_attention_norm": (WIDTH,), "post_ffw_norm": (WIDTH,)}
            return {**_attention(), **norms, **after, **dense}
        case "deepseek2":
            return {**_mla(), **(sparse | shared if layer else dense)}
        case "qwen3moe":
            return {**_attention(), **norms, **sparse}
        case "granitehybrid":
            return {**(_attention() if layer in {2, 5} else _state()), **dense}
        case _:
            return {**_attention(), **dense}


def _attention() -> Shapes:
    queries, keys = _HEADS * _HEAD, _KV_HEADS * _HEAD
    return {
        "attn_q": (queries, WIDTH),
        "attn_k": (keys, WIDTH),
        "attn_v": (keys, WIDTH),
        "attn_output": (WIDTH, queries),
    }


def _mla() -> Shapes:
    return {
        "attn_q_a_norm": (192,),
        "attn_kv_a_norm": (512,),
        "attn_q_a": (192, WIDTH),
        "attn_q_b": (_HEADS * 128, 192),
        "attn_kv_a_mqa": (576, WIDTH),
        "attn_k_b": (_HEADS, 512, 64),
        "attn_v_b": (_HEADS, 128, 512),
        "attn_output": (WIDTH, _HEADS * 128),
    }


def _state() -> Shapes:
    inner, groups = 2 * WIDTH, 2 * 128
    return {
        "ssm_in": (2 * inner + groups + 16, WIDTH),
        "ssm_conv1d": (inner + groups, 4),
        "ssm_conv1d.bias": (inner + groups,),
        "ssm_dt.bias": (16,),
        "ssm_a": (16, 1),
        "ssm_d": (16, 1),
        "ssm_norm": (1, inner),
        "ssm_out": (WIDTH, inner),
    }
