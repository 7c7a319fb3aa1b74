"""Has LiteLLM's server, uvicorn, say `Connection: close` with each answer.

A server that stops closes the connections that clients keep, and whoever asks on one at that very moment gets no
answer. With no connection kept, a pod that was told to end gets no more requests as soon as no node sends it any. The
price is a connection a request.

LiteLLM calls it at its start (LITELLM_WORKER_STARTUP_HOOKS), when uvicorn is loaded; under another server it changes
nothing. Runs in LiteLLM's own process: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

_PROTOCOLS = ("uvicorn.protocols.http.h11_impl", "uvicorn.protocols.http.httptools_impl")
_CLOSE = (b"connection", b"close")


def close_each() -> None:
    """Each answer that is begun from now on ends its connection."""
    for name in _PROTOCOLS:
        cycle = getattr(sys.modules.get(name), "RequestResponseCycle", None)
        if cycle is not None:
            _with_close(cycle)


def _with_close(cycle: Any) -> None:  # noqa: ANN401 - uvicorn's class of one request and its answer
    begin = cycle.__init__

    @wraps(begin)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever uvicorn hands over
        begin(self, *args, **kwargs)
        self.default_headers = [*self.default_headers, _CLOSE]

    cycle.__init__ = init
