"""Puts the GGUFs of a backend's models onto its volume, each whole or not at all.

`fetch_model.py fetch|link --config /model/model.json --models /models`: `fetch` downloads what is missing to
`/models/files/<owner>/<name>/<commit>/`; `link` does the same, without the hub where all is in place, and points each
model's `model_path`, below `/models/weights/`, at it. A model that fails does not keep the others from coming: each
failure is one line of the log, and all of them together are the pod's termination message.

Runs in pods, beside model_hub.py: nothing but the standard library of Python 3.9 or newer.
The hub's token is HF_TOKEN in the environment.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from model_hub import COMMIT, MORE_TIME, Failure, File, Hub, Record, Terminated, Wanted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)  # as gguf-split names them
_CHUNK = 2**20
_LISTED = 12
_MESSAGE_BYTES = 4095  # a termination message holds 4096 bytes at most
_CUT = "…"


def pick(files: Sequence[File], wanted: Wanted) -> list[File]:
    """The one model that is meant: its file, or all its shards in order."""
    models: dict[str, list[File]] = {}
    for file in sorted(files):
        name = PurePosixPath(file.path).name.casefold()
        if name.endswith(".gguf") and "mmproj" not in name:
            shard = _SHARD.fullmatch(file.path)
            models.setdefault(f"{shard['stem']}/{shard['count']}" if shard else file.path, []).append(file)
    if wanted.filename:
        what = f"file {wanted.filename}"
        found = [model for model in models.values() if any(file.path == wanted.filename for file in model)]
    else:
        what = f"GGUF of quant {wanted.quant}"
        found = [model for model in models.values() if has_quant(model[0].path, wanted.quant)]
    if len(found) != 1:
        where, names = f"{wanted.repo} at {wanted.revision}", _names(found or models.values())
        raise Failure(f"{where} has {'several' if found else 'no'} {what}: set filename to one of: {names}")
    _check_shards(found[0], wanted)
    return found[0]


def has_quant(path: str, quant: str) -> bool:
    """Whether a file's name holds the quant as a whole token: `Q4_K_M` is neither `Q4_K_M_L` nor `IQ4_K_M`."""
    return quant.casefold() in re.split(r"[-.]", PurePosixPath(path).name.casefold())


def _check_shards(model: list[File], wanted: Wanted) -> None:
    shard = _SHARD.fullmatch(model[0].path)
    if shard and len(model) != int(shard["count"]):
        raise Failure(f"{wanted.repo} has {len(model)} of {int(shard['count'])} shards: set another revision")
    if shard and wanted.filename != model[0].path:
        # the loader finds the other shards by the name that it is given, so the server's arguments must hold that name
        raise Failure(f"the model is split into {len(model)} shards: set filename to the first, {model[0].path}")


def _names(models: Iterable[list[File]]) -> str:
    names = [model[0].path for model in models]
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "") if names else "(it has no GGUF)"


class Volume:
    """Where one model lies on the volume, and how its files come there."""

    def __init__(self, root: Path, wanted: Wanted) -> None:
        root = root.resolve()
        self._files = root / "files" / wanted.repo
        self._folder = Path(wanted.model_path).parent.resolve()
        self._wanted = wanted
        weights = root / "weights"
        if weights not in {self._folder, *self._folder.parents}:
            raise Failure(f"model_path {wanted.model_path} does not lie below {weights}: deploy the stack again")
        key = hashlib.sha256(json.dumps(wanted.triple).encode()).hexdigest()[:16]
        self._marker = self._files / f"resolved-{key}.json"

    def resolved(self) -> list[Path] | None:
        """The model's files, if an earlier run found out which they are and all are whole."""
        try:
            marker = json.loads(self._marker.read_text(encoding="utf-8"))
            files = {self._files / marker["commit"] / path: size for path, size in marker["files"]}
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
        return list(files) if all(_size(path) == size for path, size in files.items()) else None

    def fetch(self, hub: Hub) -> list[Path]:
        """Asks the hub which files are meant, and downloads what is missing of them."""
        commit, listed = hub.listing()
        files = pick(listed, self._wanted)
        directory = self._files / commit
        directory.mkdir(parents=True, exist_ok=True)
        missing = [file for file in files if _size(directory / file.path) != file.size]
        needed = sum(file.size - (_size(_part(directory / file.path)) or 0) for file in missing)
        free = shutil.disk_usage(directory).free
        if needed > free:
            remedy = f"raise storage.size_gib, or delete old models below {self._files.parent.parent}"
            raise Failure(f"{needed / 1e9:.2f} GB are to come and the volume has {free / 1e9:.2f} GB free: {remedy}")
        for file in missing:
            url = f"/{quote(self._wanted.repo)}/resolve/{commit}/{quote(file.path)}"
            download(hub, url, file, directory / file.path)
        where = f"{self._wanted.name}: {self._wanted.repo} at {commit}"
        print(f"{where}: {len(files)} file(s) in place, {len(missing)} downloaded")
        record = {"triple": self._wanted.triple, "commit": commit, "files": [file[:2] for file in files]}
        part = _part(self._marker)
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(self._marker)
        return [directory / file.path for file in files]

    def link(self, paths: Sequence[Path]) -> None:
        """Points the path that the server opens, and for a split model each shard's own name, at the files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        shards = {path.name: path for path in paths if _SHARD.fullmatch(path.name)}
        for name, path in {"model.gguf": paths[0], **shards}.items():
            temporary = self._folder / f".{name}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(path, self._folder))
            temporary.replace(self._folder / name)
        opened = Path(self._wanted.model_path)
        if not (opened.exists() and opened.samefile(paths[0])):
            raise Failure(f"the server opens {opened}, which is not {paths[0].name}: set filename to what it opens")
        print(f"{self._wanted.name}: {opened} is {paths[0]}")


def download(hub: Hub, url: str, file: File, target: Path) -> None:
    """Puts one file in place; under its own name it is never half there, nor other than the hub says."""
    part = _part(target)
    part.parent.mkdir(parents=True, exist_ok=True)
    digest = hub.patiently(lambda: _append(hub, url, file, part))
    if file.sha256 not in {None, digest}:
        part.unlink()
        raise Failure(f"{file.path} came with a wrong SHA-256 and was thrown away: run it again")
    part.replace(target)
    directory = os.open(target.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _append(hub: Hub, url: str, file: File, part: Path) -> str:
    """Downloads what the part lacks and returns its SHA-256; ConnectionError where that is to be tried again."""
    with part.open("a+b") as out:
        hub.begin(file, out.tell())
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConnectionError(f"another pod is downloading {file.path}") from None
        out.seek(0)
        digest = hashlib.sha256()
        while chunk := out.read(_CHUNK):
            digest.update(chunk)
        start = out.tell()
        hub.begin(file, start)  # another pod may have gone on with it since
        if start < file.size:
            with hub.open(url, start) as response:
                if start and response.status != 206:  # noqa: PLR2004 - HTTP's own number: the rest, as asked for
                    part.unlink()
                    raise ConnectionError("the hub does not continue a download")
                _check_size(file, start + int(response.headers.get("Content-Length", file.size - start)), part)
                for chunk in hub.rest(file, response):
                    out.write(chunk)
                    digest.update(chunk)
        out.flush()
        os.fsync(out.fileno())
        done = out.tell()
        if done < file.size:
            raise ConnectionError(f"hung up after {done} of {file.size} bytes of {file.path}")
    _check_size(file, done, part)
    return digest.hexdigest()


def _check_size(file: File, size: int, part: Path) -> None:
    if size != file.size:
        part.unlink()
        raise Failure(f"the hub lists {file.path} with {file.size} bytes and serves {size}: run it again later")


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def run(action: str, record: Record, models: Path, token: str | None) -> Iterator[str]:
    """`fetch` or `link`, model by model; yields what is wrong with each that fails. Terminated on SIGTERM."""
    deadline = time.monotonic() + record.deadline_seconds
    for wanted in record.models:
        hub = Hub(record.endpoint, wanted, token, deadline)
        try:
            _provide(action, wanted, Volume(models, wanted), hub)
        except Failure as failure:
            yield f"{wanted.name}: {failure}"
        except OSError as error:
            yield f"{wanted.name}: {_trouble(error, models)}"
        except Terminated:
            raise Terminated(f"{wanted.name}: Kubernetes ended this pod when {hub.progress()}: {MORE_TIME}") from None


def _provide(action: str, wanted: Wanted, volume: Volume, hub: Hub) -> None:
    # a branch may have moved, and `fetch` is there to find out; a restarting pod keeps what it had, hub or no hub
    settled = action == "link" or COMMIT.fullmatch(wanted.revision)
    paths = (volume.resolved() if settled else None) or volume.fetch(hub)
    if action == "link":
        volume.link(paths)


def _trouble(error: OSError, where: Path) -> str:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "raise storage.size_gib, or delete old models" if full else "check the volume and who owns it"
    return f"{error.filename or where}: {error.strerror or error}: {remedy}"


def message(failures: Sequence[str]) -> str:
    """All failures on one line that a termination message has room for: the first ones, cut short, where need be."""
    whole = "; ".join(failures)
    if len(whole.encode()) <= _MESSAGE_BYTES:
        return whole
    rest = f"; the log tells all {len(failures)}"
    room = _MESSAGE_BYTES - len(rest)
    share = max(room // len(failures), 120)  # enough for a name and what is wrong with it
    return "; ".join(_cut(failure, share - 2) for failure in failures[: room // share]) + rest


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _told(failure: str) -> str:
    line = " ".join(failure.split())
    print(line)
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description="Puts GGUFs onto a backend's volume.")
    parser.add_argument("action", choices=["fetch", "link"])
    parser.add_argument("--config", type=Path, required=True, help="JSON record of the models and their hub")
    parser.add_argument("--models", type=Path, required=True, help="where the volume is mounted")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    status = 1
    failures: list[str] = []
    try:
        for failure in run(args.action, Record.read(args.config), args.models, os.environ.get("HF_TOKEN")):
            failures.append(_told(failure))  # noqa: PERF401 - those before a SIGTERM are told, too
    except OSError as error:
        failures.append(_told(_trouble(error, args.config)))
    except (ValueError, KeyError, TypeError) as error:
        failures.append(_told(f"{args.config} is not the record of models ({error!r}): deploy the stack again"))
    except Terminated as ended:
        status = 128 + signal.SIGTERM
        failures.insert(0, _told(str(ended)))
    if not failures:
        return 0
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(message(failures), encoding="utf-8")
    return status


def terminate(*_: object) -> None:
    """What SIGTERM does: process 1 would ignore it otherwise."""
    raise Terminated("Kubernetes ended this pod between two steps: run it again")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
