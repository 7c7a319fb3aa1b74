"""The handover of an adopted gateway, against a cluster in memory."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from components.scripts import handover
from components.scripts.handover import (
    HOLD_SECONDS,
    LEAVING,
    Cluster,
    Failure,
    Plan,
    Run,
    Terminated,
    hand_over,
    selected_by,
    selector,
    under_way,
    waits_for,
)
from tests.scripts.live_gateway import MARK, NAME, LiveGateway, answered

if TYPE_CHECKING:
    from components.scripts.smoke import Server

Answer = Callable[[str, dict[str, str], bytes], tuple[int, dict[str, str], bytes | Iterator[bytes]]]
Serve = Callable[[Answer], str]
GRACE = 130
PATCH: dict[str, Any] = {
    "replicas": 2,
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
    "progressDeadlineSeconds": 600,
    "template": {
        "metadata": {"annotations": {MARK: "c1"}},
        "spec": {"terminationGracePeriodSeconds": GRACE, "containers": [{"name": "litellm", "env": []}]},
    },
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Run.__module__}._PAUSE_SECONDS", 0.001)


def plan(**more: Any) -> Plan:  # noqa: ANN401 - any of the plan's own
    values: dict[str, Any] = {
        "namespace": "ai",
        "deployment": NAME,
        "manager": "llama-chat",
        "patch": PATCH,
        "mark": MARK,
        "start_seconds": 0.05,
        "settle_seconds": 0.0,
        "patience_seconds": 60.0,
        "drain_seconds": GRACE,
        "port": 1,
    }
    return Plan(**{**values, **more})


def handed_over(live: LiveGateway, **more: Any) -> str:  # noqa: ANN401 - any of the plan's own
    run = Run()
    return hand_over(plan(**more), Cluster(cast("Server", live), run, "ai"), run)


@pytest.mark.parametrize("replicas", [1, 3])
def test_pods_without_a_drain_are_replaced_while_the_service_never_has_fewer(replicas: int) -> None:
    live = LiveGateway(replicas)
    old = live.drainless()
    assert live.serving() == old
    verdict = handed_over(live)
    new = [f"{NAME}-c1-{number}" for number in range(replicas)]
    assert live.serving() == new == sorted(live.pods)
    assert min(live.strength) == replicas
    assert live.cut == []
    assert {name: it["gracePeriodSeconds"] for name, it in live.ended.items()} == dict.fromkeys(old, GRACE)
    pods = "pods" if replicas > 1 else "pod"
    assert verdict == (
        f"ok: {NAME}: {pods} {', '.join(old)} left Service {NAME} and ended after the last answer, 0 s later; "
        f"users are answered by {pods} {', '.join(new)}"
    )


def test_a_pod_without_a_drain_would_be_cut_without_a_handover() -> None:
    live = LiveGateway()
    live.apply({"spec": PATCH})
    live.control()
    live.control()
    assert live.cut == [f"{NAME}-adopted-0"]


def test_the_deployment_ends_as_pulumi_will_patch_it_but_for_the_number_of_pods() -> None:
    live = LiveGateway()
    handed_over(live)
    held, last = (it["spec"] for it in live.applied)
    assert (held["minReadySeconds"], held["progressDeadlineSeconds"]) == (HOLD_SECONDS, HOLD_SECONDS + 1)
    assert held["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "100%"}
    assert held["template"] == last["template"]
    assert last == {**PATCH, "replicas": 1}
    assert list(live.sets) == [f"{NAME}-c1"]


def test_where_all_pods_drain_nothing_is_changed() -> None:
    live = LiveGateway()
    handed_over(live)
    live.asked.clear()
    verdict = handed_over(live, patch={**PATCH, "template": {"metadata": {"annotations": {MARK: "c2"}}}})
    assert verdict == f"ok: {NAME}: no pod ends without a drain, so there was nothing to hand over"
    assert {method for method, _ in live.asked} == {"GET"}


def requests_of_a_run() -> int:
    live = LiveGateway(2)
    handed_over(live)
    return len(live.asked)


@pytest.mark.parametrize("after", range(requests_of_a_run()))
def test_a_run_that_was_ended_anywhere_is_completed_by_the_next(after: int) -> None:
    live = LiveGateway(2)

    def ends(_method: str, _path: str) -> None:
        if len(live.asked) > after:
            raise Terminated

    live.refuses = ends
    with pytest.raises(Terminated):
        handed_over(live)
    live.refuses = lambda _method, _path: None
    for _ in range(3):
        live.control()  # time passes
    # another document meanwhile: its pods are others again
    patch = {**PATCH, "template": {**PATCH["template"], "metadata": {"annotations": {MARK: "c2"}}}}
    assert handed_over(live, patch=patch).startswith("ok: ")
    assert live.cut == []
    assert min(live.strength) == 2
    assert live.drainless() == []
    assert "minReadySeconds" not in live.deployment["spec"]


def test_old_pods_go_on_serving_while_a_new_one_does_not_come_up() -> None:
    live = LiveGateway()
    live.comes_up = False
    waiting = {"reason": "CreateContainerConfigError", "message": "couldn't find key LEGACY_KEY_1 in Secret ai/keys"}
    live.status = {"containerStatuses": [{"name": "litellm", "state": {"waiting": waiting}}]}
    with pytest.raises(Failure) as told:
        handed_over(live)
    assert str(told.value) == (
        f"{NAME}: 0 of 1 new pods are ready after 0.05 s: pod {NAME}-c1-0: litellm: CreateContainerConfigError: "
        "couldn't find key LEGACY_KEY_1 in Secret ai/keys: correct that and run it again; the old pods still answer"
    )
    assert live.serving() == [f"{NAME}-adopted-0"]


def test_what_forbids_the_new_pods_is_told() -> None:
    live = LiveGateway()
    live.forbidden = "pods are forbidden: exceeded quota"
    with pytest.raises(Failure, match=r"0 of 1 new pods .* pods are forbidden: exceeded quota: correct that"):
        handed_over(live)


def test_a_deployment_that_is_not_there_is_named_and_not_made() -> None:
    live = LiveGateway()
    live.deployment = {}
    with pytest.raises(Failure, match=r"llm-gateway: namespace ai has no such Deployment: correct llama-chat:gateway"):
        handed_over(live)
    assert live.applied == []


def test_what_the_cluster_refuses_is_told_in_its_words() -> None:
    live = LiveGateway()
    message = {"message": "replicasets.apps is forbidden"}
    live.refuses = lambda method, path: answered(403, message) if method == "DELETE" and "replicasets" in path else None
    with pytest.raises(Failure, match=r"does not delete replicasets/llm-gateway-adopted .*'replicasets.apps is forbid"):
        handed_over(live)
    assert live.serving() == [f"{NAME}-adopted-0", f"{NAME}-c1-0"]


def test_an_api_server_that_is_away_for_a_moment_is_asked_again() -> None:
    live = LiveGateway()
    answers = iter([answered(500, {"message": "etcdserver: leader changed"}), answered(409, {"message": "conflict"})])
    live.refuses = lambda method, _path: next(answers, None) if method == "PATCH" else None
    assert handed_over(live).startswith("ok: ")


def test_pods_that_another_deployment_owns_or_nobody_are_left_alone() -> None:
    live = LiveGateway()
    for name, owners in (("foreign", [{"uid": "other", "controller": True}]), ("bare", [])):
        meta = {"name": name, "uid": name, "labels": {"app": NAME}, "annotations": {}, "ownerReferences": owners}
        live.pods[name] = {"metadata": meta, "status": live.pods[f"{NAME}-adopted-0"]["status"], "left": 1}
    handed_over(live)
    assert list(live.ended) == [f"{NAME}-adopted-0"]
    assert {"foreign", "bare"} < set(live.serving())


@pytest.mark.parametrize("ended", [False, True])
def test_one_that_was_evicted_while_its_replica_set_went_leaves_no_pod_of_nobodys(*, ended: bool) -> None:
    live, name = LiveGateway(), f"{NAME}-adopted-0"

    def evict(method: str, path: str) -> None:
        if method == "DELETE" and "/replicasets/" in path:
            late = deepcopy(live.pods[name])
            late["metadata"] |= {"name": "late", "uid": "late"}
            late["metadata"]["labels"] = {"app": NAME, "pod-template-hash": "adopted"}
            live.pods["late"] = late
            if ended:
                live.refuses = end

    def end(_method: str, _path: str) -> None:
        raise Terminated

    live.refuses = evict
    if ended:
        with pytest.raises(Terminated):
            handed_over(live)
        live.refuses = lambda _method, _path: None
    handed_over(live)
    assert list(live.ended) == [name, "late"]
    assert not {name, "late"} & set(live.serving())


def test_an_old_pod_leaves_every_service_that_knows_it() -> None:
    live = LiveGateway()
    live.deployment["spec"]["template"]["metadata"]["labels"] |= {"tier": "edge", "version": "1"}
    live.pods[f"{NAME}-adopted-0"]["metadata"]["labels"] |= {"tier": "edge", "version": "1"}
    live.services += [
        {"metadata": {"name": "edge"}, "spec": {"selector": {"tier": "edge"}}},
        {"metadata": {"name": "others"}, "spec": {"selector": {"app": "librechat"}}},
        {"metadata": {"name": "external"}, "spec": {}},
    ]
    live.services = [it for it in live.services if it["spec"]] + [live.services[-1]]
    live.services[-1]["spec"] = {"selector": {"nobody": "has this"}}
    live.lingers = 3
    left: list[dict[str, str]] = []

    def watch(method: str, _path: str) -> None:
        if method == "DELETE" and (pod := live.pods.get(f"{NAME}-adopted-0")):
            left.append(dict(pod["metadata"]["labels"]))

    live.refuses = watch
    assert f"left Service {NAME}, edge and ended" in handed_over(live)
    assert live.cut == []
    # what no Service selects by stays: a network policy may go by it
    assert left[-1] == {"version": "1", "pod-template-hash": "adopted", LEAVING: NAME}


def test_a_pod_is_told_to_end_when_it_answers_nothing(serve: Serve) -> None:
    backlog = iter([3, 2, 1])
    keys: list[str] = []

    def answer(path: str, headers: dict[str, str], _body: bytes) -> tuple[int, dict[str, str], bytes]:
        keys.append(headers["authorization"])
        return (
            (200 if path == "/health/backlog" else 404),
            {},
            json.dumps({"in_flight_requests": next(backlog)}).encode(),
        )

    live = LiveGateway()
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("LITELLM_MASTER_KEY", "sk-master")
        handed_over(live, port=int(serve(answer).rsplit(":", 1)[1]))
    assert next(backlog, None) is None
    assert keys == ["Bearer sk-master"] * 3
    assert list(live.ended) == [f"{NAME}-adopted-0"]


def test_a_pod_that_always_answers_is_told_to_end_after_a_while(serve: Serve) -> None:
    asked: list[str] = []

    def answer(path: str, _headers: dict[str, str], _body: bytes) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        return 200, {}, b'{"in_flight_requests": 2}'

    live = LiveGateway()
    handed_over(live, port=int(serve(answer).rsplit(":", 1)[1]), patience_seconds=0.1)
    assert len(asked) > 1
    assert live.ended[f"{NAME}-adopted-0"]["gracePeriodSeconds"] == GRACE


@pytest.mark.parametrize("told", [b'{"detail": "Not Found"}', b"[]", b"<html>", b'{"in_flight_requests": null}'])
def test_a_litellm_that_cannot_tell_is_not_waited_for(serve: Serve, told: bytes) -> None:
    def answer(_path: str, _headers: dict[str, str], _body: bytes) -> tuple[int, dict[str, str], bytes]:
        return 404, {}, told

    url = serve(answer)
    pod = {"status": {"podIP": "127.0.0.1"}}
    assert under_way(pod, int(url.rsplit(":", 1)[1]), "sk-master") is None
    assert under_way(pod, 1, "sk-master") is None


def test_a_pod_that_its_node_does_not_end_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_END_SECONDS", 0.02)
    live = LiveGateway()
    live.lingers = 10**6
    for pod in live.pods.values():
        pod["left"] = live.lingers
    told = rf"old pods are still there after 0.02 s: .* kubectl -n ai delete pod --force {NAME}-adopted-0"
    with pytest.raises(Failure, match=told):
        handed_over(live, drain_seconds=0)


NOT_READY: list[tuple[dict[str, Any], str]] = [
    (
        {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/4 nodes: Insufficient memory"}]},
        "pod p is not scheduled: 0/4 nodes: Insufficient memory",
    ),
    (
        {"containerStatuses": [{"name": "a", "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
        "pod p: a: CrashLoopBackOff",
    ),
    (
        {"initContainerStatuses": [{"name": "i", "state": {"terminated": {"reason": "Error"}}}]},
        "pod p: i: Error",
    ),
    (
        {
            "initContainerStatuses": [{"name": "i", "state": {"terminated": {"reason": "Completed"}}}],
            "containerStatuses": [{"name": "a", "state": {"running": {}}}],
        },
        "pod p: runs and is not ready: look at its log",
    ),
]


@pytest.mark.parametrize(("status", "told"), NOT_READY)
def test_why_a_pod_is_not_ready_is_told_in_the_words_of_who_knows(status: dict[str, Any], told: str) -> None:
    assert waits_for({"metadata": {"name": "p"}, "status": status}) == told


def test_a_selector_reads_as_the_api_server_wants_it() -> None:
    spec = {
        "matchLabels": {"app": "a"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["x", "y"]},
            {"key": "old", "operator": "NotIn", "values": ["z"]},
            {"key": "has", "operator": "Exists"},
            {"key": "not", "operator": "DoesNotExist"},
        ],
    }
    assert selector(spec) == "app=a,tier in (x,y),old notin (z),has,!not"
    assert selected_by(spec) == {"app", "tier", "has"}


def test_the_verdict_is_printed_and_left_as_the_termination_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live, record, log = LiveGateway(), tmp_path / "handover.json", tmp_path / "log"
    record.write_text(json.dumps(plan()._asdict()))

    def own_cluster(_run: Run) -> LiveGateway:
        return live

    monkeypatch.setattr(handover, "own_cluster", own_cluster)
    assert handover.main(["--config", str(record), "--termination-log", str(log)]) == 0
    assert capsys.readouterr().out.strip() == log.read_text()
    assert log.read_text().startswith(f"ok: {NAME}: ")
    live.deployment = {}
    assert handover.main(["--config", str(record), "--termination-log", str(log)]) == 1
    assert "has no such Deployment" in log.read_text()


@pytest.mark.parametrize("record", ["{}", '{"namespaces": 1}', "no JSON"])
def test_a_record_that_is_no_plan_is_told_without_a_traceback(tmp_path: Path, record: str) -> None:
    path, log = tmp_path / "handover.json", tmp_path / "log"
    path.write_text(record)
    assert handover.main(["--config", str(path), "--termination-log", str(log)]) == 1
    assert log.read_text().startswith(f"{path} is not the plan of a handover")


def test_a_pod_that_kubernetes_ends_says_what_it_was_at(tmp_path: Path, serve: Serve) -> None:
    began = tmp_path / "began"

    def answer(path: str, _headers: dict[str, str], _body: bytes) -> tuple[int, dict[str, str], bytes]:
        del path
        began.touch()
        return 503, {}, b"starting"

    address = serve(answer).removeprefix("http://")
    record, log = tmp_path / "handover.json", tmp_path / "log"
    record.write_text(json.dumps(plan()._asdict()))
    scripts = Path(handover.__file__).parent
    code = (
        "import signal, sys, handover\n"
        "from smoke_client import Server\n"
        f"handover.own_cluster = lambda run: Server('http://{address}', None, run)\n"
        "signal.signal(signal.SIGTERM, handover.terminate)\n"
        f"sys.exit(handover.main(['--config', {str(record)!r}, '--termination-log', {str(log)!r}]))\n"
    )
    running = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(scripts)})
    while not began.exists():
        assert running.poll() is None
    running.send_signal(signal.SIGTERM)
    assert running.wait(10) == 128 + signal.SIGTERM
    assert log.read_text().startswith(f"Kubernetes ended this pod while asking http://{address}/apis/apps/v1/")
