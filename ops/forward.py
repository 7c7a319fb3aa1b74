"""The gateway, reached from here through kubectl, and asked as its users' frontend asks it."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import httpx

from config.errors import UserError
from config.model import StackConfig
from ops.kube import Kube

START_SECONDS = 30.0
"""What kubectl may take until it forwards."""
LIST_SECONDS = 30.0
"""What the gateway may take to list its names."""
BUSY_SECONDS = 1.0
"""How long a model that is busy with its users is left alone before it is asked again."""
ANSWERED_BY = "x-litellm-model-api-base"
"""LiteLLM writes the asked name into the body's `model`: only this header tells which backend answered."""
TURNS = ("Count from one to ten: one, two, three,", "And now on from eleven to twenty:")
COMPLETION_TOKENS = 16
TURN_TOKENS = 64
_FORWARDING = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")
_QUOTED = 200


@dataclass(frozen=True, kw_only=True)
class Completion:
    """What came of one question."""

    text: str
    answered_by: str
    """The backend's address as LiteLLM tells it; empty where it does not."""


@dataclass(frozen=True, kw_only=True)
class _Answer:
    status: int
    headers: httpx.Headers
    text: str


class Gateway:
    """An OpenAI-compatible server; every method's UserError is one line without the key."""

    def __init__(self, client: httpx.Client, key: str) -> None:
        self._client = client
        self._key = key

    def names(self) -> list[str]:
        """The ids that `/v1/models` lists."""
        answer = self._ask("/v1/models", None, LIST_SECONDS)
        self._require_ok(answer)
        return model_ids(answer.text)

    def complete(self, model: str, seconds: float) -> Completion:
        """One completion, within so many seconds; UserError where it has no text."""
        body = {**_body(model, [_user(TURNS[0])], COMPLETION_TOKENS), "stream": False}
        answer = self._ask("/v1/chat/completions", body, seconds)
        self._require_ok(answer)
        text = _said([_at(answer.text, "choices", 0, "message")])
        if not text:
            raise UserError(f"the answer is empty: {self._quoted(answer.text)}")
        return Completion(text=text, answered_by=answer.headers.get(ANSWERED_BY, ""))

    def converse(self, model: str, seconds: float) -> list[str]:
        """A conversation as LibreChat holds it: each turn is streamed, and the next one carries all that was said.

        Each turn may take so many seconds. UserError where one has no text or its stream is cut.
        """
        messages: list[dict[str, str]] = []
        said: list[str] = []
        for number, question in enumerate(TURNS, start=1):
            messages.append(_user(question))
            try:
                said.append(self._stream(model, messages, seconds))
            except UserError as error:
                raise UserError(f"turn {number}: {error}") from None
            messages.append({"role": "assistant", "content": said[-1]})
        return said

    def _stream(self, model: str, messages: Sequence[dict[str, str]], seconds: float) -> str:
        body = {**_body(model, messages, TURN_TOKENS), "stream": True, "stream_options": {"include_usage": True}}
        answer = self._ask("/v1/chat/completions", body, seconds)
        self._require_ok(answer)
        events = [line.removeprefix("data:").strip() for line in answer.text.splitlines() if line.startswith("data:")]
        # a backend that dies in mid-stream leaves status 200, an error among the events and no end
        errors = [error for error in (_at(event, "error") for event in events) if error]
        if errors:
            raise UserError(f"the stream breaks off: {self._quoted(json.dumps(errors[0]))}")
        if not events or events[-1] != "[DONE]":
            raise UserError(f"the stream does not end with [DONE]: {self._quoted(answer.text[-_QUOTED:])}")
        text = _said([_at(event, "choices", 0, "delta") for event in events[:-1]])
        if not text:
            raise UserError(f"the stream is empty: {self._quoted(answer.text)}")
        return text

    def _ask(self, path: str, body: object, seconds: float) -> _Answer:
        """The whole answer, of whatever status; UserError where it has not ended within so many seconds.

        A pool refuses more requests of one model than its limit: while it does, it is asked again.
        """
        end = time.monotonic() + seconds
        answer = self._once(path, body, seconds, end)
        while answer.status == HTTPStatus.TOO_MANY_REQUESTS and time.monotonic() + 2 * BUSY_SECONDS < end:
            time.sleep(BUSY_SECONDS)
            answer = self._once(path, body, seconds, end)
        return answer

    def _once(self, path: str, body: object, seconds: float, end: float) -> _Answer:
        text = ""
        method = "GET" if body is None else "POST"
        try:
            with self._client.stream(method, path, json=body, timeout=end - time.monotonic()) as answer:
                for part in answer.iter_text():
                    text += part
                    if time.monotonic() > end:  # what trickles has the same deadline as what hangs
                        raise UserError(f"{path}: the answer has no end within {seconds:g} s")
                return _Answer(status=answer.status_code, headers=answer.headers, text=text)
        except httpx.TimeoutException:
            raise UserError(f"{path}: no answer within {seconds:g} s") from None
        except httpx.HTTPError as error:
            raise UserError(f"{path}: {one_line(str(error)) or type(error).__name__}") from None

    def _require_ok(self, answer: _Answer) -> None:
        if answer.status != HTTPStatus.OK:
            raise UserError(f"HTTP {answer.status}: {self._quoted(answer.text)}")

    def _quoted(self, text: str) -> str:
        return quoted(text.replace(self._key, "***"))


@contextmanager
def open_gateway(config: StackConfig, kube: Kube) -> Generator[Gateway]:
    """The stack's gateway; UserError where its key, its Service or the way to it is missing."""
    secret, gateway = config.gateway.master_key_secret, config.gateway
    key = kube.secret_value(secret.name, secret.key)
    with forwarded(kube, gateway.deployment, gateway.port) as port:
        headers = {"Authorization": f"Bearer {key}"}
        # no proxy of the environment knows this machine's own ports
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, trust_env=False) as client:
            yield Gateway(client, key)


@contextmanager
def forwarded(kube: Kube, service: str, port: int) -> Generator[int]:
    """A loopback port that leads to a pod behind a Service; UserError with kubectl's reason where none does."""
    options = ("--address=127.0.0.1", f"--pod-running-timeout={START_SECONDS / 2:g}s")
    with kube.start("port-forward", *options, f"service/{service}", f":{port}") as process:
        try:
            yield _port(process, service)
        finally:
            process.terminate()
            process.wait()


def _port(process: subprocess.Popen[str], service: str) -> int:
    """The port that kubectl found; it tells once it listens."""
    hung = threading.Timer(START_SECONDS, process.terminate)
    hung.start()
    reason = "it said nothing"
    try:
        for line in process.stdout or ():
            found = _FORWARDING.search(line)
            if found:
                return int(found[1])
            reason = one_line(line) or reason
    finally:
        hung.cancel()
    raise UserError(f"kubectl port-forward leads to no pod of service {service}: {reason}")


def model_ids(text: str) -> list[str]:
    """The ids of a `/v1/models` answer; UserError where it is none."""
    entries = _at(text, "data")
    if not isinstance(entries, list):
        raise UserError(f"/v1/models gives no list: {quoted(text)}")
    return [str(_at(text, "data", index, "id")) for index in range(len(cast("list[object]", entries)))]


def quoted(text: str) -> str:
    """A server's text on one line, shortened, in quotes."""
    line = one_line(text)
    return repr(line if len(line) <= _QUOTED else f"{line[:_QUOTED]}…")


def one_line(text: str) -> str:
    """A text without its line ends."""
    return " ".join(text.split())


def _body(model: str, messages: Sequence[dict[str, str]], tokens: int) -> dict[str, Any]:
    return {"model": model, "messages": messages, "max_tokens": tokens, "temperature": 0}


def _user(question: str) -> dict[str, str]:
    return {"role": "user", "content": question}


def _said(parts: Sequence[object]) -> str:
    """The text of a message's parts; of its thinking where a reasoning model spent all its tokens on that."""
    messages = [cast("dict[str, object]", part) for part in parts if isinstance(part, dict)]
    for kind in ("content", "reasoning_content"):
        text = "".join(str(message.get(kind) or "") for message in messages)
        if text.strip():
            return text
    return ""


def _at(text: str, *path: str | int) -> object:
    """The value at a path into a JSON text; None where there is none."""
    try:
        value = json.loads(text)
        for step in path:
            value = value[step]
    except (ValueError, LookupError, TypeError):
        return None
    return cast("object", value)
