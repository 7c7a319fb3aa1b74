"""The hub's HTTP side: model information, file trees, and downloads by range.

Paths, headers and error codes are those of the Hugging Face hub, as its client `huggingface_hub` reads them.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from socketserver import TCPServer
from typing import Any, BinaryIO, cast
from urllib.parse import parse_qs, quote, unquote, urlsplit

from local.hub.faults import NO_FAULTS, Faults
from local.hub.repo import File, Repo


class HubServer(ThreadingHTTPServer):
    """Serves the repositories below one root; every request sees the files as they are."""

    daemon_threads = True

    def __init__(self, root: Path, host: str, port: int) -> None:
        super().__init__((host, port), _Handler)
        self.root = root
        self._downloads = defaultdict[str, Iterator[int]](count)

    @property
    def url(self) -> str:
        """What a client takes as the hub's endpoint."""
        return f"http://{self.server_name}:{self.server_port}"

    def number(self, repo_id: str) -> int:
        """Of the next download from a repository, from 0 on."""
        return next(self._downloads[repo_id])

    def server_bind(self) -> None:
        """Bind without the reverse look-up of the host's name, which can hang where no DNS answers."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class _Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """Ends a request with a status and the hub's own error code."""

    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60
    headers = Message()  # while not even a first line could be read

    def do_GET(self) -> None:
        try:
            self._answer()
        except _Refused as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": str(refusal)}
            self._json({"error": str(refusal)}, refusal.status, headers)
        except ConnectionError:  # the client left in mid-download
            self.close_connection = True

    do_HEAD = do_GET  # noqa: N815 - the base class's name

    def _answer(self) -> None:
        url = urlsplit(self.path)
        match [unquote(part) for part in url.path.split("/")[1:]]:
            case ["api", "models", owner, name]:
                self._info(self._repo(owner, name), "main", parse_qs(url.query))
            case ["api", "models", owner, name, "revision", revision]:
                self._info(self._repo(owner, name), revision, parse_qs(url.query))
            case ["api", "models", owner, name, "tree", revision, *below]:
                self._tree(self._repo(owner, name), revision, "/".join(below))
            case [owner, name, "resolve", revision, *path]:
                self._file(self._repo(owner, name), revision, "/".join(path))
            case _:
                raise _Refused(HTTPStatus.NOT_FOUND, "NotFound", "The hub knows models, trees and files only.")

    def _repo(self, owner: str, name: str) -> Repo:
        repo = Repo.find(cast("HubServer", self.server).root, owner, name)
        if repo is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "RepoNotFound", "Repository not found")
        return repo

    def _at(self, repo: Repo, revision: str) -> tuple[str, list[File]]:
        files = repo.files()
        commit = repo.commit(files)
        if revision not in {"main", commit}:
            raise _Refused(HTTPStatus.NOT_FOUND, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, files

    def _info(self, repo: Repo, revision: str, query: dict[str, list[str]]) -> None:
        commit, files = self._at(repo, revision)
        blobs = query.get("blobs", ["false"])[0].lower() in {"1", "true"}
        info = {
            "id": repo.id,
            "modelId": repo.id,
            "author": repo.id.split("/")[0],
            "sha": commit,
            "private": False,
            "gated": "manual" if repo.gated else False,
            "disabled": False,
            "tags": ["gguf"],
            "siblings": [{"rfilename": file.path, **(_sibling(file) if blobs else {})} for file in files],
        }
        self._json(info)

    def _tree(self, repo: Repo, revision: str, below: str) -> None:
        commit, files = self._at(repo, revision)
        prefix = f"{below}/" if below else ""
        entries = [_tree_entry(file) for file in files if file.path.startswith(prefix)]
        if below and not entries:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", f"{below} does not exist on {revision}")
        self._json(entries, headers={"X-Repo-Commit": commit})

    def _file(self, repo: Repo, revision: str, path: str) -> None:
        if not repo.admits(_bearer(self.headers.get("Authorization", ""))):
            message = f"Access to model {repo.id} is restricted. You must have access to it and be authenticated."
            raise _Refused(HTTPStatus.UNAUTHORIZED, "GatedRepo", message)
        faults = repo.faults.at(cast("HubServer", self.server).number(repo.id))
        if faults.status or faults.redirect:
            self._send_instead(faults)
            return
        commit, files = self._at(repo, revision)
        file = next((file for file in files if file.path == path), None)
        if file is None:
            raise _Refused(HTTPStatus.NOT_FOUND, "EntryNotFound", "Entry not found")
        headers = {
            "X-Repo-Commit": commit,
            "ETag": f'"{file.etag}"',
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename*=UTF-8''{quote(file.local.name)}",
        }
        if file.lfs:
            headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.etag}"'}
        self._send_file(file, headers, faults)

    def _send_instead(self, faults: Faults) -> None:
        headers = {"Content-Length": "0"}
        if faults.retry_after:
            headers["Retry-After"] = faults.retry_after
        if faults.redirect:
            headers["Location"] = faults.redirect + self.path
        self._head(HTTPStatus(faults.status or HTTPStatus.FOUND), headers)

    def _send_file(self, file: File, headers: dict[str, str], faults: Faults) -> None:
        span = _span(self.headers.get("Range", ""), file.size)
        if span is None:
            status, start, end = HTTPStatus.OK, 0, file.size
        elif span[0] >= span[1]:
            status, start, end = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0, 0
            headers["Content-Range"] = f"bytes */{file.size}"
        else:
            status, (start, end) = HTTPStatus.PARTIAL_CONTENT, span
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
        self._head(status, headers | {"Content-Length": str(max(0, end - start + faults.extra_length))})
        if self.command == "GET" and end > start:
            with file.local.open("rb") as content:
                content.seek(start)
                try:
                    self._send_body(content, end - start, faults)
                finally:
                    self.log_message("%s: %d of %d bytes sent", self.path, content.tell() - start, end - start)

    def _send_body(self, content: BinaryIO, size: int, faults: Faults) -> None:
        if faults == NO_FAULTS:
            self.connection.sendfile(content, content.tell(), size)
            return
        self.close_connection = True
        for chunk in faults.body(content, size):
            self.wfile.write(chunk)

    def _json(self, value: object, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value).encode()
        own = {"Content-Type": "application/json; charset=utf-8", "Content-Length": str(len(body))}
        self._head(status, own | (headers or {}))
        if self.command == "GET":
            self.wfile.write(body)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """One line: what was asked for, the answer's status, the range, and whether a token came; never which one."""
        status = code.value if isinstance(code, HTTPStatus) else code
        token = "with a token" if self.headers.get("Authorization") else "without a token"
        self.log_message('"%s" %s %s %s', self.requestline, status, self.headers.get("Range", size), token)

    def _head(self, status: HTTPStatus, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _bearer(header: str) -> str | None:
    scheme, _, token = header.partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one past the last; empty where nothing of the file is meant; None for the whole file."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if not match or match[1] == match[2] == "":
        return None
    if not match[1]:
        return max(0, size - int(match[2])), size
    return int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)


def _lfs(file: File, digest_key: str) -> dict[str, Any]:
    # the two answers name the same digest differently, and the client insists on each
    if not file.lfs:
        return {}
    return {"lfs": {digest_key: file.digest.sha256, "size": file.size, "pointerSize": len(file.pointer)}}


def _sibling(file: File) -> dict[str, Any]:
    return {"size": file.size, "blobId": file.oid, **_lfs(file, "sha256")}


def _tree_entry(file: File) -> dict[str, Any]:
    return {"type": "file", "path": file.path, "size": file.size, "oid": file.oid, **_lfs(file, "oid")}
