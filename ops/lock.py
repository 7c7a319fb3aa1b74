"""Writes into models.lock.yaml what its hub says of each model that a stack names, and nothing that none said."""

import difflib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from pydantic import ValidationError

from components.scripts.gguf_choice import Unclear, choose
from config.errors import ConfigError, Problem, UserError
from config.load import load_unadopted
from config.lock import (
    LOCK_FILE,
    Lock,
    LockedFile,
    LockedModel,
    Shape,
    entry_text,
    is_commit,
    load_lock,
    lock_text,
    source,
)
from config.model import StackConfig
from config.naming import Where, models
from config.parts import Model
from config.secrecy import problem, shown
from local.console import say
from ops import gguf_header
from ops.hub import Away, Hub, HubFile, Refused, hub_of
from ops.replace import replace_file

FIRST_BYTES = 4 * 2**20
"""Of a file, at first: most headers end before, and tokenizers of many words after."""
MOST_BYTES = 256 * 2**20
"""No header is longer: a file that goes on is no GGUF."""
_MAGIC = b"GGUF"
_Source: TypeAlias = "tuple[str, str, str, str | None]"
_Named: TypeAlias = "list[tuple[Where, Model]]"


def lock(file: Path, *, update: str | None = None) -> None:
    """Lock the models of a stack file: those without a verified entry, and the one named `update`, read anew.

    All other entries stay as they are; those that no stack file beside it names any more are dropped. Where the hub
    cannot be reached, a new model's entry is `unverified`. Raises ConfigError with every model whose files the hub
    does not tell, once the others are written, and UserError where nothing can be done.
    """
    config, path = load_unadopted(file), file.parent / LOCK_FILE.name
    content = path.read_bytes() if path.exists() else b""
    before, named = load_lock(path), list(models(config))
    asked = _to_ask(named, before, update)
    found, problems = _answers(config, asked, before) if asked else ({}, [])
    standing = {source(entry): entry for entry in before.models}
    dropped = _dropped(standing, file, config)
    entries = {of: entry for of, entry in (standing | found).items() if of not in dropped}
    after = Lock(models=tuple(entries.values()))
    if entries != standing:
        replace_file(path, content, lock_text(after, content.decode()).encode(), again="run make lock again")
    others = {*entries} - {source(model) for _, model in named}
    if others:
        say(f"kept: {len(others)} of other stacks")
    for _, model in named:
        _tell(model, before.of(model), after.of(model))
    for entry in dropped.values():
        say(f"dropped: {_triple(entry)}: no stack file names it any more")
    if problems:
        raise ConfigError(tuple(problems))


def _to_ask(named: _Named, before: Lock, update: str | None) -> _Named:
    """The models that the hub has to be asked for, each triple once."""
    names = [model.name for _, model in named]
    if update is not None and update not in names:
        raise UserError(f"UPDATE: {shown(update)}: is no model of the stack: write one of {', '.join(names)}")
    asked: dict[_Source, tuple[Where, Model]] = {}
    for where, model in named:
        entry = before.of(model)
        moves = model.name == update and not is_commit(model.revision)
        if entry is None or entry.unverified or moves:
            asked.setdefault(source(model), (where, model))
    return list(asked.values())


def _answers(config: StackConfig, asked: _Named, before: Lock) -> tuple[dict[_Source, LockedModel], list[Problem]]:
    """New entries, and what is wrong with the models that have none."""
    found: dict[_Source, LockedModel] = {}
    problems: list[Problem] = []
    with hub_of(config) as hub:
        for i, (where, model) in enumerate(asked):
            try:
                found[source(model)] = ask(hub, model)
            except Refused as refused:
                problems.append(problem((*where, refused.key), getattr(model, refused.key), str(refused)))
            except Away as away:
                told = f"{hub.called} cannot be reached ({away})"
                remedy = "check hub.endpoint or HF_ENDPOINT, the network and its proxies, then run make lock again"
                say(f"{told}: what it was to be asked is unverified: {remedy}")
                for key, late in asked[i:]:
                    known = before.of(late)
                    if known and not known.unverified:
                        remedy = "it stays as it was locked: run make lock again when the hub is there"
                        problems.append(problem((*key, "name"), late.name, f"{told}: {remedy}"))
                    else:
                        found[source(late)] = _new(late, unverified=True)
                break
    return found, problems


def ask(hub: Hub, model: Model) -> LockedModel:
    """What the hub says of a model now; Away or Refused."""
    commit, listed = hub.files(model)
    key = _file_key(model)
    try:
        paths = choose([file.path for file in listed], model.quant, model.filename)
    except Unclear as unclear:
        raise Refused(key, f"{model.repo} at {model.revision} {unclear}") from None
    by_path = {file.path: file for file in listed}
    files = [by_path[path] for path in paths]
    for file in files:
        if file.sha256 is None or file.bytes is None:
            remedy = "name a hub that does, or a file that is kept in Git LFS or Xet"
            raise Refused(key, f"{hub.called} reports no SHA-256 of {file.path}: {remedy}")
    try:
        locked = tuple(LockedFile(path=file.path, bytes=file.bytes or 0, sha256=file.sha256 or "") for file in files)
        return _new(model, commit=commit, files=locked, shape=_shape(hub, model, commit, files))
    except ValidationError as error:
        first = error.errors()[0]
        told = f"{paths[0]} cannot be locked as {hub.called} reports it ({_place(first['loc'])}{first['msg']})"
        raise Refused(key, f"{told}: set filename or revision to another") from None


def _new(model: Model, **values: object) -> LockedModel:
    triple = {"repo": model.repo, "revision": model.revision, "quant": model.quant, "filename": model.filename}
    return LockedModel.model_validate(triple | values)


def _file_key(model: Model) -> str:
    """What picks the file."""
    return "filename" if model.filename else "quant"


def _place(where: Iterable[object]) -> str:
    return "".join(f"{part}: " for part in where)


def _shape(hub: Hub, model: Model, commit: str, files: Sequence[HubFile]) -> Shape:
    """What the files' headers say, of which no more is read than it takes."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / Path(file.path).name for file in files]
        for file, path in zip(files, paths, strict=True):
            _begin(hub, model, commit, file, path)
        try:
            return gguf_header.read_shape(paths)
        except UserError as error:
            raise Refused(_file_key(model), str(error)) from None


def _begin(hub: Hub, model: Model, commit: str, file: HubFile, path: Path) -> None:
    """Put the file's header into a file of its full length that has nothing after."""
    size, filled = file.bytes or 0, 0
    with path.open("w+b") as sparse:
        sparse.truncate(size)
        while not (filled and gguf_header.is_whole(path, filled)):
            end = min(max(FIRST_BYTES, 2 * filled), size)
            sparse.seek(0)
            if filled == size or end > MOST_BYTES or (filled and sparse.read(len(_MAGIC)) != _MAGIC):
                raise Refused(
                    _file_key(model), f"{file.path} is no GGUF with a header: choose another file or revision"
                )
            sparse.seek(filled)
            sparse.writelines(hub.read(model, commit, file, filled, end))
            sparse.flush()
            filled = end


def _dropped(standing: Mapping[_Source, LockedModel], file: Path, config: StackConfig) -> dict[_Source, LockedModel]:
    """The entries that no stack file names; none where one cannot be read."""
    configs = [config]
    for other in sorted(file.parent.glob("Pulumi.*.yaml")):
        if other == file:
            continue
        try:
            configs.append(load_unadopted(other))
        except UserError as error:
            reason = str(error).splitlines()[0]
            say(f"no entry is dropped, as nobody knows which models {other.name} names: {reason}")
            return {}
    named = {source(model) for config in configs for _, model in models(config)}
    return {of: entry for of, entry in standing.items() if of not in named}


def _tell(model: Model, before: LockedModel | None, after: LockedModel | None) -> None:
    """One line of what became of a model's entry, and the lines of it that changed."""
    if after is None:  # refused, as the error at the end says
        return
    if after.unverified:
        say(f"unverified: {model.name}: {_triple(after)}")
    elif before is None or before.unverified:
        say(f"added: {model.name}: {_triple(after)}: {_size(after)}")
    elif before == after:
        say(f"kept: {model.name}: {_triple(after)}: {_size(after)}")
    else:
        moved = f"from {_commit(before)}, {_size(before)}, to {_commit(after)}, {_size(after)}"
        say(f"moved: {model.name}: {_triple(after)} {moved}")
        lines = difflib.ndiff(entry_text(before).splitlines(), entry_text(after).splitlines())
        for line in lines:
            if line.startswith(("+ ", "- ")):
                say(line)


def _triple(entry: LockedModel) -> str:
    return " ".join(filter(None, (entry.repo, entry.quant, entry.filename, f"at {entry.revision}")))


def _size(entry: LockedModel) -> str:
    files = "1 file" if len(entry.files) == 1 else f"{len(entry.files)} files"
    return f"{files}, {entry.bytes / 1e9:.3g} GB"


def _commit(entry: LockedModel) -> str:
    return (entry.commit or "")[:12]
