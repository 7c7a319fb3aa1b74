"""The lock: which files a model triple means, and what their headers say of the memory that they need.

`make lock` writes `models.lock.yaml`; nothing in it was invented: what no hub could be asked for is `unverified`.
"""

import math
import re
from pathlib import Path
from typing import Annotated, Self, cast

import yaml
from pydantic import Field, ValidationError, model_validator

from config.errors import UserError
from config.parts import Frozen, Model
from config.scalars import Filename, Quant, Repo, Revision

LOCK_FILE = Path(__file__).parents[1] / "models.lock.yaml"
"""Beside the stack files."""
_FIRST_LINE = "# Written by `make lock STACK=…` from what each hub reports; edit the stack files instead.\n"
_COMMIT = re.compile(r"[0-9a-f]{40,64}")

Commit = Annotated[str, Field(pattern=rf"^{_COMMIT.pattern}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class LockedFile(Frozen):
    """One file of a model."""

    path: Filename = Field(description="in the repository")
    bytes: int = Field(ge=1, description="its size")
    sha256: Sha256 = Field(description="its digest, as the hub reports it")


class Shape(Frozen):
    """What the headers of a model's GGUFs say of the memory that it needs (read by ops.gguf_header, for config.fit)."""

    architecture: str = Field(min_length=1, description="general.architecture, such as qwen3moe")
    parameters: int = Field(ge=1, description="weights in all tensors")
    tensor_bytes: int = Field(ge=1, description="bytes of all tensors")
    layers: int = Field(ge=1, description="repeating blocks")
    draft_layers: int = Field(default=0, ge=0, description="blocks behind them that only speculate: never loaded")
    trained_context: int = Field(ge=1, description="tokens of context that it was trained with")
    vocabulary: int = Field(ge=1, description="tokens that it knows")
    embedding_length: int = Field(ge=1, description="values of one token between two blocks")
    heads: int = Field(default=0, ge=0, description="query heads of a block, the most where blocks differ")
    kinds: str = Field(
        pattern=r"^[FSRB-]+$",
        description=(
            "what the blocks keep of a context, from the first block on and again: F all tokens, S a sliding window "
            "of them, R a recurrent state, B a state and all tokens, - nothing"
        ),
    )
    kv_heads: int | tuple[int, ...] = Field(description="key and value heads: of each block, or as kinds")
    key_length: int = Field(default=0, ge=0, description="values of one head's key")
    value_length: int = Field(default=0, ge=0, description="values of one head's value")
    mla_rank: int = Field(default=0, ge=0, description="rank of MLA's keys, which hold the values too; 0 is no MLA")
    sliding_window: int = Field(default=0, ge=0, description="tokens that S blocks see")
    sliding_key_length: int | None = Field(default=None, ge=0, description="S blocks' key_length, if another")
    sliding_value_length: int | None = Field(default=None, ge=0, description="S blocks' value_length, if another")
    state_size: int = Field(default=0, ge=0, description="F32 values of one slot's recurrent state in one block")
    activations: int = Field(ge=0, description="F32 values of one token that a block's widest step holds at once")
    input_bytes: int = Field(ge=0, description="the input embedding, which stays in host memory")
    output_bytes: int = Field(ge=0, description="the output layer, its own copy of the input embedding if tied")
    tied: bool = Field(default=False, description="whether the output is the input embedding once more")
    block_bytes: int = Field(ge=0, description="all repeating blocks")
    expert_bytes: int = Field(default=0, ge=0, description="the experts' part of block_bytes")
    assumed: bool = Field(default=False, description="an architecture without a known rule: the most it may keep")


class LockedModel(Frozen):
    """One triple, by what picks its files (its name is the stack's own affair), and the files that it means."""

    repo: Repo
    revision: Revision = "main"
    quant: Quant
    filename: Filename | None = None
    commit: Commit | None = Field(default=None, description="what the revision was when it was locked")
    files: tuple[LockedFile, ...] = Field(default=(), description="in order: all shards of a split GGUF")
    shape: Shape | None = None
    unverified: bool = Field(default=False, description="no hub could be asked yet: nothing is known but the triple")

    @model_validator(mode="after")
    def _whole_or_unverified(self) -> Self:
        known = [self.commit is not None, bool(self.files), self.shape is not None]
        if any(known) if self.unverified else not all(known):
            raise ValueError("an entry has commit, files and shape, or is unverified: true and has none of them")
        if self.commit and is_commit(self.revision) and self.revision != self.commit:
            raise ValueError(f"its revision is the commit {self.revision}, and its commit is another")
        return self

    @property
    def bytes(self) -> int:
        """All files together; 0 where nothing is known."""
        return sum(file.bytes for file in self.files)

    def is_of(self, model: Model) -> bool:
        """Whether this is the entry of a stack file's model."""
        return source(self) == source(model)


class Lock(Frozen):
    """The whole file."""

    models: tuple[LockedModel, ...] = ()

    @model_validator(mode="after")
    def _one_entry_each(self) -> Self:
        sources = [source(entry) for entry in self.models]
        twice = next((found for found in sources if sources.count(found) > 1), None)
        if twice:
            raise ValueError(f"{twice[0]} {twice[2]} has two entries")
        return self

    def of(self, model: Model) -> LockedModel | None:
        """The entry of a model; None where `make lock` has to be run."""
        return next((entry for entry in self.models if entry.is_of(model)), None)


def source(model: Model | LockedModel) -> tuple[str, str, str, str | None]:
    """What picks a model's files: repository, revision, quant and file name."""
    return model.repo, model.revision, model.quant, model.filename


def is_commit(revision: str) -> bool:
    """Whether a revision is a commit, which never moves, and no branch or tag."""
    return bool(_COMMIT.fullmatch(revision))


def load_lock(path: Path = LOCK_FILE) -> Lock:
    """The lock file's entries; none where there is no such file. UserError where it is not as `make lock` writes it."""
    try:
        return _parsed(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Lock()
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = f"cannot be read ({' '.join(str(error).split())})"
    raise UserError(f"{path}: {reason}: restore it from git, or remove it and run make lock")


def lock_text(lock: Lock, before: str = "") -> str:
    """The lock file's content, sorted by repository; an entry that stands so in `before` keeps its very lines."""
    standing = {source(entry): (entry, lines) for entry, lines in _blocks(before)}
    entries = tuple(sorted(lock.models, key=lambda entry: [part or "" for part in source(entry)]))
    blocks: list[str] = []
    for entry in entries:
        known, lines = standing.get(source(entry), (None, ""))
        blocks.append(lines if known == entry else entry_text(entry))
    head = _FIRST_LINE + ("models:\n" if entries else "models: []\n")
    text = head + "".join(blocks)
    if not _says(text, Lock(models=entries)):  # lines written by hand do not always stand beside others
        text = head + "".join(map(entry_text, entries))
    return text


def entry_text(entry: LockedModel) -> str:
    """One entry as YAML: a line a value, and a line a file."""
    values = entry.model_dump(mode="json", exclude_defaults=True)
    if "files" in values:
        values["files"] = [_OneLine(file) for file in values["files"]]
    return yaml.dump([values], Dumper=_Dumper, sort_keys=False, width=math.inf)


def _parsed(text: str) -> Lock:
    # its own reader: the safe one takes seconds for a long file
    content = cast("object", yaml.load(text, Loader=yaml.CSafeLoader))
    return Lock.model_validate(content, strict=False)


def _says(text: str, lock: Lock) -> bool:
    try:
        return _parsed(text) == lock
    except (ValueError, yaml.YAMLError):
        return False


def _blocks(text: str) -> list[tuple[LockedModel, str]]:
    """Each entry of a lock file with the lines that it stands in."""
    entries = _parsed(text).models if text else ()
    if not entries:
        return []
    root = yaml.compose(text, Loader=yaml.CSafeLoader)
    nodes = next(value for key, value in cast("yaml.MappingNode", root).value if key.value == "models").value
    lines = text.splitlines(keepends=True)
    starts = [node.start_mark.line for node in nodes]
    ends = [*starts[1:], len(lines)]
    return [(entry, "".join(lines[start:end])) for entry, start, end in zip(entries, starts, ends, strict=True)]


class _OneLine(dict[str, object]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes a list of scalars on one line, too."""


def _one_line(dumper: yaml.SafeDumper, value: _OneLine) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=True)


def _list(dumper: yaml.SafeDumper, value: list[object]) -> yaml.Node:
    flow = not any(isinstance(item, dict) for item in value)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=flow)


_Dumper.add_representer(_OneLine, _one_line)
_Dumper.add_representer(list, _list)
