"""Entries of a lock, as `make lock` would write them of models that nobody has."""

from typing import Any

from config.lock import Lock, LockedFile, LockedModel, Shape
from config.model import StackConfig

GB = 10**9
LLAMA = Shape(
    architecture="llama",
    parameters=8 * GB,
    tensor_bytes=17 * GB,
    layers=32,
    trained_context=131072,
    vocabulary=128256,
    embedding_length=4096,
    heads=32,
    kinds="F",
    kv_heads=8,
    key_length=128,
    value_length=128,
    activations=14336,
    input_bytes=GB // 2,
    output_bytes=GB // 2,
    block_bytes=16 * GB,
)
"""A made-up model of 17 GB, whose cache takes 128 KiB a token (f16)."""


def entry(repo: str, **more: Any) -> LockedModel:  # noqa: ANN401 - fields of the entry
    whole = {
        "commit": "0" * 40,
        "files": (LockedFile(path=f"{repo.split('/')[1]}-Q4_K_M.gguf", bytes=17 * GB, sha256="0" * 64),),
        "shape": LLAMA,
    }
    return LockedModel.model_validate({"repo": repo, "quant": "Q4_K_M", **(more or whole)})


def lock_of(config: StackConfig) -> Lock:
    """A lock that knows all models of a stack."""
    models = [served.model for backend in config.backends for served in backend.models]
    return Lock(
        models=tuple(
            entry(model.repo).model_copy(
                update={"quant": model.quant, "filename": model.filename, "revision": model.revision}
            )
            for model in models
        )
    )
