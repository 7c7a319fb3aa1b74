"""An OpenAI server whose long streams take so many seconds as its argument says. It runs in a pod."""

import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECONDS = int(sys.argv[1]) if __name__ == "__main__" else 1
LONG_TOKENS = 96
"""From so many asked for on, a stream is a long one."""


class Server(BaseHTTPRequestHandler):
    """Answers with a word a second."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._whole({"object": "list", "data": [{"id": "slow", "object": "model"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer: dict[str, object] = {"id": "x", "created": 1, "model": "slow"}
        if not body.get("stream"):
            message = {"role": "assistant", "content": "word"}
            choice = {"index": 0, "finish_reason": "stop", "message": message}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._whole({**answer, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for number in range(SECONDS if int(body.get("max_tokens") or 0) >= LONG_TOKENS else 1):
            self._event(answer, {"role": "assistant", "content": f"word{number} "}, None)
            time.sleep(1)
        self._event(answer, {}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Say nothing."""

    def _event(self, answer: dict[str, object], delta: dict[str, str], reason: str | None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        event = {**answer, "object": "chat.completion.chunk", "choices": [choice]}
        self.wfile.write(f"data: {json.dumps(event)}\n\n".encode())
        self.wfile.flush()

    def _whole(self, answer: dict[str, object]) -> None:
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("0.0.0.0", 8000), Server).serve_forever()  # noqa: S104 - a pod's own address
