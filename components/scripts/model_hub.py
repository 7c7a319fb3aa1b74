"""The Hugging Face hub that fetch_model.py downloads from, asked patiently until a deadline.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import errno
import json
import math
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from model_record import COMMIT, Failure, File, Wanted, amount

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_T = TypeVar("_T")
_CHUNK = 2**20
MORE_TIME = "raise startup_seconds where it is set, else lower hub.mb_per_second; the next run goes on from there"
_MAKE_LOCK = "run `make lock` with the stack's name as STACK"
_AGAIN = {408, 425, 429, 500, 502, 503, 504}  # what may be better in a while
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}
_READ_SECONDS = 60
_PROGRESS_SECONDS = 5
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_FRUITFUL_BYTES = 2**20  # a connection that brought so much before it was cut is made again at once


class Progress:
    """How far one file has come, told every few seconds."""

    def __init__(self, name: str, file: File, done: int) -> None:
        self.path = file.path
        self._name, self._size, self._done = name, file.size, done
        self._start = done
        self._begun = self._shown = time.monotonic()

    def at(self, done: int) -> None:
        """So many bytes are here now."""
        self._start, self._done = min(self._start, done), done
        now = time.monotonic()
        if now - self._shown >= _PROGRESS_SECONDS or done == self._size:
            self._shown = now
            speed = (done - self._start) / max(now - self._begun, 1e-3)
            left = _duration((self._size - done) / max(speed, 1))
            percent = f"{100 * done // max(self._size, 1)} % of {amount(self._size)}"
            print(f"{self._name}: {self.path}: {percent}, {speed / 1e6:.0f} MB/s, {left} left")

    def __str__(self) -> str:
        return f"{amount(self._done)} of {amount(self._size)} of {self.path} are here"


class _OwnHostOnly(HTTPRedirectHandler):
    """Hands the token on to the hub's own pages, never to the host that stores its files."""

    def redirect_request(self, req: Request, *args: Any, **kwargs: Any) -> Request | None:  # noqa: ANN401 - handed on
        following = super().redirect_request(req, *args, **kwargs)
        token = req.unredirected_hdrs.get("Authorization")
        if following and token and urlsplit(following.full_url)[:2] == urlsplit(req.full_url)[:2]:
            following.add_unredirected_header("Authorization", token)
        return following


class Hub:
    """One repository of a Hugging Face hub, for one model; patient until a deadline of the clock."""

    def __init__(self, endpoint: str, wanted: Wanted, token: str | None, deadline: float) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._wanted, self._token = wanted, token
        self._seconds = round(deadline - time.monotonic(), 1)  # what the models before it left
        self._deadline = deadline
        self._opener = build_opener(_OwnHostOnly)
        self._received = 0  # by the action that is patiently tried
        self.progress: Progress | None = None
        """Of the file that its verdicts tell of."""

    def open(self, path: str, start: int | None = None) -> HTTPResponse:
        """The answer to a GET; of a file, from byte `start` on where the hub knows ranges."""
        request = Request(self._endpoint + path, headers={"User-Agent": "llama-chat"})  # noqa: S310 - http(s) by config
        if self._token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        if start is not None:
            request.add_header("Range", f"bytes={start}-")
        left = self._deadline - time.monotonic()
        return cast("HTTPResponse", self._opener.open(request, timeout=min(max(1.0, left), _READ_SECONDS)))

    def chunks(self, response: HTTPResponse, missing: float = math.inf) -> Iterator[bytes]:
        """What comes of an answer, and no more than is missing; TimeoutError past the deadline."""
        while missing and (chunk := response.read1(_CHUNK)):  # read() would wait until a whole chunk is there
            self._received += len(chunk)
            yield chunk if len(chunk) <= missing else chunk[: int(missing)]
            missing = max(0, missing - len(chunk))
            if missing and time.monotonic() > self._deadline:
                raise TimeoutError("too slow")

    def patiently(self, action: Callable[[], _T]) -> _T:
        """What the action returns; it is run again, after growing pauses, while the hub is away or overloaded."""
        if time.monotonic() > self._deadline:
            raise Failure(f"no time was left for it: {MORE_TIME}")
        self._received, pause = 0, _FIRST_PAUSE
        while True:
            before, asked = self._received, 0.0
            try:
                return action()
            except HTTPError as error:
                error.close()
                if error.code not in _AGAIN:
                    raise Failure(self._refusal(error)) from None
                asked = _retry_after(error)
                reason = f"HTTP {error.code}" + (f", which asks to wait {asked:g} s" if asked else "")
            except (OSError, HTTPException) as error:
                if getattr(error, "errno", None) in _DISK:
                    raise
                reason = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
            wait = max(pause, asked)
            pause = min(2 * pause, _LONGEST_PAUSE)
            if self._received - before >= _FRUITFUL_BYTES:
                wait, pause = 0.0, _FIRST_PAUSE
            if time.monotonic() + wait > self._deadline:
                raise self._late(reason)
            print(f"{self._wanted.name}: {self._endpoint}: {reason}: again in {wait:g} s")
            time.sleep(wait)

    def state(self) -> str:
        """How far this run has come."""
        return str(self.progress) if self.progress else f"the list of files of {self._wanted.repo} is not here yet"

    def _late(self, reason: str) -> Failure:
        if self._received:
            return Failure(f"{self.state()} after {self._seconds:g} s ({reason}): {MORE_TIME}")
        what = f" of {self.progress.path}" if self.progress else ""
        remedy = "check hub.endpoint, the network and startup_seconds, then run it again"
        return Failure(f"nothing{what} from the hub {self._endpoint} in {self._seconds:g} s ({reason}): {remedy}")

    def listing(self) -> tuple[str, list[File]]:
        """The revision's commit, and all files of the repository at it."""
        repo, revision = quote(self._wanted.repo), quote(self._wanted.revision, safe="")

        def read() -> bytes:
            with self.open(f"/api/models/{repo}/revision/{revision}?blobs=true") as response:
                return b"".join(self.chunks(response))

        answer = self.patiently(read)
        try:
            info: dict[str, Any] = json.loads(answer)
            files = [_file(entry) for entry in info["siblings"]]
            commit = str(info["sha"])
        except (ValueError, KeyError, TypeError):
            commit, files = "", []
        if not COMMIT.fullmatch(commit) or not all(file.inside for file in files):
            raise Failure(f"{self._endpoint} does not answer as a Hugging Face hub does: check hub.endpoint")
        return commit, files

    def _refusal(self, error: HTTPError) -> str:
        what, remedy = self._reason(error)
        return f"the hub {what} {self._wanted.repo} (HTTP {error.code}): {remedy}"

    def _reason(self, error: HTTPError) -> tuple[str, str]:
        file = self.progress.path if self.progress else "a file"
        elsewhere = urlsplit(error.url).netloc
        if 300 <= error.code < 400:  # noqa: PLR2004 - HTTP's own numbers
            return f"redirects in a circle, or to no page, for {file} of", "check hub.endpoint"
        if elsewhere != urlsplit(self._endpoint).netloc:
            return f"leads to {elsewhere}, which refuses {file} of", "have this cluster's network let it through"
        if error.code in {401, 403}:
            return self._no_access(error)
        if error.code == 404:  # noqa: PLR2004 - HTTP's own number
            return self._not_found(error, file)
        return "refuses", f"look at {self._page}"

    def _no_access(self, error: HTTPError) -> tuple[str, str]:
        gated = error.headers.get("X-Error-Code") == "GatedRepo"
        ask, which = f"ask for access at {self._page}", " gated" if gated else ""
        if self._token:
            return f"refuses the token for{which}", f"{ask}, or renew the Secret of hub.token_secret"
        first = f"{ask} and" if gated else "check repo, or"
        return f"wants a token for{which}", f"{first} name a Secret with a token in hub.token_secret"

    def _not_found(self, error: HTTPError, file: str) -> tuple[str, str]:
        code, commit = error.headers.get("X-Error-Code"), self._wanted.commit
        if code == "EntryNotFound":
            return f"does not have {file} in", _MAKE_LOCK if commit else "run it again, or set another revision"
        if code == "RevisionNotFound" and commit:
            return f"no longer has commit {commit} of", _MAKE_LOCK
        if code == "RevisionNotFound":
            revision = self._wanted.revision
            return f"has no revision {revision} of", f"set revision to a branch, tag or commit of {self._page}"
        return "has no repository", "check repo and hub.endpoint"

    @property
    def _page(self) -> str:
        return f"{self._endpoint}/{self._wanted.repo}"


def _file(sibling: dict[str, Any]) -> File:
    lfs: dict[str, str] = sibling.get("lfs") or {}  # absent where git itself holds the file
    return File(sibling["rfilename"], int(sibling["size"]), lfs.get("sha256"))


def _retry_after(error: HTTPError) -> float:
    """Seconds, which the header gives as such or as a date."""
    value = error.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, round(parsedate_to_datetime(value).timestamp() - time.time(), 1))
    except (TypeError, ValueError):  # none, or one that says nothing
        return 0.0


def _duration(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
