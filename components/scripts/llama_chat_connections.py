"""Has LiteLLM's server, uvicorn, end its connections with its answers once its pod was told to end.

A server that stops closes the connections that clients keep, and whoever asks on one at that very moment gets no
answer. So each answer whose head goes out from then on says `Connection: close`, and one whose head is out already, a
long stream's, closes the connection behind its last byte. What is left: a client that asks again within moments of such
a stream's end, and one whose connection lay idle from then until the server stops. Answers before that leave their
connections open: a LiteLLM that closed each one crashed once in 14 h (exit 139; uvloop's issue 706 is about closing).

LiteLLM calls `watch` at its start (LITELLM_WORKER_STARTUP_HOOKS), when uvicorn is loaded; under another server it
changes nothing. The pod's preStop hook makes the file `ENDS`. Runs in LiteLLM's own process: nothing but the standard
library of Python 3.9 or newer.
"""

from __future__ import annotations

import sys
from functools import wraps
from pathlib import Path
from typing import Any

ENDS = Path("/dev/shm/llama-chat-ends")  # noqa: S108 - writable in every pod, whatever its file system is
_PROTOCOLS = ("uvicorn.protocols.http.h11_impl", "uvicorn.protocols.http.httptools_impl")
_CLOSE = (b"connection", b"close")


def watch() -> None:
    """Each answer that ends from the moment on at which the file is there ends its connection."""
    for name in _PROTOCOLS:
        cycle = getattr(sys.modules.get(name), "RequestResponseCycle", None)
        if cycle is not None:
            _with_close(cycle)


def _with_close(cycle: Any) -> None:  # noqa: ANN401 - uvicorn's class of one request and its answer
    send = cycle.send

    @wraps(send)
    def send_and_close(self: Any, message: Any) -> Any:  # noqa: ANN401 - ASGI's message in, an awaitable out
        kind = message["type"]
        if kind == "http.response.start" and ENDS.exists():
            self.default_headers = [*self.default_headers, _CLOSE]
        elif kind == "http.response.body" and not message.get("more_body") and ENDS.exists():
            self.keep_alive = False
        return send(self, message)

    cycle.send = send_and_close
