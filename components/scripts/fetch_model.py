"""Puts the GGUF of a model triple onto a backend's volume, whole or not at all.

`fetch_model.py fetch|link --config /model/model.json --models /models`: `fetch` downloads what is missing to
`/models/files/<owner>/<name>/<commit>/`; `link` does the same, without the hub if all is in place, and points
`/models/weights/model.gguf` at it. A failure is one line, printed and left as the pod's termination message.

Runs in pods: nothing but the standard library of Python 3.9 or newer. The hub's token is HF_TOKEN in the environment.
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
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_T = TypeVar("_T")
_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})\.gguf", re.IGNORECASE)  # as gguf-split names them
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # what may be better in a while
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
_READ_SECONDS = 60
_PROGRESS_SECONDS = 5
_CHUNK = 2**20
_LISTED = 12


class Failure(Exception):  # noqa: N818 - it is the verdict, not a fault of the script
    """One line: what is wrong and what to do."""


class File(NamedTuple):
    """One file of a repository at a commit, as the hub lists it."""

    path: str
    size: int
    sha256: str | None = None


class Wanted(NamedTuple):
    """The model triple, where it is found, and the path that the server will open."""

    repo: str
    quant: str
    filename: str | None
    revision: str
    endpoint: str
    model_path: str
    deadline_seconds: float

    @staticmethod
    def read(config: Path) -> Wanted:
        """The record that the ConfigMap holds; keys for other readers are left alone."""
        record = json.loads(config.read_text(encoding="utf-8"))
        return Wanted(*(record[key] for key in Wanted._fields))

    @property
    def triple(self) -> list[str | None]:
        """What decides which files are meant."""
        return [self.repo, self.quant, self.filename, self.revision]


class _OwnHostOnly(HTTPRedirectHandler):
    """Hands the token on to the hub's own pages, never to the host that stores its files."""

    def redirect_request(self, req: Request, *args: Any, **kwargs: Any) -> Request | None:  # noqa: ANN401 - handed on
        following = super().redirect_request(req, *args, **kwargs)
        token = req.unredirected_hdrs.get("Authorization")
        if following and token and urlsplit(following.full_url)[:2] == urlsplit(req.full_url)[:2]:
            following.add_unredirected_header("Authorization", token)
        return following


class Hub:
    """One repository of a Hugging Face hub; patient until a deadline."""

    def __init__(self, wanted: Wanted, token: str | None) -> None:
        self._endpoint = wanted.endpoint.rstrip("/")
        self._repo, self._revision = wanted.repo, wanted.revision
        self._token = token
        self._seconds = wanted.deadline_seconds
        self._deadline = time.monotonic() + wanted.deadline_seconds
        self._opener = build_opener(_OwnHostOnly)

    def open(self, path: str, start: int = 0) -> HTTPResponse:
        """The answer to a GET, from byte `start` on where the hub knows ranges."""
        request = Request(self._endpoint + path, headers={"User-Agent": "llama-chat"})  # noqa: S310 - http(s) by config
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if start:
            request.add_header("Range", f"bytes={start}-")
        return cast("HTTPResponse", self._opener.open(request, timeout=_READ_SECONDS))

    def patiently(self, action: Callable[[], _T]) -> _T:
        """What the action returns; it is run again, after growing pauses, while the hub is away or overloaded."""
        pause = 1.0
        while True:
            try:
                return action()
            except HTTPError as error:
                reason = f"HTTP {error.code}"
                if error.code not in _AGAIN:
                    raise Failure(self._refusal(error)) from None
            except (OSError, HTTPException) as error:
                if getattr(error, "errno", None) in _DISK:
                    raise
                reason = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
            if time.monotonic() + pause > self._deadline:
                remedy = "check hub.endpoint, the network and startup_seconds, then run it again"
                raise Failure(f"nothing from the hub {self._endpoint} in {self._seconds:g} s ({reason}): {remedy}")
            print(f"{self._endpoint}: {reason}: again in {pause:g} s")
            time.sleep(pause)
            pause = min(2 * pause, 30.0)

    def listing(self) -> tuple[str, list[File]]:
        """The revision's commit, and all files of the repository at it."""
        path = f"/api/models/{quote(self._repo)}/revision/{quote(self._revision, safe='')}?blobs=true"

        def read() -> bytes:
            with self.open(path) as response:
                return response.read()

        answer = self.patiently(read)
        try:
            info: dict[str, Any] = json.loads(answer)
            files = [_file(entry) for entry in info["siblings"]]
            commit = str(info["sha"])
        except (ValueError, KeyError, TypeError):
            commit, files = "", []
        outside = [file for file in files if {"", "..", "/"} & {*PurePosixPath(file.path).parts}]
        if outside or not _COMMIT.fullmatch(commit):
            raise Failure(f"{self._endpoint} does not answer as a Hugging Face hub does: check hub.endpoint")
        return commit, files

    def _refusal(self, error: HTTPError) -> str:
        code, page = error.headers.get("X-Error-Code", ""), f"{self._endpoint}/{self._repo}"
        if error.code in {401, 403} and self._token:
            what, remedy = "refuses the token for", f"ask for access at {page}, or renew the Secret of hub.token_secret"
        elif error.code in {401, 403}:
            what, remedy = "wants a token for", "check repo, or name a Secret with a token in hub.token_secret"
        elif code == "RevisionNotFound":
            what, remedy = f"has no revision {self._revision} of", f"set revision to a branch, tag or commit of {page}"
        elif code == "EntryNotFound":
            what, remedy = "lists a file that it does not have in", "run it again, or set another revision"
        elif error.code == 404:  # noqa: PLR2004 - HTTP's own number
            what, remedy = "has no repository", "check repo and hub.endpoint"
        else:
            what, remedy = "refuses", f"look at {page}"
        return f"the hub {what} {self._repo} (HTTP {error.code}): {remedy}"


def _file(sibling: dict[str, Any]) -> File:
    lfs: dict[str, str] = sibling.get("lfs") or {}  # absent where git itself holds the file
    return File(sibling["rfilename"], int(sibling["size"]), lfs.get("sha256"))


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
    """The volume's layout, and how files come onto it."""

    def __init__(self, root: Path, wanted: Wanted) -> None:
        self._files = root / "files" / wanted.repo
        self._weights = root / "weights"
        self._wanted = wanted
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
        print(f"{self._wanted.repo} at {commit}: {len(files)} file(s) in place, {len(missing)} downloaded")
        record = {"triple": self._wanted.triple, "commit": commit, "files": [file[:2] for file in files]}
        part = _part(self._marker)
        part.write_text(json.dumps(record), encoding="utf-8")
        part.replace(self._marker)
        return [directory / file.path for file in files]

    def link(self, paths: Sequence[Path]) -> None:
        """Points the path that the server opens, and for a split model each shard's own name, at the files."""
        self._weights.mkdir(parents=True, exist_ok=True)
        shards = {path.name: path for path in paths if _SHARD.fullmatch(path.name)}
        for name, path in {"model.gguf": paths[0], **shards}.items():
            temporary = self._weights / f".{name}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(os.path.relpath(path, self._weights))
            temporary.replace(self._weights / name)
        opened = Path(self._wanted.model_path)
        if not (opened.exists() and opened.samefile(paths[0])):
            raise Failure(f"the server opens {opened}, which is not {paths[0].name}: set filename to what it opens")
        print(f"{opened} is {paths[0]}")


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
        try:
            fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConnectionError(f"another pod is downloading {file.path}") from None
        out.seek(0)
        digest = hashlib.sha256()
        while chunk := out.read(_CHUNK):
            digest.update(chunk)
        start = out.tell()
        if start < file.size:
            with hub.open(url, start) as response:
                if start and response.status != 206:  # noqa: PLR2004 - HTTP's own number: the rest, as asked for
                    part.unlink()
                    raise ConnectionError("the hub does not continue a download")
                _check_size(file, start + int(response.headers.get("Content-Length", file.size - start)), part)
                for chunk in _shown(file, start, iter(lambda: response.read(_CHUNK), b"")):
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


def _shown(file: File, done: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks as they come, with a line of progress every few seconds."""
    begun = shown = time.monotonic()
    start = done
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        now = time.monotonic()
        if now - shown >= _PROGRESS_SECONDS or done == file.size:
            shown, speed = now, (done - start) / max(now - begun, 1e-3)
            print(f"{file.path}: {100 * done // file.size} % of {file.size / 1e9:.2f} GB, {speed / 1e6:.0f} MB/s")


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def run(action: str, wanted: Wanted, models: Path, token: str | None) -> None:
    """`fetch` or `link`; raises Failure."""
    volume = Volume(models, wanted)
    # a branch may have moved, and `fetch` is there to find out; a restarting pod keeps what it had, hub or no hub
    settled = action == "link" or _COMMIT.fullmatch(wanted.revision)
    paths = (volume.resolved() if settled else None) or volume.fetch(Hub(wanted, token))
    if action == "link":
        volume.link(paths)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0 or 1."""
    parser = argparse.ArgumentParser(description="Puts a GGUF onto a backend's volume.")
    parser.add_argument("action", choices=["fetch", "link"])
    parser.add_argument("--config", type=Path, required=True, help="JSON record of the model triple and the hub")
    parser.add_argument("--models", type=Path, required=True, help="where the volume is mounted")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    try:
        run(args.action, Wanted.read(args.config), args.models, os.environ.get("HF_TOKEN"))
    except Failure as failure:
        verdict = str(failure)
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        remedy = "raise storage.size_gib, or delete old models" if full else "check the volume and who owns it"
        verdict = f"{error.filename or args.models}: {error.strerror or error}: {remedy}"
    except (ValueError, KeyError) as error:
        verdict = f"{args.config} is not the record of a model ({error!r}): deploy the stack again"
    else:
        return 0
    verdict = " ".join(verdict.split())
    print(verdict)
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(verdict, encoding="utf-8")
    return 1


def _stop(*_: object) -> None:
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # process 1 would ignore it otherwise
    sys.exit(main())
