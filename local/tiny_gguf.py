"""Tiny models of random weights: whole GGUF files that llama-server loads in no time and that say letters for ever."""

from pathlib import Path
from string import ascii_lowercase

import gguf
import numpy as np
from numpy.typing import NDArray

CONTEXT = 4096
_WIDTH, _LAYERS, _HEADS, _INNER = 64, 2, 4, 128
_CONTROL = ["<unk>", "<s>", "</s>"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_LETTERS = [f"\u2581{letter}" for letter in ascii_lowercase]  # as SentencePiece writes a word's beginning
_TOKENS = _CONTROL + _BYTES + _LETTERS
_TYPES = (
    [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    + [gguf.TokenType.BYTE] * len(_BYTES)
    + [gguf.TokenType.NORMAL] * len(_LETTERS)
)
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
# The first dimension is the same for every token, and no layer reads or changes it: it only lifts the letters' output
# rows above the others, which are zero. Whatever the rest says, a letter comes next, never the end or half a character.
_CONSTANT, _LETTER_LIFT = 4.0, 200.0
_SPREAD = 0.3  # with less, it soon says one letter again and again


def write(path: Path, name: str, seed: int) -> None:
    """Write the model `name` to `path` (half a megabyte, F32): the same name and seed give the same bytes."""
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, name)
    for tensor, values in _tensors(np.random.default_rng(seed)).items():
        writer.add_tensor(tensor, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, name: str) -> None:
    writer.add_name(name)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_INNER)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(_TOKENS))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(_TOKENS)
    writer.add_token_scores([0.0] * len(_TOKENS))
    writer.add_token_types(_TYPES)
    writer.add_unk_token_id(_TOKENS.index("<unk>"))
    writer.add_bos_token_id(_TOKENS.index("<s>"))
    writer.add_eos_token_id(_TOKENS.index("</s>"))
    writer.add_chat_template(_TEMPLATE)


def _tensors(rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Every weight by its name; a matrix has a row for each value that it puts out."""
    embedding = rng.normal(0, 1, (len(_TOKENS), _WIDTH))
    embedding[:, 0] = _CONSTANT
    output = np.zeros((len(_TOKENS), _WIDTH))
    output[-len(_LETTERS) :] = rng.normal(0, 0.5, (len(_LETTERS), _WIDTH))
    output[-len(_LETTERS) :, 0] = _LETTER_LIFT
    all_but_first = np.ones(_WIDTH)
    all_but_first[0] = 0
    tensors = {"token_embd.weight": embedding, "output_norm.weight": np.ones(_WIDTH), "output.weight": output}
    for block in (f"blk.{layer}" for layer in range(_LAYERS)):
        tensors |= {f"{block}.{norm}_norm.weight": all_but_first for norm in ("attn", "ffn")}
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}.{part}.weight"] = rng.normal(0, _SPREAD, (_WIDTH, _WIDTH))
        for part in ("ffn_gate", "ffn_up"):
            tensors[f"{block}.{part}.weight"] = rng.normal(0, _SPREAD, (_INNER, _WIDTH))
        tensors[f"{block}.ffn_down.weight"] = rng.normal(0, _SPREAD, (_WIDTH, _INNER))
        for part in ("attn_output", "ffn_down"):
            tensors[f"{block}.{part}.weight"][0] = 0
    return tensors
