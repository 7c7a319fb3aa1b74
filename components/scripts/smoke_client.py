"""What scripts ask servers with: one deadline for all of a run, and whole answers or none.

Lies beside them in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import json
import re
import time
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, IncompleteRead
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import ssl
    from socket import socket

_AWAY = {429, 502, 503}  # a pool that is busy with users, a server that loads, a gateway whose backend does
_PAUSE_SECONDS = 1.0
_ONE_WORD = re.compile(r"[!-~]+")
_CHUNK = 2**16


class Failure(Exception):  # noqa: N818 - it is the verdict, not a fault of the script
    """One line: what was asked, what came, and what to look at."""


class Terminated(BaseException):
    """Kubernetes ends the pod."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    headers: dict[str, str]
    """Names in lower case."""
    text: str

    def at(self, *path: str | int) -> Any:  # noqa: ANN401 - JSON of whatever shape came
        """The value at a path into the JSON; None where there is none."""
        value: Any = None
        with suppress(ValueError):
            value = json.loads(self.text)
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value


class Run:
    """One run of this script: the time that the step at hand may take, and what it is at."""

    def __init__(self, seconds: float = 0) -> None:
        self.doing = ""
        self.begin(seconds)

    def begin(self, seconds: float) -> None:
        """From here on the next step has so much time, for all that it asks."""
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until the deadline; TimeoutError past it."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        return left

    def pause(self) -> bool:
        """Waits a while before the next look; False where no time is left for one."""
        if time.monotonic() + _PAUSE_SECONDS > self._end:
            return False
        time.sleep(_PAUSE_SECONDS)
        return True


class Server:
    """One HTTP server, asked again while it starts."""

    def __init__(self, url: str, token: str | None, run: Run, tls: ssl.SSLContext | None = None) -> None:
        if token and not _ONE_WORD.fullmatch(token):
            # http.client's own complaint would quote it
            raise Failure(f"the key for {url} has a blank or a line end in it: write its Secret anew without")
        self.url = url.rstrip("/")
        self._token = token
        self._run = run
        self._tls = tls

    def ask(
        self, path: str, body: dict[str, Any] | None = None, *, method: str = "", content: str = "application/json"
    ) -> Answer:
        """The whole answer, of whatever status; Failure where there is none by the deadline.

        Without a method it is a POST where there is a body, else a GET; `content` is the body's type.
        """
        self._run.doing = f"asking {self.url}{path}"
        while True:
            try:
                answer = self._once(path, body, method or ("GET" if body is None else "POST"), content)
                if answer.status not in _AWAY:
                    return answer
                reason = f"HTTP {answer.status}: {self.quoted(answer.text)}"
            except (OSError, HTTPException) as error:
                reason = str(error) or type(error).__name__
            if not self._run.pause():
                seconds = f"{self._run.seconds:g} s"
                raise Failure(f"no answer from {self.url}{path} in {seconds} ({reason}): look at the pod's log")

    def quoted(self, text: str) -> str:
        """A text of the server's, on one line, shortened, without the key that we sent."""
        line = " ".join((text.replace(self._token, "***") if self._token else text).split())
        return repr(line if len(line) <= 200 else f"{line[:200]}…")  # noqa: PLR2004 - enough to know an error by

    def _once(self, path: str, body: dict[str, Any] | None, method: str, content: str) -> Answer:
        headers = {"Connection": "close", "Content-Type": content}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        address = urlsplit(self.url)
        if self._tls:
            connection = HTTPSConnection(address.netloc, timeout=self._run.left(), context=self._tls)
        else:
            connection = HTTPConnection(address.netloc, timeout=self._run.left())
        with closing(connection):
            connection.connect()
            line = cast("socket", connection.sock)  # the response reads from it when the connection has let go of it
            data = None if body is None else json.dumps(body)
            connection.request(method, address.path + path, data, headers)
            with connection.getresponse() as response:
                return self._read(response, line)

    def _read(self, response: HTTPResponse, line: socket) -> Answer:
        headers = {name.lower(): value for name, value in response.headers.items()}
        text = b""
        with suppress(IncompleteRead):  # a cut stream is a verdict, not something to try again
            while chunk := response.read1(_CHUNK):
                text += chunk
                line.settimeout(self._run.left())  # what trickles has the same deadline as what hangs
        return Answer(response.status, headers, text.decode(errors="replace"))
