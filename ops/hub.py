"""What a Hugging Face hub says of a model: its files at a commit, and how they begin; none is ever fetched whole.

Protocol: https://huggingface.co/docs/hub/api, through huggingface_hub, and HTTP ranges (RFC 9110, 14).
"""

import os
import re
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

import httpx
from huggingface_hub import HfApi, close_session, constants, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from pydantic import TypeAdapter, ValidationError

from config.errors import UserError
from config.lock import is_commit
from config.model import StackConfig
from config.parts import Model
from config.scalars import Url
from config.secrecy import shown
from local import models
from local.hub.server import HubServer
from local.paths import CONTEXT, cache_dir

if TYPE_CHECKING:
    from http.server import BaseHTTPRequestHandler

TIMEOUT_SECONDS = 5.0
_LOOPBACK = ("localhost", "127.0.0.1")
_TOKEN = re.compile(r"[!-~]+")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


class Away(Exception):  # noqa: N818 - a verdict, not a fault of the program
    """The hub gave no answer at all: why."""


class Refused(Exception):  # noqa: N818 - a verdict, not a fault of the program
    """What the hub says of one model cannot be used: which of the model's keys is to blame, why, and what to do."""

    def __init__(self, key: str, remedy: str) -> None:
        super().__init__(remedy)
        self.key = key


@dataclass(frozen=True, kw_only=True)
class HubFile:
    """One file of a repository."""

    path: str
    bytes: int | None
    """None where the hub does not tell."""
    sha256: str | None
    """None where git itself holds the file."""


def hub_token() -> str | None:
    """The token in the environment; a file that holds one is never read. UserError where it cannot be one."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if token and not _TOKEN.fullmatch(token):  # the client would show it in its error
        raise UserError("HF_TOKEN: (hidden): holds what no token has, such as a space: set it again")
    return token or None


def hub_endpoint(of_stack: str) -> str:
    """HF_ENDPOINT where it is set, else the stack's own. UserError where it is no address."""
    given = os.environ.get("HF_ENDPOINT", "").strip()
    try:
        return TypeAdapter[str](Url).validate_python(given or of_stack).rstrip("/")
    except ValidationError:
        raise UserError(f"HF_ENDPOINT: {shown(given)}: is no address: write https://<host> or unset it") from None


@contextmanager
def hub_of(config: StackConfig) -> Generator["Hub"]:
    """The hub that a stack's models come from; the local stack's is served for as long as the block runs."""
    if config.cluster.context != CONTEXT:
        with open_hub(hub_endpoint(config.hub.endpoint), hub_token()) as hub:
            yield hub
        return
    root = cache_dir() / "hub"
    models.publish(root)
    with HubServer(root, "127.0.0.1", 0) as server:
        # its access log is for a server of its own
        handler = cast("type[BaseHTTPRequestHandler]", server.RequestHandlerClass)
        server.RequestHandlerClass = type("Quiet", (handler,), {"log_message": _say_nothing})
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with open_hub(server.url, None, called=f"the hub of {root}") as hub:
                yield hub
        finally:
            server.shutdown()
            thread.join()


def _say_nothing(*_: object) -> None:
    pass


@contextmanager
def open_hub(endpoint: str, token: str | None, called: str | None = None) -> Generator["Hub"]:
    """A hub to ask, through the environment's proxies, with connections that end with the block."""
    # else it would ask huggingface.co, whichever hub is meant, how to call what started it
    constants.HF_HUB_DISABLE_TELEMETRY = True
    set_client_factory(_client)
    try:
        api = HfApi(endpoint, token=token or False, library_name="llama-chat")
        yield Hub(api, called or shown(endpoint))
    finally:
        close_session()


def _client() -> httpx.Client:
    try:
        # no proxy knows what is on this machine
        own = {f"all://{host}": None for host in _LOOPBACK}
        return httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=True, mounts=own)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UserError(f"The proxy settings of the environment cannot be used ({error}): correct them.") from error


class Hub:
    """One hub; `open_hub` makes it."""

    def __init__(self, api: HfApi, called: str) -> None:
        self.called = called
        self._api = api
        self._host = _host(httpx.URL(api.endpoint))

    def files(self, model: Model) -> tuple[str, list[HubFile]]:
        """The commit that the model's revision is, and all files of its repository at it; Away or Refused."""
        try:
            info = self._api.model_info(
                model.repo, revision=model.revision, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
            siblings = [
                HubFile(path=found.rfilename, bytes=found.size, sha256=found.lfs.sha256 if found.lfs else None)
                for found in info.siblings or ()
            ]
        except HFValidationError as error:
            raise Refused("repo", f"no hub takes this name ({_line(error)}): correct it") from None
        except HfHubHTTPError as error:
            raise self._refusal(model, error.response) from None
        except httpx.TransportError as error:
            raise Away(_line(error)) from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
            raise self._no_hub() from None
        if not is_commit(info.sha or ""):
            raise self._no_hub()
        return str(info.sha), siblings

    def read(self, model: Model, commit: str, file: HubFile, start: int, end: int) -> Iterator[bytes]:
        """The file's bytes from `start` to before `end`, of `file.bytes` in all; Refused where they do not come."""
        url = f"{self._api.endpoint}/{model.repo}/resolve/{commit}/{quote(file.path)}"
        # a body that came packed would be of other bytes
        headers = {"Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        if self._api.token:
            headers["Authorization"] = f"Bearer {self._api.token}"
        try:
            with get_session().stream("GET", url, headers=headers) as answer:
                yield from self._checked(model, file, answer, start, end)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            host = _host(error.request.url) if isinstance(error, httpx.RequestError) else self._host
            remedy = f"check the network and its proxies to {host}, then run make lock again"
            raise Refused("repo", f"{file.path} cannot be read from {host} ({_line(error)}): {remedy}") from None

    def _checked(self, model: Model, file: HubFile, answer: httpx.Response, start: int, end: int) -> Iterator[bytes]:
        if answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
            raise self._refusal(model, answer)
        span = _RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if answer.status_code != HTTPStatus.PARTIAL_CONTENT or not span:
            remedy = "name a hub that answers HTTP ranges in hub.endpoint or HF_ENDPOINT"
            raise Refused("repo", f"{_host(answer.url)} does not send a part of {file.path} alone: {remedy}")
        if (int(span[1]), int(span[2]), int(span[3])) != (start, end - 1, file.bytes):
            told = f"{self.called} lists {file.path} with {file.bytes} bytes, asked for {start}-{end - 1} it sends"
            raise Refused("repo", f"{told} {span[0]}: find out who changes what it says, then run make lock again")
        missing = end - start
        for chunk in answer.iter_raw():
            missing -= len(chunk)
            if missing < 0:
                break
            yield chunk
        if missing:
            raise Refused("repo", f"{_host(answer.url)} sends {file.path} in part only: run make lock again")

    def _refusal(self, model: Model, answer: httpx.Response) -> Refused:
        status, page, key = answer.status_code, f"{self.called}/{model.repo}", "repo"
        match status, answer.headers.get("X-Error-Code", ""):
            case _ if answer.history and _host(answer.url) != self._host:
                remedy = "check the network and its proxies to it, then run make lock again"
                told = f"{_host(answer.url)}, which {self.called} sends on to, answers {status}: {remedy}"
            case ((HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN), _) if self._api.token:
                remedy = f"correct it, ask for access at {page}, or set another HF_TOKEN"
                told = f"{self.called} refuses HF_TOKEN for it ({status}): {remedy}"
            case ((HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN), _):
                remedy = f"correct it, or set HF_TOKEN to a token that has access to {page}"
                told = f"{self.called} wants a token for it ({status}): {remedy}"
            case _, "RevisionNotFound":
                key, remedy = "revision", f"write a branch, tag or commit of {page}"
                told = f"{self.called} has no such revision of {model.repo}: {remedy}"
            case _, "EntryNotFound":
                told = f"{self.called} lists a file that it does not have: run make lock again"
            case HTTPStatus.NOT_FOUND, _:
                told = f"{self.called} has no such repository: correct it, hub.endpoint or HF_ENDPOINT"
            case _:
                told = f"{self.called} answers {status}: look at {page}, then run make lock again"
        return Refused(key, told)

    def _no_hub(self) -> Refused:
        remedy = "correct hub.endpoint, or HF_ENDPOINT"
        return Refused("repo", f"{self.called} does not answer as a Hugging Face hub does: {remedy}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _host(url: httpx.URL) -> str:
    """Host and port: all that is shown of an address whose rest may be signed."""
    return url.netloc.decode()
