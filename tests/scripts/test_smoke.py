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
from components.scripts.smoke import Failure, Options, Run, Server
from render.document import to_json
from render.smoke import backend_expectation, gateway_expectation
from tests.conftest import stack_config

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
Answer = Callable[[str, dict[str, str], bytes], Reply]
Serve = Callable[[Answer], str]
NAME = "GLM-4.7-Flash"
KEY = "sk-master"
CONTENT = "0123abcdef"
OTHER = f"of another content (old, expected {CONTENT})"
TEST = "llama-static-a-smoke"
PODS: dict[str, object] = {
    "selector": "app.kubernetes.io/name=llama-static-a",
    "content": CONTENT,
    "container": "llama-server",
}
SUCCEEDED = {"succeeded": 1}
BASE = "http://llama-static-a.ai.svc.cluster.local:8080/v1"


def model(name: str = NAME, seconds: float = 2, **more: object) -> dict[str, Any]:
    asked = {"name": name, "deadline_seconds": seconds, "skip_passed": False, "content": f"{name}-1"}
    return {**asked, "weights": None, "weights_at": "/v1/models", **more}


def chunk(**delta: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": delta}]}).encode() + b"\n\n"


STREAM = chunk(role="assistant") + b": ping\n\n" + chunk(content="four") + b"data: [DONE]\n\n"


class Backend:
    """An OpenAI-style server whose every answer a test may change."""

    def __init__(self) -> None:
        self.listed = [NAME]
        self.meta: dict[str, int] | None = None
        self.paths: list[str] = []
        self.message: dict[str, str | None] = {"content": "four"}
        self.model: str | None = None
        """Who answers: the one that was asked, if it is not said."""
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
        if path.endswith("/v1/models"):
            self.paths.append(path)
            return 200, {}, json.dumps({"data": [{"id": name, "meta": self.meta} for name in self.listed]}).encode()
        asked = json.loads(body)
        self.asked.append(asked)
        if self.status != 200:
            return self.status, {}, self.error
        if asked["stream"]:
            return 200, self.headers, self.stream
        answer = {"model": self.model or asked["model"], "choices": [{"message": self.message}]}
        return 200, self.headers, json.dumps(answer).encode()


def names(backend: Backend) -> list[str]:
    """The models that were asked, in order."""
    return [asked["model"] for asked in backend.asked if not asked["stream"]]


def pod_of(content: str, name: str = "llama-static-a-1", phase: str = "Running", ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"llama-chat/content": content}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
    }


def going(pod: dict[str, Any]) -> dict[str, Any]:
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    return pod


class Cluster:
    """The part of an API server that lists pods, one look after the other, and hands out their logs.

    It also lists the Jobs of a test, and has their ConfigMaps.
    """

    def __init__(self, log: str = "", looks: list[list[dict[str, Any]]] | None = None) -> None:
        self.log = log
        self.looks = looks or [[pod_of(CONTENT)]]
        self.status = self.list_status = self.jobs_status = 200
        self.paths: list[str] = []
        self.jobs: dict[str, list[dict[str, Any]]] = {}
        self.config_maps: dict[str, str] = {}

    def ran(self, *models: dict[str, Any], test: str = TEST, status: dict[str, int] = SUCCEEDED) -> None:
        """A Job of a test stands, with what it expected."""
        name = f"{test}-files-{len(self.config_maps)}"
        self.config_maps[name] = json.dumps({"models": models})
        volumes: list[dict[str, Any]] = [
            {"name": "account", "projected": {}},
            {"name": "smoke", "configMap": {"name": name}},
        ]
        job: dict[str, Any] = {"spec": {"template": {"spec": {"volumes": volumes}}}, "status": status}
        self.jobs.setdefault(test, []).append(job)

    def __call__(self, path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        self.paths.append(path)
        if "/log?" in path:
            return self.status, {}, self.log.encode()
        if path.startswith("/apis/batch/v1/namespaces/ai/jobs?labelSelector=app.kubernetes.io/name%3D"):
            jobs = self.jobs.get(path.partition("%3D")[2], [])
            return self.jobs_status, {}, json.dumps({"items": jobs, "message": "no Jobs for pod-token"}).encode()
        if path.startswith("/api/v1/namespaces/ai/configmaps/"):
            record = self.config_maps.get(path.rpartition("/")[2])
            found = {"data": {"smoke.json": record}} if record else {"kind": "Status", "code": 404}
            return 200 if record else 404, {}, json.dumps(found).encode()
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
        self.options = Options(TEST)
        self.models = [model()]
        """What is expected, where a test names no routes."""

    def backend(self, backend: Answer | str, cluster: Answer | None = None, layers: int = 0, seconds: float = 2) -> str:
        url = backend if isinstance(backend, str) else self.serve(backend)
        more = {"models": self.models, "pods": PODS, "gpu_layers": layers}
        return self._check("backend", url, cluster, seconds, **more)

    def gateway(self, gateway: Answer, cluster: Answer | None = None, seconds: float = 2, **routes: str) -> str:
        routed = [model(name, api_base=base) for name, base in routes.items()]
        models = routed or [{"api_base": BASE, **each} for each in self.models]
        return self._check("gateway", self.serve(gateway), cluster, seconds, models=models)

    def _check(self, target: str, url: str, cluster: Answer | None, seconds: float, **expected: object) -> str:
        return self._run(target, {"namespace": "ai", "url": url, "start_seconds": seconds, **expected}, cluster)

    def record(self, target: str, record: dict[str, Any], asked: Answer, cluster: Answer | None = None) -> str:
        return self._run(target, {**record, "url": self.serve(asked)}, cluster)

    def _run(self, target: str, config: dict[str, Any], cluster: Answer | None) -> str:
        api = self.serve(cluster or Cluster())
        return smoke.check(target, config, self.options, lambda run: Server(api, "pod-token", run))


@pytest.fixture
def checks(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> Checks:
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    return Checks(serve)


def offload_log(*counts: str) -> str:
    lines = [f"0.01.2 I load_tensors: offloaded {count} layers to GPU" for count in counts]
    began = "0.00.2 I load_tensors: loading model tensors, this can take a while... (load_mode = mmap)"
    return "\n".join(
        ["0.00.1 I srv llama_server: initializing ...", began, *lines, "0.03.4 I srv llama_server: model loaded"]
    )


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


@pytest.mark.parametrize(
    ("log", "told"), [("… a request", "layers as when"), (offload_log("9/9"), "9/9 layers on the")]
)
def test_a_pod_that_runs_since_long_may_have_a_log_without_its_beginning(
    backend: Backend, checks: Checks, log: str, told: str
) -> None:
    checks.options = Options(TEST, everything=True)
    assert told in checks.backend(backend, Cluster(log), 999)
    with pytest.raises(Failure, match="tells of no offloaded layers"):
        checks.backend(backend, Cluster(offload_log()), 999)


def test_a_log_that_may_not_be_read_fails(backend: Backend, checks: Checks) -> None:
    cluster = Cluster("forbidden for pod-token")
    cluster.status = 403
    with pytest.raises(Failure, match=r"cannot be read: 'forbidden for \*\*\*'"):
        checks.backend(backend, cluster, 999)


def test_without_a_service_account_the_pods_cannot_be_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("smoke_pods._ACCOUNT", tmp_path)
    with pytest.raises(Failure, match="no service account"):
        smoke.own_cluster(Run(1))


# --- which weights answer


LOCKED = {"parameters": 1000, "bytes": 4000}


def test_the_right_name_over_the_locked_weights_passes(backend: Backend, checks: Checks) -> None:
    backend.meta = {"n_params": 1000, "size": 4000}
    checks.models = [model(weights=LOCKED, weights_at=f"/upstream/{NAME}/v1/models")]
    assert checks.backend(backend).startswith("ok: ")
    assert backend.paths[-1] == f"/upstream/{NAME}/v1/models"


@pytest.mark.parametrize("meta", [{"n_params": 999, "size": 4000}, {"n_params": 1000, "size": 3999}, None])
def test_the_right_name_over_other_weights_fails(backend: Backend, checks: Checks, meta: dict[str, int] | None) -> None:
    backend.meta = meta
    checks.models = [model(weights=LOCKED)]
    with pytest.raises(Failure, match=rf"{NAME}: the server has loaded .*, the lock 1000 in 4000: look at its file"):
        checks.backend(backend)


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
def test_nothing_is_asked_before_the_deployed_pods_stand(
    backend: Backend, checks: Checks, not_yet: list[dict[str, Any]]
) -> None:
    cluster = Cluster(looks=[not_yet, not_yet, [pod_of(CONTENT)]])

    def late(path: str, headers: dict[str, str], body: bytes) -> Reply:
        assert len(cluster.paths) == 3
        return backend(path, headers, body)

    assert checks.backend(late, cluster).startswith("ok:")
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
def test_pods_that_never_become_the_deployed_ones_are_named(
    backend: Backend, checks: Checks, pods: list[dict[str, Any]], told: str
) -> None:
    with pytest.raises(Failure) as failure:
        checks.backend(backend, Cluster(looks=[pods]), seconds=0.2)
    assert str(failure.value) == (
        f"{NAME}: the pods of {PODS['selector']} are not the deployed ones after 0.2 s: {told}: "
        "look at the Deployment's events"
    )
    assert not backend.asked


def test_pods_that_may_not_be_listed_are_told(backend: Backend, checks: Checks) -> None:
    cluster = Cluster()
    cluster.list_status = 403
    with pytest.raises(Failure, match=f"{NAME}: the cluster does not list {PODS['selector']}'s pods"):
        checks.backend(backend, cluster)
    assert not backend.asked


def test_the_wait_for_the_pods_and_for_the_server_share_one_deadline(backend: Backend, checks: Checks) -> None:
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
    checks.models = [model(seconds=0.6)]
    begun = time.monotonic()
    with pytest.raises(
        Failure, match=rf"{NAME}: no answer from .*/v1/chat/completions in 0\.6 s \((too slow|timed out)"
    ):
        checks.backend(backend)
    assert time.monotonic() - begun < 3


# --- many models, one after the other


class Clock:
    """Time that passes when a server answers, and while the script waits."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("smoke_client.time", clock)
    return clock


def slow(backend: Backend, clock: Clock, **seconds: float) -> Answer:
    """The same server, whose models take so long for each answer."""

    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        if body:
            clock.now += seconds[json.loads(body)["model"]]
        return backend(path, headers, body)

    return answer


def pool(backend: Backend, checks: Checks, *models: dict[str, Any]) -> None:
    checks.models = list(models)
    backend.listed = [each["name"] for each in models]


def test_every_model_of_a_backend_is_asked(backend: Backend, checks: Checks) -> None:
    pool(backend, checks, model("a"), model("b"))
    assert checks.backend(backend) == "ok: a, b: answers and streams"
    asked = [(asked["model"], asked["stream"]) for asked in backend.asked]
    assert asked == [("a", False), ("a", True), ("b", False), ("b", True)]


def test_the_one_model_that_answers_wrongly_is_named(backend: Backend, checks: Checks) -> None:
    pool(backend, checks, model("a"), model("b"))
    backend.model = "a"
    with pytest.raises(Failure, match=r"^b: the answer comes from model 'a'"):
        checks.backend(backend)


def test_each_models_time_is_its_own(backend: Backend, checks: Checks, clock: Clock) -> None:
    pool(backend, checks, model("a", 20), model("b", 5))
    assert checks.backend(slow(backend, clock, a=9, b=2), seconds=3).startswith("ok: a, b:")
    assert clock.now == 100 + 2 * 9 + 2 * 2


@pytest.mark.parametrize(("target", "seconds"), [("backend", {"a": 9, "b": 3}), ("gateway", {"a": 9, "b": 6})])
def test_a_model_that_takes_more_than_its_time_is_told(
    backend: Backend, checks: Checks, clock: Clock, target: str, seconds: dict[str, float]
) -> None:
    pool(gateway(backend), checks, model("a", 20), model("b", 5), model("c", 20))
    with pytest.raises(Failure, match=r"^b: no answer from .*/v1/chat/completions in 5 s \(too slow\)"):
        getattr(checks, target)(slow(backend, clock, **seconds), seconds=3)
    assert names(backend) == ["a", "b"]


def test_a_step_has_all_its_time_whenever_it_begins(clock: Clock) -> None:
    run = Run()
    with pytest.raises(TimeoutError, match="too slow"):
        run.left()
    run.begin(8)
    clock.now += 5
    assert (run.seconds, run.left()) == (8, 3)
    run.begin(2)
    assert (run.seconds, run.left()) == (2, 2)


def test_a_wait_never_goes_past_the_deadline(clock: Clock) -> None:
    run = Run(0.12)
    assert [run.pause() for _ in range(3)] == [True, True, False]
    assert clock.now == pytest.approx(100.1)


# --- what an earlier run of the same test found


TARGETS = pytest.mark.parametrize(
    ("target", "what"), [("backend", "answers and streams"), ("gateway", "routed by the gateway")]
)


def of_pool(name: str, content: str = "now") -> dict[str, Any]:
    return model(name, skip_passed=True, content=content)


@pytest.fixture
def many(backend: Backend, checks: Checks) -> Backend:
    """A backend or gateway whose models a, b and c need not be asked again."""
    pool(gateway(backend), checks, of_pool("a"), of_pool("b"), of_pool("c"))
    return backend


@TARGETS
def test_a_model_that_passed_as_it_is_now_is_not_asked_again(
    many: Backend, checks: Checks, target: str, what: str
) -> None:
    cluster = Cluster()
    cluster.ran(of_pool("a"), of_pool("b", "before"))
    verdict = getattr(checks, target)(many, cluster)
    assert verdict == f"ok: b, c: {what}; unchanged since they passed: a"
    assert names(many) == ["b", "c"]


@TARGETS
def test_where_all_passed_as_they_are_now_none_is_asked(many: Backend, checks: Checks, target: str, what: str) -> None:
    cluster = Cluster()
    cluster.ran(of_pool("a"), of_pool("b", "before"))
    cluster.ran(of_pool("b"), of_pool("c"))
    verdict = getattr(checks, target)(many, cluster)
    assert verdict == "ok: unchanged since they passed: a, b, c"
    assert what not in verdict
    assert not many.asked


@TARGETS
def test_all_are_asked_where_that_is_wanted(many: Backend, checks: Checks, target: str, what: str) -> None:
    cluster = Cluster()
    cluster.ran(*checks.models)
    checks.options = Options(TEST, everything=True)
    assert getattr(checks, target)(many, cluster) == f"ok: a, b, c: {what}"
    assert not any("/jobs" in path for path in cluster.paths)


def test_a_backend_that_should_stand_is_not_waited_for_as_long_as_a_rollout(
    backend: Backend, checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "_STANDING_SECONDS", 0.2)
    checks.options = Options(TEST, everything=True)
    with pytest.raises(Failure, match=r"not the deployed ones after 0.2 s: no pod stands"):
        checks.backend(backend, Cluster(looks=[[]]), seconds=60)


@TARGETS
def test_what_must_be_asked_each_time_is(many: Backend, checks: Checks, target: str, what: str) -> None:
    cluster = Cluster()
    cluster.ran(*checks.models)
    checks.models[1]["skip_passed"] = False
    assert getattr(checks, target)(many, cluster) == f"ok: b: {what}; unchanged since they passed: a, c"


@pytest.mark.parametrize("status", [{}, {"failed": 1}, {"active": 1}, {"succeeded": 0, "failed": 1}])
def test_a_job_that_did_not_succeed_counts_for_nothing(many: Backend, checks: Checks, status: dict[str, int]) -> None:
    cluster = Cluster()
    cluster.ran(*checks.models, status=status)
    assert checks.backend(many, cluster) == "ok: a, b, c: answers and streams"


def test_another_tests_job_counts_for_nothing(many: Backend, checks: Checks) -> None:
    cluster = Cluster()
    cluster.ran(*checks.models, test="llama-swap-smoke")
    assert checks.backend(many, cluster) == "ok: a, b, c: answers and streams"


@pytest.mark.parametrize(
    "record",
    [
        None,
        "{",
        "{}",
        '{"models": {}}',
        '{"models": ["a", "b", "c"]}',
        '{"models": [{"name": "a"}, {"content": "now"}, null]}',
        '{"routes": {"a": "http://llama-static-a"}}',
    ],
)
def test_a_record_that_is_gone_or_of_another_make_tells_of_no_passed_model(
    many: Backend, checks: Checks, record: str | None
) -> None:
    cluster = Cluster()
    cluster.ran(*checks.models)
    cluster.config_maps = {name: record for name in cluster.config_maps if record}
    assert checks.backend(many, cluster) == "ok: a, b, c: answers and streams"
    assert cluster.paths[-1] == f"/api/v1/namespaces/ai/configmaps/{TEST}-files-0"


@TARGETS
def test_jobs_that_may_not_be_listed_are_told(many: Backend, checks: Checks, target: str, what: str) -> None:
    cluster = Cluster()
    cluster.jobs_status = 403
    with pytest.raises(Failure) as failure:
        getattr(checks, target)(many, cluster)
    verdict = str(failure.value)
    assert verdict.startswith(f"the cluster does not list the Jobs of {TEST}: ")
    assert "no Jobs for ***" in verdict
    assert "\n" not in verdict
    assert what not in verdict
    assert not many.asked


def test_where_none_is_asked_no_log_is_read_for_layers(many: Backend, checks: Checks) -> None:
    cluster = Cluster(offload_log("0/29"))
    cluster.ran(*checks.models)
    assert checks.backend(many, cluster, 999) == "ok: unchanged since they passed: a, b, c"
    assert not any("/log" in path for path in cluster.paths)


def test_where_one_is_asked_the_layers_are_told(many: Backend, checks: Checks) -> None:
    cluster = Cluster(offload_log("29/29"))
    cluster.ran(of_pool("a"), of_pool("b"))
    expected = "ok: c: answers and streams, 29/29 layers on the GPU; unchanged since they passed: a, b"
    assert checks.backend(many, cluster, 999) == expected


# --- gateway


def gateway(backend: Backend, base: str = BASE) -> Backend:
    backend.headers = {"x-litellm-model-api-base": base}
    return backend


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_a_gateway_that_routes_every_name_to_its_backend_is_ok(backend: Backend, checks: Checks, base: str) -> None:
    assert checks.gateway(gateway(backend, base)) == f"ok: {NAME}: routed by the gateway"
    assert backend.keys == {f"Bearer {KEY}"}


def test_a_hidden_name_answers_without_being_listed(backend: Backend, checks: Checks) -> None:
    checks.models.append(model("general-chat", hidden=True))
    assert checks.gateway(gateway(backend)) == f"ok: {NAME}, general-chat: routed by the gateway"
    backend.listed.append("general-chat")
    with pytest.raises(Failure, match=r"lists \['GLM-4.7-Flash', 'general-chat'\], expected \['GLM-4.7-Flash'\]"):
        checks.gateway(gateway(backend))


def test_a_name_without_a_backend_is_listed_and_not_asked(backend: Backend, checks: Checks) -> None:
    backend.listed = [NAME, "gpt-4o"]
    checks.models.append(model("gpt-4o", api_base=None))
    assert checks.gateway(gateway(backend)) == f"ok: {NAME}: routed by the gateway"
    backend.listed = ["gpt-4o"]
    checks.models = checks.models[1:]
    assert checks.gateway(gateway(backend)) == "ok: every name is listed, and none is ours to ask"


def test_a_candidate_is_asked_whatever_pods_stand(backend: Backend, checks: Checks) -> None:
    cluster = Cluster(looks=[[]])
    assert checks.gateway(gateway(backend), cluster).startswith("ok:")
    assert cluster.paths == []


def test_a_candidate_that_never_comes_up_is_told(backend: Backend, checks: Checks) -> None:
    backend.loading = 10**6
    with pytest.raises(Failure, match=r"no answer from .*/v1/models in 0.2 s \(HTTP 503: .*Loading model"):
        checks.gateway(gateway(backend), seconds=0.2)


def test_the_order_of_the_listed_names_does_not_matter(backend: Backend, checks: Checks) -> None:
    backend.listed = ["b", "a"]
    assert checks.gateway(gateway(backend), a=BASE, b=BASE) == "ok: a, b: routed by the gateway"
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

    def run(self, target: str, *more: str, **config: object) -> tuple[int, str]:
        self._config.write_text(json.dumps({"namespace": "ai", "start_seconds": 1, **config}))
        files = ["--config", str(self._config), "--termination-log", str(self._log)]
        status = smoke.main([target, *files, "--test", TEST, *more])
        return status, self._log.read_text()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def pod(tmp_path: Path, serve: Serve, cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Pod:
    api = serve(cluster)

    def own_cluster(run: Run) -> Server:
        return Server(api, "pod-token", run)

    monkeypatch.setattr(smoke, "own_cluster", own_cluster)
    return Pod(tmp_path)


def test_the_verdict_is_printed_and_left_as_termination_message(
    backend: Backend, serve: Serve, pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve(backend)
    good = pod.run("backend", url=url, models=[model()], gpu_layers=0, pods=PODS)
    bad = pod.run("backend", url=url, models=[model("other")], gpu_layers=0, pods=PODS)
    assert good == (0, f"ok: {NAME}: answers and streams")
    assert bad[0] == 1
    assert bad[1].startswith(f"other: /v1/models lists ['{NAME}'], expected ['other']: ")
    assert capsys.readouterr().out == f"{good[1]}\n{bad[1]}\n"


def test_the_gateways_key_comes_from_the_environment(
    backend: Backend, serve: Serve, pod: Pod, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", KEY)
    url = serve(gateway(backend))
    assert pod.run("gateway", url=url, models=[model(api_base=BASE)])[0] == 0
    assert backend.keys == {f"Bearer {KEY}"}
    assert KEY not in capsys.readouterr().out


@pytest.mark.parametrize("target", ["backend", "gateway"])
def test_another_address_may_be_asked(backend: Backend, serve: Serve, pod: Pod, target: str) -> None:
    url = serve(gateway(backend))
    record = {"url": "http://127.0.0.1:1", "models": [model(api_base=BASE)], "gpu_layers": 0, "pods": PODS}
    assert pod.run(target, "--url", url, **record)[1].startswith(f"ok: {NAME}: ")
    assert names(backend) == [NAME]


def test_what_passed_is_asked_again_on_demand_alone(backend: Backend, serve: Serve, pod: Pod, cluster: Cluster) -> None:
    record = {"url": serve(backend), "models": [of_pool(NAME)], "gpu_layers": 0, "pods": PODS}
    cluster.ran(of_pool(NAME))
    assert pod.run("backend", **record) == (0, f"ok: unchanged since they passed: {NAME}")
    assert not backend.asked
    assert pod.run("backend", "--all", **record) == (0, f"ok: {NAME}: answers and streams")


def test_a_key_with_a_line_end_is_told_and_not_shown(
    backend: Backend, serve: Serve, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", f"{KEY}\n")
    url = serve(gateway(backend))
    status, verdict = pod.run("gateway", url=url, models=[model(api_base=BASE)])
    assert status == 1
    assert "has a blank or a line end in it" in verdict
    assert KEY not in verdict


def test_sigterm_leaves_what_it_was_doing(serve: Serve, pod: Pod) -> None:
    ended = threading.Event()

    def hanging(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        os.kill(os.getpid(), signal.SIGTERM)
        ended.wait(5)
        return 200, {}, b""

    before = signal.signal(signal.SIGTERM, smoke.terminate)
    try:
        url = serve(hanging)
        status, verdict = pod.run("backend", url=url, models=[model()], gpu_layers=0, pods=PODS, start_seconds=9)
    finally:
        signal.signal(signal.SIGTERM, before)
        ended.set()
    assert status == 143
    assert verdict.startswith(f"Kubernetes ended this pod while asking {url}/v1/models: look at the pods")
    assert "\n" not in verdict


def test_it_runs_beside_its_own_files_alone(tmp_path: Path) -> None:
    for script in ("smoke.py", "smoke_client.py", "smoke_pods.py"):
        (tmp_path / script).write_text((Path(smoke.__file__).parent / script).read_text())
    shown = subprocess.run(
        [sys.executable, str(tmp_path / "smoke.py"), "--help"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_broken_config_is_one_line(pod: Pod) -> None:
    status, verdict = pod.run("backend")
    assert status == 1
    assert "does not say what to expect" in verdict


# --- the records as they are rendered


def test_a_backends_rendered_record_says_all_that_is_needed(
    backend: Backend, checks: Checks, values: dict[str, Any]
) -> None:
    config = stack_config(values)
    for each in config.backends:
        record = json.loads(to_json(backend_expectation(config, each, PODS)))
        backend.listed = [served.name for served in each.models]
        verdict = checks.record("backend", record, backend, Cluster(offload_log("29/29")))
        assert verdict.startswith(f"ok: {', '.join(backend.listed)}: answers and streams")


def test_the_gateways_rendered_record_says_all_that_is_needed(
    backend: Backend, checks: Checks, values: dict[str, Any]
) -> None:
    record = json.loads(to_json(gateway_expectation(stack_config(values), "http://127.0.0.1:1", CONTENT)))
    bases = {each["name"]: each["api_base"] for each in record["models"]}
    backend.listed = list(bases)

    def routing(path: str, headers: dict[str, str], body: bytes) -> Reply:
        if body:
            gateway(backend, bases[json.loads(body)["model"]])
        return backend(path, headers, body)

    assert checks.record("gateway", record, routing) == f"ok: {', '.join(bases)}: routed by the gateway"
