"""What the header of a GGUF says of the memory that its model needs.

The rules are those of llama.cpp b11434; functions and files below its src/ are named beside each of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import gguf
import numpy as np
from numpy.typing import NDArray

from config.errors import UserError
from config.lock import Shape

_T = TypeVar("_T")
_BAD_HEADER = (ValueError, KeyError, IndexError, OverflowError, OSError)
_INPUTS = ("token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")
"""Tensors of the input layer, which stays on the CPU (llama-arch.cpp's `LLM_TENSOR_LAYER_INPUT`)."""


class _Sliding(NamedTuple):
    """One of so many blocks sees all tokens: the last of them, or the first (`llama_hparams::set_swa_pattern`)."""

    every: int = 0
    first: bool = False
    window: int = 0
    """What a header that names none means."""


_SLIDING = {
    **dict.fromkeys(("afmoe", "cohere2", "exaone4", "mellum", "muse-glimmer", "olmo2"), _Sliding(4)),
    **dict.fromkeys(("cohere2moe", "laguna", "smallthinker"), _Sliding(4, first=True)),
    **dict.fromkeys(("gemma4", "granite_swa", "lfm2", "lfm2moe", "maple", "mimo2", "spark2_5", "step35"), _Sliding()),
    "exaone-moe": _Sliding(4, window=128),
    "gemma2": _Sliding(2, window=4096),
    "gemma3": _Sliding(6),
    "gemma3n": _Sliding(5),
    "gpt-oss": _Sliding(2),
    "llama4": _Sliding(4, window=8192),
    "plamo3": _Sliding(8),
}
"""Architectures whose blocks may see a window alone (`load_swa_pattern` in models/*.cpp); others ignore that key."""
_RECURRENT = ("arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7")
"""Without attention (`llm_arch_is_recurrent`)."""
_BY_HEADS = ("granitehybrid", "jamba", "kimi-linear", "lfm2", "lfm2moe", "nemotron_h", "nemotron_h_moe", "plamo2")
"""Hybrids whose blocks are recurrent where they have no key and value heads (models/*.cpp)."""
_BY_INTERVAL = ("qwen35", "qwen35moe", "qwen3next")
"""Hybrids whose blocks are recurrent but for one of so many (models/*.cpp)."""
_UNLIKE = {"deepseek32", "dream", "glm-dsa", "llada", "llada-moe", "minimax-m3", "rnd1", "t5", "t5encoder"}
"""Architectures whose cache is none that Shape can tell (`llama_model::create_memory`)."""
_KNOWN = {*gguf.MODEL_ARCH_NAMES.values(), *_SLIDING} - _UNLIKE


def read_shape(files: Sequence[Path]) -> Shape:
    """The shape of a model by its GGUFs' headers, all shards in order; what follows the headers is not looked at.

    Raises UserError, which names the file, for what is no GGUF or is cut, and where a key or a shard is missing.
    """
    readers = [_opened(file) for file in files]
    header = _Header(files[0].name, readers[0])
    shards = header.number("split.count") or 1
    if shards != len(files):
        raise UserError(f"{files[0].name}: is one of {shards} shards, and {len(files)} are here: give all of them")
    return _shape(header, [_Tensor.of(tensor) for reader in readers for tensor in reader.tensors])


def is_whole(file: Path, filled: int) -> bool:
    """Whether the first `filled` bytes of a file, which has its full length, hold its header; False for no GGUF."""
    try:
        # what follows `filled` reads as zeros, which never make a header end before them
        return _Reader(file, filled).data_offset <= filled or filled == file.stat().st_size
    except _BAD_HEADER:
        return False


def _opened(file: Path) -> "_Reader":
    try:
        return _Reader(file, file.stat().st_size)
    except _BAD_HEADER as error:
        told = " ".join(str(error).split())
        raise UserError(f"{file.name}: is no GGUF that can be read ({told}): choose another file or revision") from None


class _Reader(gguf.GGUFReader):
    """Keeps each array whole: with an object for each token a vocabulary takes seconds and a gigabyte."""

    def __init__(self, file: Path, end: int) -> None:
        self._end = end
        super().__init__(file)

    def _get_field_parts(
        self, orig_offs: int, raw_type: int
    ) -> tuple[int, list[NDArray[Any]], list[int], list[gguf.GGUFValueType]]:
        if raw_type != gguf.GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind, length = self._get(orig_offs, np.uint32), self._get(orig_offs + 4, np.uint64)
        start, item = orig_offs + 12, gguf.GGUFValueType(int(kind[0]))
        scalar = self.gguf_scalar_to_np.get(item)
        size = int(length[0]) * np.dtype(scalar).itemsize if scalar else self._strings(start, int(length[0]))
        if start + size > self._end:
            raise ValueError("it ends within its header")
        part = self._get(start, scalar, int(length[0])) if scalar else self.data[start : start + size]
        return 12 + size, [kind, length, part], [2], [gguf.GGUFValueType.ARRAY, item]

    def _strings(self, start: int, length: int) -> int:
        """The bytes that so many strings take."""
        view, end = self.data.data, start
        for _ in range(length):
            if end >= self._end:
                break
            end += 8 + int.from_bytes(view[end : end + 8], "little")
        return end - start


class _Tensor(NamedTuple):
    name: str
    values: int
    bytes: int
    rows: int

    @classmethod
    def of(cls, tensor: gguf.ReaderTensor) -> "_Tensor":
        return cls(tensor.name, int(tensor.n_elements), int(tensor.n_bytes), int(tensor.shape[-1]))

    @property
    def block(self) -> int | None:
        """The number of the block that it belongs to."""
        parts = self.name.split(".")
        return int(parts[1]) if parts[0] == "blk" and parts[1].isdecimal() else None


class _Header:
    """The metadata of a model, by keys without its architecture's name."""

    def __init__(self, file: str, reader: gguf.GGUFReader) -> None:
        self._file, self._fields = file, reader.fields
        field = self._fields.get("general.architecture")
        self.architecture = cast("str", self.found("general.architecture", field and field.contents()))

    def numbers(self, key: str) -> list[int]:
        """A number, or one a block; empty where there is none."""
        field = self._fields.get(key) or self._fields.get(f"{self.architecture}.{key}")
        value = cast("int | list[int] | None", field and field.contents())
        return [int(item) for item in (value if isinstance(value, list) else [] if value is None else [value])]

    def number(self, key: str) -> int:
        """A number, the largest where there is one a block; 0 where there is none."""
        return max(self.numbers(key), default=0)

    def needed(self, key: str) -> int:
        """A number that must be there."""
        return self.found(f"{self.architecture}.{key}", self.number(key) or None)

    def each(self, key: str, layers: int, default: int = 0) -> list[int]:
        """One number a block."""
        return ((self.numbers(key) or [default]) * layers)[:layers]

    def found(self, what: str, value: _T | None) -> _T:
        """The value, or UserError that the header lacks it."""
        if value is None:
            raise UserError(f"{self._file}: its header lacks {what}: choose another file or revision")
        return value


def _shape(header: _Header, tensors: Sequence[_Tensor]) -> Shape:
    """All of it; `llama_model_base::load_hparams` has the defaults, `load_tensors` the three places of weights."""
    draft = header.number("nextn_predict_layers")  # TENSOR_SKIP, and no layer of the cache
    layers, width = header.needed("block_count") - draft, header.needed("embedding_length")
    heads = header.each("attention.head_count", layers)
    head = width // heads[0] if heads[0] else 0
    key = header.number("attention.key_length") or head
    value = header.number("attention.value_length") or head
    kinds, kv_heads, window = _blocks(header, layers, heads)
    named = {tensor.name: tensor for tensor in tensors}
    embedding = header.found("token_embd.weight", named.get("token_embd.weight"))
    trunk = [tensor for tensor in tensors if tensor.block is not None and tensor.block < layers]
    outside = sum(tensor.bytes for tensor in tensors if tensor.block is None)
    inputs, tied = sum(named[name].bytes for name in _INPUTS if name in named), "output.weight" not in named
    return Shape(
        architecture=header.architecture,
        parameters=sum(tensor.values for tensor in tensors),
        tensor_bytes=sum(tensor.bytes for tensor in tensors),
        layers=layers,
        draft_layers=draft,
        trained_context=header.needed("context_length"),
        vocabulary=embedding.rows,
        embedding_length=width,
        heads=max(heads),
        kinds="".join(_period(kinds)),
        kv_heads=kv_heads,
        key_length=key + header.number("attention.indexer.key_length"),
        value_length=value,
        mla_rank=header.number("attention.kv_lora_rank") if header.number("attention.key_length_mla") else 0,
        sliding_window=window,
        sliding_key_length=header.number("attention.key_length_swa") or None,
        sliding_value_length=header.number("attention.value_length_swa") or None,
        state_size=_state_size(header, width, heads[0]) if {*kinds} & {*"RB"} else 0,
        activations=_activations(header, max(heads), key, dense=any(".ffn_down.weight" in name for name in named)),
        input_bytes=inputs,
        output_bytes=outside - inputs + (embedding.bytes if tied else 0),
        tied=tied,
        block_bytes=sum(tensor.bytes for tensor in trunk),
        expert_bytes=sum(tensor.bytes for tensor in trunk if "_exps." in tensor.name),
        assumed=header.architecture not in _KNOWN,
    )


def _blocks(header: _Header, layers: int, heads: Sequence[int]) -> tuple[list[str], int | tuple[int, ...], int]:
    """What each block keeps, its key and value heads, and the window of those that slide (`create_memory`)."""
    kv_heads = header.each("attention.head_count_kv", layers) if header.numbers("attention.head_count_kv") else [*heads]
    if header.architecture not in _KNOWN:
        return ["B" if _state_size(header, 1, 1) else "F"] * layers, max(kv_heads), 0
    if header.architecture in _RECURRENT:
        return ["R"] * layers, 0, 0
    if header.architecture == "falcon-h1":
        return ["B"] * layers, max(kv_heads), 0
    recurrent = _recurrent(header, layers, kv_heads)
    window, slides = _slides(header, layers)
    shared = 20 if header.architecture == "gemma3n" else layers - header.number("attention.shared_kv_layers")
    kinds = [
        "R" if recurrent[i] else "-" if not kv_heads[i] or i >= shared else "S" if slides[i] else "F"
        for i in range(layers)
    ]
    some = {count for kind, count in zip(kinds, kv_heads, strict=True) if kind in "SF"}
    return kinds, max(some, default=0) if len(some) < 2 else tuple(_period(kv_heads)), window if "S" in kinds else 0  # noqa: PLR2004


def _recurrent(header: _Header, layers: int, kv_heads: Sequence[int]) -> list[bool]:
    if header.architecture in _BY_HEADS:
        mixed = header.architecture.startswith("nemotron")  # its blocks are attention, state or feed-forward alone
        inner = header.each("feed_forward_length", layers) if mixed else [0] * layers
        return [not kv_heads[i] and not inner[i] for i in range(layers)]
    if header.architecture in _BY_INTERVAL:
        every = header.number("full_attention_interval") or 4
        named = header.numbers("attention.recurrent_layers")
        return [bool(named[i]) if named else (i + 1) % every != 0 for i in range(layers)]
    return [False] * layers


def _slides(header: _Header, layers: int) -> tuple[int, list[bool]]:
    """The window, and which blocks see it alone (`llama_model_base::load_swa_pattern`)."""
    rule = _SLIDING.get(header.architecture)
    if not rule or (header.architecture == "exaone4" and layers != 64):  # noqa: PLR2004 - models/exaone4.cpp
        return 0, [False] * layers
    window = (header.numbers("attention.sliding_window") or [rule.window])[0]
    pattern = header.numbers("attention.sliding_window_pattern")
    if len(pattern) > 1 or not window:
        return window, [bool(window and pattern[i]) for i in range(layers)] if window else [False] * layers
    every = pattern[0] if pattern else rule.every
    full = 0 if rule.first else every - 1
    return window, [not every or i % every != full for i in range(layers)]


def _state_size(header: _Header, width: int, heads: int) -> int:
    """`llama_hparams::n_embd_r` and `n_embd_s` together."""
    if wkv := header.number("wkv.head_size"):
        return width * ((header.number("token_shift_count") or 2) + wkv)
    if kept := header.number("shortconv.l_cache"):
        return width * (kept - 1)
    steps = header.number("ssm.conv_kernel") - 1
    if kda := header.number("kda.head_dim"):
        return 3 * (steps if steps >= 0 else 3) * heads * kda + kda * kda * heads
    inner, state = header.number("ssm.inner_size"), header.number("ssm.state_size")
    return max(steps, 0) * (inner + 2 * header.number("ssm.group_count") * state) + state * inner


def _activations(header: _Header, heads: int, key: int, *, dense: bool) -> int:
    """By `llm_graph_context::build_ffn`, `build_moe_ffn` and `build_attn`, models/deepseek2.cpp and mamba-base.cpp."""
    width, inner = header.number("embedding_length"), header.number("feed_forward_length")
    used = header.number("expert_used_count")
    experts = used * (header.number("expert_feed_forward_length") or inner)
    # what the experts put out is allocated behind what they hold where it does not fit into what is freed by then
    sparse = 3 * experts + (used * width if used * width > 2 * experts else 0)
    attention = heads * (header.number("attention.key_length_mla") + 2 * key)
    groups = header.number("ssm.group_count")
    state = (6 if groups else 5) * header.number("ssm.inner_size") + 4 * groups * header.number("ssm.state_size")
    return max(3 * inner if dense else 0, sparse, attention, state)


def _period(values: Sequence[_T]) -> Sequence[_T]:
    """The shortest beginning that, again and again, makes all of it."""
    sizes = range(1, len(values) + 1)
    return next(values[:n] for n in sizes if all(value == values[i % n] for i, value in enumerate(values)))
