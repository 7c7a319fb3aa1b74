"""Has LiteLLM's server, uvicorn, let go of its clients' connections without losing a request, once its pod is to end.

A server that stops closes the connections that lie idle, and each other one behind the answer that is under way on it:
whoever asks on one at that very moment gets no answer. So, once the pod was told to end:

- Each answer whose head goes out from then on says `Connection: close`.
- No other connection is closed before it lay idle for `IDLE_SECONDS`, longer than most clients keep one: what is asked
  on it until then is answered, and that answer says so. That holds for a long stream whose head was out before.

Until then answers leave their connections open: a LiteLLM that closed each one crashed once under load (exit 139,
perhaps uvloop's issue 706).

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
IDLE_SECONDS = 16
"""LibreChat's undici keeps an idle connection for 4 s, httpx for 5 s, aiohttp for 15 s."""
_PROTOCOLS = {
    "uvicorn.protocols.http.h11_impl": "H11Protocol",
    "uvicorn.protocols.http.httptools_impl": "HttpToolsProtocol",
}
_CLOSE = (b"connection", b"close")


def watch() -> None:
    """From the moment on at which the file is there, connections end with their answers, or after lying idle."""
    # a container that was killed as it hung was told to end too; its pod, and the file, are still there
    ENDS.unlink(missing_ok=True)
    for name, protocol in _PROTOCOLS.items():
        module = sys.modules.get(name)
        if module is not None:
            _with_close(module.RequestResponseCycle)
            _with_patience(getattr(module, protocol))


def _with_close(cycle: Any) -> None:  # noqa: ANN401 - uvicorn's class of one request and its answer
    send = cycle.send

    @wraps(send)
    def send_and_close(self: Any, message: Any) -> Any:  # noqa: ANN401 - ASGI's message in, an awaitable out
        if message["type"] == "http.response.start" and ENDS.exists():
            self.default_headers = [*self.default_headers, _CLOSE]
        return send(self, message)

    cycle.send = send_and_close


def _with_patience(protocol: Any) -> None:  # noqa: ANN401 - uvicorn's class of one connection
    shutdown = protocol.shutdown

    @wraps(shutdown)
    def let_it_lie_idle(self: Any) -> None:  # noqa: ANN401
        if not ENDS.exists():
            shutdown(self)
            return
        self.timeout_keep_alive = IDLE_SECONDS
        if self.cycle is None or self.cycle.response_complete:
            if self.timeout_keep_alive_task is not None:
                self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = self.loop.call_later(IDLE_SECONDS, self.timeout_keep_alive_handler)

    protocol.shutdown = let_it_lie_idle
