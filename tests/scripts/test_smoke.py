import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.scripts import smoke
from components.scripts.smoke import Failure, Server

Reply = tuple[int, dict[str, str], bytes]
Answer = Callable[[str, dict[str, str], bytes], Reply]
Serve = Callable[[Answer], str]
NAME = "GLM-4.7-Flash"
KEY = "sk-master"
BASE = "http://llama-static-a.ai.svc.cluster.local:8080/v1"


def chunk(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


STREAM = chunk(role="assistant") + b": ping\n\n" + chunk(content="four") + b"data: [DONE]\n\n"


class Backend:
    """An OpenAI-style server whose every answer a test may change."""

    def __init__(self) -> None:
        self.listed = [NAME]
        self.message: dict[str, str | None] = {"content": "four"}
        self.model = NAME
        self.stream = STREAM
        self.status = 200
        self.headers: dict[str, str] = {}
        self.error = b""
        self.loading = 0
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        self.keys.add(headers.get("authorization"))
        if self.loading:
            self.loading -= 1
            return 503, {}, b'{"error": {"message": "Loading model"}}'
        if path == "/v1/models":
            return 200, {}, json.dumps({"data": [{"id": name} for name in self.listed]}).encode()
        self.asked.append(json.loads(body))
        if self.status != 200:
            return self.status, {}, self.error
        if self.asked[-1]["stream"]:
            return 200, self.headers, self.stream
        return 200, self.headers, json.dumps({"model": self.model, "choices": [{"message": self.message}]}).encode()


class Cluster:
    """The part of an API server that lists a backend's pods and hands out their logs."""

    def __init__(self, log: str) -> None:
        self.log = log
        self.pods = [{"metadata": {"name": "llama-static-a-1"}, "status": {"phase": "Running"}}]
        self.status = 200
        self.paths: list[str] = []

    def __call__(self, path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        self.paths.append(path)
        if "/log?" in path:
            return self.status, {}, self.log.encode()
        return 200, {}, json.dumps({"items": self.pods}).encode()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smoke, "_PAUSE_SECONDS", 0.05)


def check_backend(url: str, cluster: str = "", gpu_layers: int = 0, seconds: float = 1) -> str:
    pods = {"namespace": "ai", "selector": "app.kubernetes.io/name=llama-static-a"}
    config = {"url": url, "models": [NAME], "gpu_layers": gpu_layers, "deadline_seconds": seconds, "pods": pods}
    return smoke.check_backend(config, lambda seconds: Server(cluster, "pod-token", seconds))


def check_gateway(url: str, **routes: str) -> str:
    names = {name.replace("_", "-"): base for name, base in routes.items()}
    return smoke.check_gateway({"url": url, "routes": names or {NAME: BASE}, "deadline_seconds": 1}, KEY)


def offload_log(*counts: str) -> str:
    lines = [f"0.01.2 I load_tensors: offloaded {count} layers to GPU" for count in counts]
    return "\n".join(["0.00.1 I srv llama_server: initializing ...", *lines, "0.03.4 I srv llama_server: model loaded"])


# --- backend


def test_a_backend_that_answers_and_streams_as_its_model_is_ok(backend: Backend, serve: Serve) -> None:
    assert check_backend(serve(backend)) == f"ok: {NAME}: answers and streams"
    assert [(asked["model"], asked["stream"]) for asked in backend.asked] == [(NAME, False), (NAME, True)]
    assert all(asked["temperature"] == 0 and asked["max_tokens"] == 16 for asked in backend.asked)


def test_thinking_counts_as_an_answer(backend: Backend, serve: Serve) -> None:
    backend.message = {"content": "", "reasoning_content": "Let me count"}
    backend.stream = chunk(reasoning_content="Let me") + b"data: [DONE]\n\n"
    assert check_backend(serve(backend)).startswith("ok:")


def test_a_server_that_still_loads_is_asked_again(backend: Backend, serve: Serve) -> None:
    backend.loading = 3
    assert check_backend(serve(backend)).startswith("ok:")


def test_a_server_that_never_gets_ready_is_told(backend: Backend, serve: Serve) -> None:
    backend.loading = 10**6
    with pytest.raises(Failure, match=r"no answer from .*/v1/models in 0.2 s \(HTTP 503: .*Loading model"):
        check_backend(serve(backend), seconds=0.2)


def test_no_server_at_all_is_told() -> None:
    with pytest.raises(Failure, match="Connection refused"):
        check_backend("http://127.0.0.1:1", seconds=0.2)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"listed": ["other"]}, f"{NAME}: /v1/models lists ['other'], expected ['{NAME}']"),
        ({"listed": [NAME, "more"]}, f"lists ['{NAME}', 'more'], expected ['{NAME}']"),
        ({"listed": []}, f"lists [], expected ['{NAME}']"),
        ({"model": "other"}, f"{NAME}: the answer comes from model 'other'"),
        ({"message": {"content": ""}}, f"{NAME}: the answer is empty"),
        ({"message": {"content": None, "reasoning_content": None}}, f"{NAME}: the answer is empty"),
        ({"stream": chunk(content="four")}, f"{NAME}: the stream does not end with [DONE]"),
        ({"stream": b"data: [DONE]\n\n" + chunk(content="four")}, "does not end with [DONE]"),
        ({"stream": b""}, "does not end with [DONE]"),
        ({"stream": chunk(role="assistant") + b"data: [DONE]\n\n"}, f"{NAME}: the stream is empty"),
        ({"status": 500, "error": b'{"error": "no\n slot"}'}, f"""{NAME}: HTTP 500: '{{"error": "no slot"}}'"""),
    ],
)
def test_a_wrong_answer_is_one_line(backend: Backend, serve: Serve, changes: dict[str, Any], told: str) -> None:
    vars(backend).update(changes)
    with pytest.raises(Failure) as failure:
        check_backend(serve(backend))
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_stream_that_is_cut_is_not_asked_for_again(backend: Backend, serve: Serve) -> None:
    cut = STREAM[:-14]
    backend.stream = cut

    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        status, replied, content = backend(path, headers, body)
        return status, {**replied, **({"Content-Length": "9999"} if content == cut else {})}, content

    with pytest.raises(Failure, match=r"does not end with \[DONE\]"):
        check_backend(serve(answer))
    assert len(backend.asked) == 2


@pytest.mark.parametrize(("layers", "wanted"), [("29/29", 999), ("12/29", 12)])
def test_offloaded_layers_are_read_from_the_servers_log(
    backend: Backend, serve: Serve, layers: str, wanted: int
) -> None:
    cluster = Cluster(offload_log(layers))
    assert check_backend(serve(backend), serve(cluster), wanted).endswith(f"{layers} layers on the GPU")
    assert cluster.paths == [
        "/api/v1/namespaces/ai/pods?labelSelector=app.kubernetes.io/name%3Dllama-static-a",
        "/api/v1/namespaces/ai/pods/llama-static-a-1/log?container=llama-server&limitBytes=4194304",
    ]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (offload_log(), f"{NAME}: pod llama-static-a-1 runs on the CPU"),
        (offload_log("0/29"), "runs on the CPU: offloaded 0/29"),
        (offload_log("28/29"), "has only some layers on the GPU: offloaded 28/29"),
        (offload_log("29/29", "0/5"), "runs on the CPU: offloaded 0/5"),
    ],
)
def test_a_silent_fallback_to_the_cpu_fails(backend: Backend, serve: Serve, log: str, told: str) -> None:
    with pytest.raises(Failure) as failure:
        check_backend(serve(backend), serve(Cluster(log)), 999)
    assert told in str(failure.value)


def test_a_log_that_may_not_be_read_fails(backend: Backend, serve: Serve) -> None:
    cluster = Cluster("forbidden for pod-token")
    cluster.status = 403
    with pytest.raises(Failure, match=r"cannot be read: 'forbidden for \*\*\*'"):
        check_backend(serve(backend), serve(cluster), 999)


def test_a_pod_that_is_going_does_not_count(backend: Backend, serve: Serve) -> None:
    cluster = Cluster(offload_log("29/29"))
    cluster.pods[0]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(Failure, match=r"no pod of app\.kubernetes\.io/name=llama-static-a runs"):
        check_backend(serve(backend), serve(cluster), 999)


def test_without_a_service_account_the_layers_cannot_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smoke, "_ACCOUNT", tmp_path)
    with pytest.raises(Failure, match="no service account"):
        smoke.own_cluster(1)


# --- gateway


def gateway(backend: Backend, base: str = BASE) -> Backend:
    backend.headers = {"x-litellm-model-api-base": base}
    return backend


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_a_gateway_that_routes_every_name_to_its_backend_is_ok(backend: Backend, serve: Serve, base: str) -> None:
    assert check_gateway(serve(gateway(backend, base))) == f"ok: the gateway routes {NAME}"
    assert backend.keys == {f"Bearer {KEY}"}


def test_the_order_of_the_listed_names_does_not_matter(backend: Backend, serve: Serve) -> None:
    backend.listed = ["b", "a"]
    assert check_gateway(serve(gateway(backend)), a=BASE, b=BASE) == "ok: the gateway routes a, b"
    assert [asked["model"] for asked in backend.asked] == ["a", "b"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"listed": ["general"]}, f"the gateway: /v1/models lists ['general'], expected ['{NAME}']"),
        (
            {"headers": {"x-litellm-model-api-base": "http://vllm:8000/v1"}},
            f"{NAME}: answered by http://vllm:8000/v1, expected {BASE}",
        ),
        ({"headers": {}}, "(no x-litellm-model-api-base header)"),
        ({"message": {"content": ""}}, f"{NAME}: the answer is empty"),
        ({"status": 401, "error": f"bad key {KEY}".encode() + b"x" * 999}, f"{NAME}: HTTP 401: 'bad key ***xxx"),
    ],
)
def test_a_wrong_route_is_one_line_without_the_key(
    backend: Backend, serve: Serve, changes: dict[str, Any], told: str
) -> None:
    vars(gateway(backend)).update(changes)
    with pytest.raises(Failure) as failure:
        check_gateway(serve(backend))
    verdict = str(failure.value)
    assert told in verdict
    assert KEY not in verdict
    assert len(verdict) < 400


# --- command


class Pod:
    """A pod's view: its ConfigMap, its termination message, its exit status."""

    def __init__(self, directory: Path) -> None:
        self._config, self._log = directory / "smoke.json", directory / "termination-log"

    def run(self, target: str, **config: object) -> tuple[int, str]:
        self._config.write_text(json.dumps(config))
        status = smoke.main([target, "--config", str(self._config), "--termination-log", str(self._log)])
        return status, self._log.read_text()


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def test_the_verdict_is_printed_and_left_as_termination_message(
    backend: Backend, serve: Serve, pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(backend)
    good = pod.run("backend", url=url, models=[NAME], gpu_layers=0, deadline_seconds=1)
    bad = pod.run("backend", url=url, models=["other"], gpu_layers=0, deadline_seconds=1)
    assert good == (0, f"ok: {NAME}: answers and streams")
    assert bad[0] == 1
    assert bad[1].startswith(f"other: /v1/models lists ['{NAME}'], expected ['other']: ")
    assert capsys.readouterr().out == f"{good[1]}\n{bad[1]}\n"


def test_the_gateways_key_comes_from_the_environment(
    backend: Backend, serve: Serve, pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    assert pod.run("gateway", url=serve(gateway(backend)), routes={NAME: BASE}, deadline_seconds=1)[0] == 0
    assert backend.keys == {f"Bearer {KEY}"}
    assert KEY not in capsys.readouterr().out


def test_a_broken_config_is_one_line(pod: Pod) -> None:
    status, verdict = pod.run("backend")
    assert status == 1
    assert "does not say what to expect" in verdict
