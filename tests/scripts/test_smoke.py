import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from components.scripts import smoke
from components.scripts.smoke import Failure, Run, Server

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
Answer = Callable[[str, dict[str, str], bytes], Reply]
Serve = Callable[[Answer], str]
NAME = "GLM-4.7-Flash"
KEY = "sk-master"
CONTENT = "0123abcdef"
OTHER = f"of another content (old, expected {CONTENT})"
PODS = {"namespace": "ai", "selector": "app.kubernetes.io/name=llama-static-a", "content": CONTENT}
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
        self.stream: bytes | Iterator[bytes] = STREAM
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


def pod_of(content: str, name: str = "llama-static-a-1", phase: str = "Running", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"llama-chat/content": content}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    }


def going(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return pod


class Cluster:
    """The part of an API server that lists pods, one look after the other, and hands out their logs."""

    def __init__(self, log: str = "", looks: list[list[dict[str, Any]]] | None = None) -> None:
        self.log = log
        self.looks = looks or [[pod_of(CONTENT)]]
        self.status = self.list_status = 200
        self.paths: list[str] = []

    def __call__(self, path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        self.paths.append(path)
        if "/log?" in path:
            return self.status, {}, self.log.encode()
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        return self.list_status, {}, json.dumps({"items": look}).encode()


@pytest.fixture
def backend() -> Backend:
    return Backend()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smoke_client._PAUSE_SECONDS", 0.05)


class Checks:
    """Asks a backend or a gateway in a cluster."""

    def __init__(self, serve: Serve) -> None:
        self.serve = serve

    def backend(self, backend: Answer | str, cluster: Answer | None = None, layers: int = 0, seconds: float = 2) -> str:
        return self._check("backend", backend, cluster, seconds, models=[NAME], gpu_layers=layers)

    def gateway(self, gateway: Answer, cluster: Answer | None = None, seconds: float = 2, **routes: str) -> str:
        return self._check("gateway", gateway, cluster, seconds, routes=routes or {NAME: BASE})

    def _check(
        self, target: str, asked: Answer | str, cluster: Answer | None, seconds: float, **expected: object
    ) -> str:
        url = asked if isinstance(asked, str) else self.serve(asked)
        api = self.serve(cluster or Cluster())
        config = {"url": url, "deadline_seconds": seconds, "pods": PODS, **expected}
        return smoke.check(target, config, lambda run: Server(api, "pod-token", run))


@pytest.fixture
def checks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Checks:
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    return Checks(serve)


def offload_log(*counts: str) -> str:
    lines = [f"0.01.2 I load_tensors: offloaded {count} layers to GPU" for count in counts]
    return "\n".join(["0.00.1 I srv llama_server: initializing ...", *lines, "0.03.4 I srv llama_server: model loaded"])


# --- backend


def test_a_backend_that_answers_and_streams_as_its_model_is_ok(backend: Backend, checks: Checks) -> None:
    assert checks.backend(backend) == f"ok: {NAME}: answers and streams"
    assert [(asked["model"], asked["stream"]) for asked in backend.asked] == [(NAME, False), (NAME, True)]
    assert all(asked["temperature"] == 0 and asked["max_tokens"] == 16 for asked in backend.asked)


def test_thinking_counts_as_an_answer(backend: Backend, checks: Checks) -> None:
    backend.message = {"content": "", "reasoning_content": "Let me count"}
    backend.stream = chunk(reasoning_content="Let me") + b"data: [DONE]\n\n"
    assert checks.backend(backend).startswith("ok:")


def test_a_server_that_still_loads_is_asked_again(backend: Backend, checks: Checks) -> None:
    backend.loading = 3
    assert checks.backend(backend).startswith("ok:")


def test_a_server_that_never_gets_ready_is_told(backend: Backend, checks: Checks) -> None:
    backend.loading = 10**6
    with pytest.raises(Failure, match=r"no answer from .*/v1/models in 0.2 s \(HTTP 503: .*Loading model"):
        checks.backend(backend, seconds=0.2)


def test_no_server_at_all_is_told(checks: Checks) -> None:
    with pytest.raises(Failure, match="Connection refused"):
        checks.backend("http://127.0.0.1:1", seconds=0.2)


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
def test_a_wrong_answer_is_one_line(backend: Backend, checks: Checks, changes: dict[str, Any], told: str) -> None:
    vars(backend).update(changes)
    with pytest.raises(Failure) as failure:
        checks.backend(backend)
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_stream_that_is_cut_is_not_asked_for_again(backend: Backend, checks: Checks) -> None:
    cut = STREAM[:-14]
    backend.stream = cut

    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        status, replied, content = backend(path, headers, body)
        return status, {**replied, **({"Content-Length": "9999"} if content == cut else {})}, content

    with pytest.raises(Failure, match=r"does not end with \[DONE\]"):
        checks.backend(answer)
    assert len(backend.asked) == 2


@pytest.mark.parametrize(("layers", "wanted"), [("29/29", 999), ("12/29", 12)])
def test_offloaded_layers_are_read_from_the_servers_log(
    backend: Backend, checks: Checks, layers: str, wanted: int
) -> None:
    cluster = Cluster(offload_log(layers))
    assert checks.backend(backend, cluster, wanted).endswith(f"{layers} layers on the GPU")
    assert cluster.paths == [
        "/api/v1/namespaces/ai/pods?labelSelector=app.kubernetes.io/name%3Dllama-static-a",
        "/api/v1/namespaces/ai/pods/llama-static-a-1/log?container=llama-server&limitBytes=4194304",
    ]


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (offload_log(), f"{NAME}: pod llama-static-a-1 tells of no offloaded layers in its log: it runs on the CPU"),
        (offload_log(), "or the log was rotated since (then restart the pod)"),
        (offload_log("0/29"), "runs on the CPU: offloaded 0/29"),
        (offload_log("28/29"), "has only some layers on the GPU: offloaded 28/29"),
        (offload_log("29/29", "0/5"), "runs on the CPU: offloaded 0/5"),
    ],
)
def test_a_silent_fallback_to_the_cpu_fails(backend: Backend, checks: Checks, log: str, told: str) -> None:
    with pytest.raises(Failure) as failure:
        checks.backend(backend, Cluster(log), 999)
    assert told in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_log_that_may_not_be_read_fails(backend: Backend, checks: Checks) -> None:
    cluster = Cluster("forbidden for pod-token")
    cluster.status = 403
    with pytest.raises(Failure, match=r"cannot be read: 'forbidden for \*\*\*'"):
        checks.backend(backend, cluster, 999)


def test_without_a_service_account_the_pods_cannot_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(smoke, "_ACCOUNT", tmp_path)
    with pytest.raises(Failure, match="no service account"):
        smoke.own_cluster(Run(1))


# --- which pods answer, and for how long they are asked


@pytest.mark.parametrize(
    "not_yet",
    [
        [],
        [pod_of("old")],
        [pod_of("old", "old-1"), pod_of(CONTENT)],
        [pod_of(CONTENT, phase="Pending", ready="False")],
        [{**pod_of(CONTENT), "status": {"phase": "Pending"}}],
        [going(pod_of(CONTENT))],
        [pod_of(CONTENT, phase="Failed")],
    ],
)
@pytest.mark.parametrize("target", ["backend", "gateway"])
def test_nothing_is_asked_before_the_deployed_pods_stand(
    backend: Backend, checks: Checks, target: str, not_yet: list[dict[str, Any]]
) -> None:
    cluster = Cluster(looks=[not_yet, not_yet, [pod_of(CONTENT)]])

    def late(path: str, headers: dict[str, str], body: bytes) -> Reply:
        assert len(cluster.paths) == 3
        return backend(path, headers, body)

    gateway(backend)
    assert getattr(checks, target)(late, cluster).startswith("ok:")
    assert backend.asked


@pytest.mark.parametrize(
    "left_over", [going(pod_of("old", "old-1")), pod_of("old", "old-1", "Failed"), pod_of("old", "old-1", "Succeeded")]
)
def test_pods_that_are_going_or_gone_are_not_waited_for(
    backend: Backend, checks: Checks, left_over: dict[str, Any]
) -> None:
    cluster = Cluster(offload_log("29/29"), [[left_over, pod_of(CONTENT)]])
    assert checks.backend(backend, cluster, 999).startswith("ok:")
    assert ["old-1" in path for path in cluster.paths] == [False, False]


@pytest.mark.parametrize(
    ("pods", "told"),
    [
        ([], "no pod stands"),
        ([pod_of("old")], f"pod llama-static-a-1 is {OTHER} and ready"),
        (
            [pod_of(CONTENT, "a", ready="False"), pod_of("old", "b")],
            f"pod a is of content {CONTENT} and not ready; pod b is {OTHER} and ready",
        ),
    ],
)
@pytest.mark.parametrize("target", ["backend", "gateway"])
def test_pods_that_never_become_the_deployed_ones_are_named(
    backend: Backend, checks: Checks, target: str, pods: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(Failure) as failure:
        getattr(checks, target)(backend, Cluster(looks=[pods]), seconds=0.2)
    who = NAME if target == "backend" else "the gateway"
    assert str(failure.value) == (
        f"{who}: the pods of {PODS['selector']} are not the deployed ones after 0.2 s: {told}: "
        "look at the Deployment's events"
    )
    assert not backend.asked


def test_pods_that_may_not_be_listed_are_told(backend: Backend, checks: Checks) -> None:
    cluster = Cluster()
    cluster.list_status = 403
    with pytest.raises(Failure, match=f"the gateway: the cluster does not list {PODS['selector']}'s pods"):
        checks.gateway(backend, cluster)


def test_the_wait_for_the_pods_and_the_requests_share_one_deadline(backend: Backend, checks: Checks) -> None:
    backend.loading = 10**6
    cluster = Cluster(looks=[*repeat([], 10), [pod_of(CONTENT)]])
    begun = time.monotonic()
    with pytest.raises(Failure, match="in 1 s"):
        checks.backend(backend, cluster, seconds=1)
    assert 0.8 < time.monotonic() - begun < 1.4


def test_a_stream_that_trickles_for_ever_is_ended_by_the_deadline(backend: Backend, checks: Checks) -> None:
    def pings() -> Iterator[bytes]:
        while True:
            yield b": ping\n\n"
            time.sleep(0.02)

    backend.stream = pings()
    begun = time.monotonic()
    with pytest.raises(
        Failure, match=rf"{NAME}: no answer from .*/v1/chat/completions in 0\.6 s \((too slow|timed out)"
    ):
        checks.backend(backend, seconds=0.6)
    assert time.monotonic() - begun < 3


# --- gateway


def gateway(backend: Backend, base: str = BASE) -> Backend:
    backend.headers = {"x-litellm-model-api-base": base}
    return backend


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_a_gateway_that_routes_every_name_to_its_backend_is_ok(backend: Backend, checks: Checks, base: str) -> None:
    assert checks.gateway(gateway(backend, base)) == f"ok: the gateway routes {NAME}"
    assert backend.keys == {f"Bearer {KEY}"}


def test_the_order_of_the_listed_names_does_not_matter(backend: Backend, checks: Checks) -> None:
    backend.listed = ["b", "a"]
    assert checks.gateway(gateway(backend), a=BASE, b=BASE) == "ok: the gateway routes a, b"
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
    backend: Backend, checks: Checks, changes: dict[str, Any], told: str
) -> None:
    vars(gateway(backend)).update(changes)
    with pytest.raises(Failure) as failure:
        checks.gateway(backend)
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
def pod(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Pod:
    api = serve(Cluster())

    def cluster(run: Run) -> Server:
        return Server(api, "pod-token", run)

    monkeypatch.setattr(smoke, "own_cluster", cluster)
    return Pod(tmp_path)


def test_the_verdict_is_printed_and_left_as_termination_message(
    backend: Backend, serve: Serve, pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(backend)
    good = pod.run("backend", url=url, models=[NAME], gpu_layers=0, deadline_seconds=1, pods=PODS)
    bad = pod.run("backend", url=url, models=["other"], gpu_layers=0, deadline_seconds=1, pods=PODS)
    assert good == (0, f"ok: {NAME}: answers and streams")
    assert bad[0] == 1
    assert bad[1].startswith(f"other: /v1/models lists ['{NAME}'], expected ['other']: ")
    assert capsys.readouterr().out == f"{good[1]}\n{bad[1]}\n"


def test_the_gateways_key_comes_from_the_environment(
    backend: Backend, serve: Serve, pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    url = serve(gateway(backend))
    assert pod.run("gateway", url=url, routes={NAME: BASE}, deadline_seconds=1, pods=PODS)[0] == 0
    assert backend.keys == {f"Bearer {KEY}"}
    assert KEY not in capsys.readouterr().out


def test_sigterm_leaves_what_it_was_doing(serve: Serve, pod: Pod) -> None:
    ended = threading.Event()

    def hanging(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        os.kill(os.getpid(), signal.SIGTERM)
        ended.wait(5)
        return 200, {}, b""

    before = signal.signal(signal.SIGTERM, smoke.terminate)
    try:
        url = serve(hanging)
        status, verdict = pod.run("backend", url=url, models=[NAME], gpu_layers=0, deadline_seconds=9, pods=PODS)
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.set()
    assert status == 143
    assert verdict.startswith(f"Kubernetes ended this pod while asking {url}/v1/models: look at the pods")
    assert "\n" not in verdict


def test_it_runs_beside_its_own_files_alone(tmp_path: Path) -> None:
    for script in ("smoke.py", "smoke_client.py"):
        (tmp_path / script).write_text((Path(smoke.__file__).parent / script).read_text())
    shown = subprocess.run(
        [sys.executable, str(tmp_path / "smoke.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_broken_config_is_one_line(pod: Pod) -> None:
    status, verdict = pod.run("backend")
    assert status == 1
    assert "does not say what to expect" in verdict
