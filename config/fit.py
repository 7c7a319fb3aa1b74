"""The memory that llama-server takes for a model: weights, cache and buffers, on the GPU and on its host.

The rules are those of llama.cpp b11434; functions and files below its src/ are named beside each of them. Its log
tells the same sizes: "model buffer size", "KV buffer size", "RS buffer size", "compute buffer size" and "output
buffer size".
"""

from collections.abc import Mapping
from dataclasses import dataclass

from config.lock import Shape
from config.parts import Runtime
from config.scalars import FlagValue

GIB = 2**30
_F32 = 4
_CACHE_TYPES = {
    "f32": 128,
    "f16": 64,
    "bf16": 64,
    "q8_0": 34,
    "q5_1": 24,
    "q5_0": 22,
    "q4_1": 20,
    "q4_0": 18,
    "iq4_nl": 18,
}
"""Bytes of 32 values (ggml's blocks) of each type that a cache may have (common/arg.cpp's `kv_cache_types`)."""
_OFF = (False, 0, "0", "off", "false", "disabled")
_PAD = 256
"""Caches come in so many tokens (`llama_context`, `llama_kv_cache_iswa`)."""
_UNCOUNTED = {
    *("embedding", "embeddings", "lora", "lora-scaled", "mmproj", "mmproj-url", "mmproj-auto", "spec-type", "no-host"),
    *("model-draft", "spec-draft-model", "override-tensor", "ot", "split-mode", "sm", "tensor-split", "ts", "repack"),
}
"""Flags that change what is taken, and are not counted here."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What lies on one side, in bytes."""

    weights: int
    kv: int
    """Keys, values and recurrent states of all slots."""
    compute: int
    """What is computed in, and what comes out."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What a loaded model takes, in bytes, without the prompt cache and what a GPU's runtime takes for itself."""

    on_gpu: Memory
    on_host: Memory
    checkpoints: int
    """Host memory that copies of sliding windows and recurrent states may come to take besides while slots are busy."""
    assumed: bool
    """Whether the architecture has no known rule, or a flag is set that is not counted."""

    @property
    def device(self) -> int:
        """All on the GPU."""
        return self.on_gpu.total

    @property
    def host(self) -> int:
        """All in host memory, without the checkpoints."""
        return self.on_host.total

    @property
    def weights(self) -> int:
        """The weights, on both sides."""
        return self.on_gpu.weights + self.on_host.weights

    @property
    def kv(self) -> int:
        """Keys, values and recurrent states, on both sides."""
        return self.on_gpu.kv + self.on_host.kv

    @property
    def compute(self) -> int:
        """Buffers, on both sides."""
        return self.on_gpu.compute + self.on_host.compute

    @property
    def total(self) -> int:
        """All on both sides."""
        return self.device + self.host

    def __str__(self) -> str:
        weights, kv, compute = (f"{size / GIB:.1f}" for size in (self.weights, self.kv, self.compute))
        return f"weights {weights}, KV cache {kv}, buffers {compute} GiB"


def fit(shape: Shape, runtime: Runtime) -> Fit:
    """What a model takes when it is served so: where that is not known, the most that it may be."""
    plan = _Plan.of(shape, runtime)
    kept = [block.of_all_slots(plan) for block in _blocks(shape, plan)]
    first = plan.first if plan.kv_on_gpu else shape.layers
    weights_on_gpu, weights_on_host = _weights(shape, plan)
    compute_on_gpu, compute_on_host = _compute(shape, plan)
    return Fit(
        on_gpu=Memory(weights=weights_on_gpu, kv=sum(kept[first:]), compute=compute_on_gpu),
        on_host=Memory(weights=weights_on_host, kv=sum(kept[:first]), compute=compute_on_host),
        checkpoints=plan.checkpoints * plan.slots * sum(block.of_a_checkpoint(plan) for block in _blocks(shape, plan)),
        assumed=shape.assumed or not _UNCOUNTED.isdisjoint(runtime.extra_args),
    )


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """How a server lays a model out."""

    slots: int
    streams: int
    """Caches beside each other: one a slot, or one for all (`--kv-unified`)."""
    cells: int
    """Tokens of one cache: `llama_context`'s n_ctx_seq."""
    window: int
    """Tokens of one cache that holds a sliding window (`llama_kv_cache_iswa`)."""
    slot_window: int
    """Of them, those that one slot sees; 0 where whole contexts are kept."""
    batch: int
    """Tokens that are computed at once: n_ubatch, as many for each slot (`llama_context::graph_reserve`)."""
    flash: bool
    """Flash attention; `auto` counts as on, though a GPU that lacks it turns it off (`resolve_fused_ops`)."""
    key_bytes: int
    """Of 32 values."""
    value_bytes: int
    first: int
    """The first block on the GPU, as the output layer goes there first (`llama_model_base::load_tensors`)."""
    gpu: bool
    kv_on_gpu: bool
    experts_on_host: int
    """Blocks, from the first one on, whose experts stay in host memory."""
    copies: bool
    """Whether the GPU computes large batches with the host's weights, too (`ggml_backend_sched`'s op_offload)."""
    checkpoints: int
    """Of one slot, at the most."""

    @classmethod
    def of(cls, shape: Shape, runtime: Runtime) -> "_Plan":
        flags, slots, tokens = runtime.extra_args, runtime.parallel, runtime.context_size * runtime.parallel
        unified, whole = _on(flags, "kv-unified", "kvu"), _on(flags, "swa-full")
        batch = min(tokens, runtime.batch_size, _number(flags, 512, "ubatch-size", "ub") or tokens)
        cells = _padded(_padded(tokens) // (1 if unified else slots))
        seen = shape.sliding_window * (slots if unified else 1) + batch
        experts = shape.layers if _on(flags, "cpu-moe", "cmoe") else _number(flags, 0, "n-cpu-moe", "ncmoe")
        return cls(
            slots=slots,
            streams=1 if unified else slots,
            cells=cells,
            window=cells if whole else _padded(min(cells, seen)),
            slot_window=0 if whole else min(cells, shape.sliding_window),
            batch=-(-batch // slots) * slots,
            flash=_value(flags, "auto", "flash-attn", "fa") not in _OFF,
            key_bytes=_type_bytes(flags, "cache-type-k", "ctk"),
            value_bytes=_type_bytes(flags, "cache-type-v", "ctv"),
            first=min(max(shape.layers + shape.draft_layers + 1 - runtime.gpu_layers, 0), shape.layers),
            gpu=runtime.gpu_layers > 0,
            kv_on_gpu=_on(flags, "kv-offload", "kvo", default=True),
            experts_on_host=min(experts, shape.layers) if shape.expert_bytes else 0,
            copies=_on(flags, "op-offload", default=True),
            checkpoints=_number(flags, 32, "ctx-checkpoints", "swa-checkpoints", "ctxcp"),
        )


@dataclass(frozen=True)
class _Block:
    kind: str
    token: int
    """Bytes of one token's keys and values."""
    state: int
    """Bytes of one slot's recurrent state."""

    def of_all_slots(self, plan: _Plan) -> int:
        """Bytes that it keeps (`llama_kv_cache`, `llama_memory_recurrent`)."""
        cells = {"F": plan.cells, "B": plan.cells, "S": plan.window}.get(self.kind, 0)
        return self.token * cells * plan.streams + self.state * plan.slots

    def of_a_checkpoint(self, plan: _Plan) -> int:
        """Bytes of a copy of what cannot be rolled back (tools/server/server-context.cpp's `create_checkpoint`)."""
        return self.state + (self.token * plan.slot_window if self.kind == "S" else 0)


def _blocks(shape: Shape, plan: _Plan) -> list[_Block]:
    kinds = [shape.kinds[i % len(shape.kinds)] for i in range(shape.layers)]
    some = (shape.kv_heads,) if isinstance(shape.kv_heads, int) else shape.kv_heads
    heads = [some[i % len(some)] for i in range(shape.layers)]
    lengths = {"S": (shape.sliding_key_length or shape.key_length, shape.sliding_value_length or shape.value_length)}
    sizes = [lengths.get(kind, (shape.key_length, shape.value_length)) for kind in kinds]
    keys = [count * key for count, (key, _) in zip(heads, sizes, strict=True)]
    values = [0 if shape.mla_rank else count * value for count, (_, value) in zip(heads, sizes, strict=True)]
    if not plan.flash:  # TAG_V_CACHE_VARIABLE: without flash attention all rows of values are as long as the longest
        values = [max(values)] * shape.layers
    return [
        _Block(
            kind,
            (key * plan.key_bytes + value * plan.value_bytes) // 32,
            shape.state_size * _F32 if kind in "RB" else 0,
        )
        for kind, key, value in zip(kinds, keys, values, strict=True)
    ]


def _weights(shape: Shape, plan: _Plan) -> tuple[int, int]:
    """On the GPU and on the host; blocks count as equal."""
    output = shape.output_bytes if plan.gpu else 0
    blocks = shape.block_bytes * (shape.layers - plan.first) // shape.layers
    experts = shape.expert_bytes * max(plan.experts_on_host - plan.first, 0) // shape.layers
    here = shape.input_bytes + shape.block_bytes - blocks + experts
    if not plan.gpu:  # a tied output is the input embedding there
        here += shape.output_bytes - (shape.input_bytes if shape.tied else 0)
    return output + blocks - experts, here


def _compute(shape: Shape, plan: _Plan) -> tuple[int, int]:
    """On the GPU and on the host: what `llama_context::sched_reserve` finds to be in use at once, and the output."""
    row, kinds = plan.batch * _F32, {*shape.kinds}
    seen = (plan.cells if kinds & {*"FB"} else 0, plan.window if "S" in kinds else 0)
    masks = sum(seen) * (row // 2 if plan.flash else row)  # build_attn_inp_kq_mask
    scores = 0 if plan.flash else shape.heads * (max(seen) + 2 * shape.key_length) * row  # build_attn_mha
    logits = shape.vocabulary * plan.slots * _F32
    states = shape.state_size * _F32 * plan.slots
    widest = max(shape.activations * row + states, scores, logits)
    moved = 2 * states + shape.activations * row  # build_rs: as they were, and as they are left
    embeddings = shape.embedding_length * row  # four of them wait for text and images (build_inp_embd)
    alone = masks + max(5 * embeddings + widest, moved)
    if not plan.gpu:
        return 0, alone + logits
    host_computes = plan.first > 0 or plan.experts_on_host > 0 or not plan.kv_on_gpu
    copy = shape.block_bytes // shape.layers // 2 if plan.copies and (plan.first or plan.experts_on_host) else 0
    beside = masks + max(4 * embeddings + widest, moved) + copy
    return beside, (alone if host_computes else masks + 4 * embeddings) + logits


def _padded(tokens: int) -> int:
    return -(-tokens // _PAD) * _PAD


def _value(flags: Mapping[str, FlagValue], default: FlagValue, *names: str) -> FlagValue:
    return next((flags[name] for name in names if name in flags), default)


def _number(flags: Mapping[str, FlagValue], default: int, *names: str) -> int:
    """A flag's number; one that is none stops the server, which tells it."""
    text = str(_value(flags, default, *names))
    return int(text) if text.isdecimal() else default


def _on(flags: Mapping[str, FlagValue], *names: str, default: bool = False) -> bool:
    if any(flags.get(f"no-{name}") for name in names):
        return False
    return _value(flags, default, *names) not in _OFF


def _type_bytes(flags: Mapping[str, FlagValue], *names: str) -> int:
    """Of 32 values; a type that no cache may have counts as the largest."""
    return _CACHE_TYPES.get(str(_value(flags, "f16", *names)), _CACHE_TYPES["f32"])
