"""Asks a backend, or the gateway, whether users would get what they pick; the answer is one line.

`smoke.py backend|gateway --config /smoke/smoke.json`. The verdict is printed and left as the pod's termination
message, starting with `ok:` where all is well. Runs in pods: nothing but the standard library of Python 3.9 or newer.
The gateway's key is LITELLM_MASTER_KEY in the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import ssl
import sys
import time
from contextlib import suppress
from http.client import HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote
from urllib.request import Request, urlopen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PROMPT = "Count from one to ten: one, two, three,"
_MAX_TOKENS = 16
_AWAY = {502, 503}  # a server that loads, a gateway whose backend does
_PAUSE_SECONDS = 1.0
_LOG_BYTES = 4 * 2**20  # llama-server tells of its layers within its first lines
_OFFLOADED = re.compile(r"offloaded (\d+)/(\d+) layers to GPU")  # llama.cpp, load_tensors()
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Failure(Exception):  # noqa: N818 - it is the verdict, not a fault of the script
    """One line: what was asked, what came, and what to look at."""


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


class Server:
    """One HTTP server, asked again while it starts, until a deadline that all its requests share."""

    def __init__(self, url: str, token: str | None, seconds: float, tls: ssl.SSLContext | None = None) -> None:
        self.url = url.rstrip("/")
        self._token = token
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._tls = tls

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Answer:
        """The answer, of whatever status; Failure where there is none by the deadline."""
        while True:
            try:
                answer = self._once(path, body)
                if answer.status not in _AWAY:
                    return answer
                reason = f"HTTP {answer.status}: {self.quoted(answer.text)}"
            except (OSError, HTTPException) as error:
                reason = str(error.reason if isinstance(error, URLError) else error) or type(error).__name__
            if time.monotonic() + _PAUSE_SECONDS > self._deadline:
                raise Failure(
                    f"no answer from {self.url}{path} in {self._seconds:g} s ({reason}): look at the pod's log"
                )
            time.sleep(_PAUSE_SECONDS)

    def quoted(self, text: str) -> str:
        """A text of the server's, on one line, shortened, without the key that we sent."""
        line = " ".join((text.replace(self._token, "***") if self._token else text).split())
        return repr(line if len(line) <= 200 else f"{line[:200]}…")  # noqa: PLR2004 - enough to know an error by

    def _once(self, path: str, body: dict[str, Any] | None) -> Answer:
        request = Request(self.url + path)  # noqa: S310 - the address is the stack's own
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        left = max(1.0, self._deadline - time.monotonic())
        try:
            with cast("HTTPResponse", urlopen(request, timeout=left, context=self._tls)) as response:  # noqa: S310 - as above
                return _read(response.status, response)
        except HTTPError as error:
            with error:
                return _read(error.code, error)


def _read(status: int, response: HTTPResponse | HTTPError) -> Answer:
    headers = {name.lower(): value for name, value in response.headers.items()}
    try:
        body = response.read()
    except IncompleteRead as cut:
        body = cut.partial  # a cut stream is a verdict, not something to try again
    return Answer(status, headers, body.decode(errors="replace"))


def check_backend(config: dict[str, Any], cluster: Callable[[float], Server]) -> str:
    """The server lists exactly the models, answers and streams as each, and has its layers on the GPU."""
    names: list[str] = config["models"]
    server = Server(config["url"], None, config["deadline_seconds"])
    _check_names(server, names, ", ".join(names))
    for name in names:
        answer = _chat(server, name, stream=False)
        message = answer.at("choices", 0, "message")
        if not _says(message):
            raise Failure(f"{name}: the answer is empty: {server.quoted(answer.text)}")
        if answer.at("model") != name:
            raise Failure(f"{name}: the answer comes from model {answer.at('model')!r}: look at the server's --alias")
        _check_stream(server, name)
    layers = ""
    if config["gpu_layers"] > 0:
        try:
            layers = f", {_check_layers(config, cluster(config['deadline_seconds']))} layers on the GPU"
        except Failure as failure:
            raise Failure(f"{', '.join(names)}: {failure}") from None
    return f"ok: {', '.join(names)}: answers and streams{layers}"


def check_gateway(config: dict[str, Any], key: str | None) -> str:
    """The gateway lists exactly the names, and the backend that answers each is the right one."""
    routes: dict[str, str] = config["routes"]
    server = Server(config["url"], key, config["deadline_seconds"])
    _check_names(server, sorted(routes), "the gateway")
    for name, base in routes.items():
        answer = _chat(server, name, stream=False)
        if not _says(answer.at("choices", 0, "message")):
            raise Failure(f"{name}: the answer is empty: {server.quoted(answer.text)}")
        # LiteLLM writes the asked name into the body's model: only the header tells who answered
        answered = answer.headers.get("x-litellm-model-api-base", "(no x-litellm-model-api-base header)")
        if answered.rstrip("/") != base.rstrip("/"):
            raise Failure(f"{name}: answered by {answered}, expected {base}: look at the gateway's model_list")
    return f"ok: the gateway routes {', '.join(routes)}"


def _check_names(server: Server, expected: list[str], who: str) -> None:
    answer = server.ask("/v1/models")
    entries = answer.at("data")
    if answer.status != 200 or not isinstance(entries, list):  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"{who}: /v1/models: HTTP {answer.status}: {server.quoted(answer.text)}")
    listed = sorted(str(answer.at("data", index, "id")) for index in range(len(cast("list[Any]", entries))))
    if listed != sorted(expected):
        raise Failure(
            f"{who}: /v1/models lists {listed}, expected {sorted(expected)}: {server.url} serves other models"
        )


def _chat(server: Server, name: str, *, stream: bool) -> Answer:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "stream": stream,
    }
    try:
        answer = server.ask("/v1/chat/completions", body)
    except Failure as failure:
        raise Failure(f"{name}: {failure}") from None
    if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"{name}: HTTP {answer.status}: {server.quoted(answer.text)}")
    return answer


def _check_stream(server: Server, name: str) -> None:
    answer = _chat(server, name, stream=True)
    events = [line[len("data:") :].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    if not events or events[-1] != "[DONE]":
        raise Failure(f"{name}: the stream does not end with [DONE]: {server.quoted(answer.text[-200:])}")
    deltas = [Answer(200, {}, event).at("choices", 0, "delta") for event in events[:-1]]
    if not any(_says(delta) for delta in deltas):
        raise Failure(f"{name}: the stream is empty: {server.quoted(answer.text)}")


def _says(message: Any) -> bool:  # noqa: ANN401 - JSON of whatever shape came
    """Whether there is text; a reasoning model may spend all its tokens on thinking."""
    if not isinstance(message, dict):
        return False
    parts = cast("dict[str, Any]", message)
    return bool(parts.get("content") or parts.get("reasoning_content"))


def _check_layers(config: dict[str, Any], cluster: Server) -> str:
    """Layers on the GPU and in all; Failure where the server fell back to the CPU, which it does without a word."""
    path = f"/api/v1/namespaces/{config['pods']['namespace']}/pods"
    listed = cluster.ask(f"{path}?labelSelector={quote(config['pods']['selector'])}")
    if listed.status != 200:  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"the cluster does not list the server's pods: {cluster.quoted(listed.text)}")
    pods = cast("list[dict[str, Any]]", listed.at("items") or [])
    running: list[str] = [pod["metadata"]["name"] for pod in pods if _runs(pod)]
    if not running:
        raise Failure(f"no pod of {config['pods']['selector']} runs: look at its Deployment's events")
    layers = ""
    for pod in running:
        log = cluster.ask(f"{path}/{pod}/log?container=llama-server&limitBytes={_LOG_BYTES}")
        if log.status != 200:  # noqa: PLR2004 - HTTP's own number
            raise Failure(f"the log of pod {pod} cannot be read: {cluster.quoted(log.text)}")
        layers = offloaded(log.text, config["gpu_layers"], pod)
    return layers


def _runs(pod: dict[str, Any]) -> bool:
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


def offloaded(log: str, wanted: int, pod: str) -> str:
    """`29/29`, as the server's log says; Failure unless all wanted layers, or all there are, are on the GPU."""
    remedy = "look at its log, the image's GPU backend, gpu.resource and gpu.supplemental_groups"
    found = _OFFLOADED.findall(log)
    if not found:
        # seen at b11434: the server prints the loader's own lines from verbosity 4 on (common/log.cpp)
        raise Failure(
            f"pod {pod} runs on the CPU, or without --log-verbosity 4: no offloaded layers in its log: {remedy}"
        )
    for done, total in found:
        if int(done) < min(wanted, int(total)):
            where = "has only some layers on the GPU" if int(done) else "runs on the CPU"
            raise Failure(f"pod {pod} {where}: offloaded {done}/{total}: {remedy}")
    return "/".join(found[0])


def own_cluster(seconds: float) -> Server:
    """The API server of the cluster that this pod runs in, asked as the pod's service account."""
    try:
        token = (_ACCOUNT / "token").read_text(encoding="utf-8").strip()
        tls = ssl.create_default_context(cafile=str(_ACCOUNT / "ca.crt"))
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    except (OSError, KeyError):
        raise Failure("no service account to read the server's log with: give the pod one, or gpu_layers 0") from None
    return Server(f"https://{f'[{host}]' if ':' in host else host}:{port}", token, seconds, tls)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0 or 1."""
    parser = argparse.ArgumentParser(description="Asks a backend or the gateway whether it serves what it should.")
    parser.add_argument("target", choices=["backend", "gateway"])
    parser.add_argument("--config", type=Path, required=True, help="JSON of what is expected")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    failed = True
    try:
        config: dict[str, Any] = json.loads(args.config.read_text(encoding="utf-8"))
        if args.target == "backend":
            verdict = check_backend(config, own_cluster)
        else:
            verdict = check_gateway(config, os.environ.get("LITELLM_MASTER_KEY"))
        failed = False
    except Failure as failure:
        verdict = str(failure)
    except (OSError, ValueError, KeyError, TypeError) as error:
        verdict = f"{args.config} does not say what to expect ({error!r}): deploy the stack again"
    print(verdict)
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(verdict, encoding="utf-8")
    return int(failed)


def _stop(*_: object) -> None:
    sys.exit(143)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)  # process 1 would ignore it otherwise
    sys.exit(main())
