"""The checklist against a stack of plain data and a gateway on a loopback port; each check can turn red, alone."""

import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.errors import UserError
from config.model import StackConfig
from ops import forward
from ops.checklist import Check
from ops.forward import TURNS
from ops.kube import Kube
from ops.verify import print_table, verify
from tests.conftest import stack_config
from tests.ops.live_stack import KEY, Live, live_stack, pod, serving

A, B, SWAP = "GLM-4.7-Flash", "Qwen3-Coder-30B-A3B", "DeepSeek-R1-Distill"
Object = dict[str, Any]


@pytest.fixture
def live(config: StackConfig) -> Iterator[Live]:
    with serving(config) as server:
        yield live_stack(config, server)


def test_a_sound_stack_is_green_from_the_first_check_to_the_last(live: Live) -> None:
    checks = verify(live.config, live.kube)
    assert [check for check in checks if not check.ok] == []
    assert {(check.group, check.subject) for check in checks} == {
        *(("backend", name) for name in ("llama-static-a", "llama-static-b", "llama-swap")),
        *(("router", name) for name in ("llm-gateway", *live.config.exposed_names)),
        *(("frontend", name) for name in ("librechat-config", A, B, SWAP)),
    }
    assert [process.returncode is not None for process in live.kube.started] == [True]
    assert live.server.keys == {f"Bearer {KEY}"}


def test_a_conversations_second_turn_carries_the_first_and_both_are_streamed(live: Live) -> None:
    verify(live.config, live.kube)
    talks = [asked for asked in live.server.asked if asked["stream"]]
    assert [asked["model"] for asked in talks] == [A, A, B, B, SWAP, SWAP]
    first, second = ({"role": "user", "content": question} for question in TURNS)
    assert talks[0]["messages"] == [first]
    assert talks[1]["messages"] == [first, {"role": "assistant", "content": "four, five"}, second]


Break = Callable[[Live], object]
NODE, GPU, READY, STRENGTH = "on its role's node", "one GPU, its own", "ready, no restart loop", "at full strength"
KILLED: Object = {"terminated": {"reason": "OOMKilled", "exitCode": 137}}
LOOPING: Object = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": KILLED, "restartCount": 2}
UNREADY: Object = {
    "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
    "containerStatuses": [
        {"name": "s", "restartCount": 0, "state": {"waiting": {"reason": "ErrImagePull", "message": "gone"}}}
    ],
}
BACKEND: list[tuple[str, Break, str]] = [
    (NODE, lambda it: it.pod()["spec"].update(nodeName="gpu-node-9"), "is on gpu-node-9, the stack says gpu-node-1"),
    (NODE, lambda it: it.kube.objects["node", "gpu-node-1"]["metadata"].clear(), "has ai.llm.role=(none)"),
    (GPU, lambda it: it.limits().update({"amd.com/gpu": "2"}), "has 2 of amd.com/gpu, the stack says 1"),
    (GPU, lambda it: it.limits().clear(), "has 0 of amd.com/gpu"),
    (GPU, lambda it: it.kube.pods.append(pod("miner-1", "miner", "gpu-node-1", "1")), "to other pods too: ai/miner-1"),
    (READY, lambda it: it.container().update(restartCount=3), "restarted 3 times"),
    (READY, lambda it: it.container().update(LOOPING), "restarted 2 times, last ended with OOMKilled (exit code 137)"),
    (READY, lambda it: it.pod()["status"].update(UNREADY), "is not ready: ErrImagePull gone"),
    ("/health", lambda it: it.answer("health", None), "no endpoints available for service"),
    ("/v1/models", lambda it: it.answer("v1/models", '{"data": [{"id": "x"}]}'), "lists x; expected GLM-4.7-Flash"),
    ("/v1/models", lambda it: it.answer("v1/models", "<html>"), "gives no list: '<html>'"),
]
ROUTER: list[tuple[str, str, Break, str]] = [
    (
        "llm-gateway",
        STRENGTH,
        lambda it: it.gateway()["status"].update(readyReplicas=1),
        "of 2 pods: 2 updated, 1 ready",
    ),
    ("llm-gateway", STRENGTH, lambda it: it.gateway()["status"].update(replicas=3), "3 stand"),
    ("llm-gateway", STRENGTH, lambda it: it.gateway()["spec"].update(replicas=1), "wants 1 pods, the stack 2"),
    ("llm-gateway", STRENGTH, lambda it: it.gateway()["metadata"].update(generation=3), "not rolled out yet"),
    ("llm-gateway", "/v1/models", lambda it: it.server.names.append("general-chat"), "general-chat; expected"),
    (A, "completion", lambda it: it.server.bases.update({A: "http://vllm:8000/v1"}), "answered by http://vllm:8000/v1"),
    (A, "completion", lambda it: it.server.bases.update({A: None}), "answered by (nobody tells)"),
]
FRONTEND: list[tuple[str, Break, str]] = [
    ("models.default", lambda it: it.edit(lambda ours: ours["models"]["default"].reverse()), "expected GLM-4.7-Flash"),
    ("models.fetch", lambda it: it.edit(lambda ours: ours["models"].update(fetch=True)), "is True, expected False"),
    ("baseURL", lambda it: it.edit(lambda ours: ours.update(baseURL="http://x/v1")), "is 'http://x/v1', expected"),
    ("titleModel", lambda it: it.edit(lambda ours: ours.pop("titleModel")), "is None, expected 'current_model'"),
]


@pytest.mark.parametrize(("what", "break_it", "reason"), BACKEND)
def test_a_backends_fault_turns_its_own_check_red(live: Live, what: str, break_it: Break, reason: str) -> None:
    break_it(live)
    red = live.red()
    assert list(red) == [("llama-static-a", what)]
    assert reason in red["llama-static-a", what]


@pytest.mark.parametrize(("subject", "what", "break_it", "reason"), ROUTER)
def test_a_routers_fault_turns_its_own_check_red(
    live: Live, subject: str, what: str, break_it: Break, reason: str
) -> None:
    break_it(live)
    red = live.red()
    assert list(red) == [(subject, what)]
    assert reason in red[subject, what]


@pytest.mark.parametrize(("what", "break_it", "reason"), FRONTEND)
def test_a_pickers_fault_turns_its_own_check_red(live: Live, what: str, break_it: Break, reason: str) -> None:
    break_it(live)
    red = live.red()
    assert list(red) == [("librechat-config", what)]
    assert reason in red["librechat-config", what]


def test_a_role_among_the_names_is_told_as_one(live: Live) -> None:
    live.edit(lambda ours: ours["models"]["default"].append("general-chat"))
    red = live.red()
    assert set(red) == {("librechat-config", "models.default"), ("librechat-config", "no role alias")}
    assert red["librechat-config", "no role alias"] == "users are shown roles instead of models: general-chat"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, "an answer of another shape: KeyError('librechat.yaml')"),
        ({"librechat.yaml": "endpoints: ["}, "librechat.yaml is not YAML at line 1"),
        ({"librechat.yaml": "endpoints: {custom: [{name: other}]}"}, "no endpoint named llama.cpp"),
        (
            {"librechat.yaml": "endpoints: {custom: {}}"},
            "has no endpoints.custom of entries with a name",
        ),
        ({"librechat.yaml": "endpoints: {custom: [{name: llama.cpp}]}"}, "lists nothing; expected GLM-4.7-Flash"),
    ],
)
def test_a_librechat_yaml_of_another_shape_is_told_in_one_line(live: Live, data: Object, reason: str) -> None:
    live.kube.objects["configmap", "librechat-config"]["data"] = data
    told = live.red()["librechat-config", "models.default"]
    assert reason in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("", "turn 1: the stream does not end with [DONE]"),
        (
            'data: {"error": {"message": "backend died"}}\n\n',
            """the stream breaks off: '{"message": "backend died"}'""",
        ),
    ],
)
def test_a_cut_stream_turns_conversations_red_and_nothing_else(live: Live, end: str, reason: str) -> None:
    live.server.end = end
    red = live.red()
    assert list(red) == [(name, "conversation") for name in (A, B, SWAP)]
    assert all(reason in detail for detail in red.values())


def test_an_answer_without_text_is_red_and_one_that_only_thinks_is_not(live: Live) -> None:
    live.server.reply = {"content": None}
    red = live.red()
    assert set(red) == {
        *((name, "completion") for name in live.config.exposed_names),
        *((name, "conversation") for name in (A, B, SWAP)),
    }
    assert "the answer is empty" in red[A, "completion"]
    assert "turn 1: the stream is empty" in red[A, "conversation"]
    live.server.reply = {"content": None, "reasoning_content": "I think"}
    assert live.red() == {}


def test_one_models_error_is_told_without_the_key_and_stops_no_other(live: Live) -> None:
    live.server.refused[B] = f"no route\nfor {KEY}"
    red = live.red()
    assert red == {
        (B, "completion"): "HTTP 500: 'no route for ***'",
        (B, "conversation"): "turn 1: HTTP 500: 'no route for ***'",
    }


def test_a_model_that_is_busy_with_its_users_is_asked_again(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "BUSY_SECONDS", 0)
    expected = len(live.config.exposed_names) + 2 * len(live.config.backends)
    live.server.busy = 3
    assert live.red() == {}
    assert len(live.server.asked) == expected + 3


def test_one_that_stays_busy_is_told_so_by_its_deadline(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "BUSY_SECONDS", 0.1)
    live.server.busy = 1000
    start = time.monotonic()
    with httpx.Client(base_url=f"http://127.0.0.1:{live.server.server_address[1]}", trust_env=False) as client:
        gateway = forward.Gateway(client, KEY)
        with pytest.raises(UserError, match="HTTP 429: 'Too many requests'"):
            gateway.complete(A, 0.5)
    assert time.monotonic() - start < 2
    assert len(live.server.asked) > 1


def test_without_a_way_to_the_gateway_all_that_needs_one_is_red_with_kubectls_reason(live: Live) -> None:
    kube = replace(live.kube, forward="echo warning; echo 'error: Service llm-gateway has no port 4000'; exit 1")
    red = replace(live, kube=kube).red()
    needing = {("llm-gateway", "/v1/models"), *((name, "completion") for name in live.config.exposed_names)}
    assert set(red) == needing | {(name, "conversation") for name in (A, B, SWAP)}
    assert all(told.endswith("error: Service llm-gateway has no port 4000") for told in red.values())


def test_a_forwarder_that_never_listens_is_ended(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "START_SECONDS", 0.2)
    kube = replace(live.kube, forward="exec sleep 60")
    with pytest.raises(UserError, match="it said nothing"), forward.forwarded(kube, "llm-gateway", 4000):
        pass
    assert kube.started[0].returncode is not None


def test_a_forwarder_ends_with_what_it_was_for_whatever_ends_that(live: Live) -> None:
    with pytest.raises(KeyboardInterrupt), forward.forwarded(live.kube, "llm-gateway", 4000):
        raise KeyboardInterrupt
    assert live.kube.started[0].returncode is not None


@pytest.mark.parametrize("pause", [0.05, 0.5])
def test_an_answer_that_hangs_or_trickles_ends_at_its_deadline(live: Live, pause: float) -> None:
    live.server.pause = pause
    start = time.monotonic()
    with httpx.Client(base_url=f"http://127.0.0.1:{live.server.server_address[1]}", trust_env=False) as client:
        gateway = forward.Gateway(client, KEY)
        with pytest.raises(UserError, match=r"/v1/chat/completions: .* within 0\.3 s"):
            gateway.complete(A, 0.3)
    assert time.monotonic() - start < 2


def test_an_object_of_another_shape_stops_no_other_check(live: Live) -> None:
    live.kube.objects["deployment", "llama-static-a"]["spec"]["selector"] = {"matchExpressions": []}
    red = live.red()
    assert red == {
        ("llama-static-a", what): "an answer of another shape: KeyError('matchLabels')" for what in (NODE, GPU, READY)
    }


def test_a_stopped_deployment_or_a_missing_one_turns_what_needs_its_pods_red(live: Live) -> None:
    live.kube.pods.remove(live.pod())
    del live.kube.objects["deployment", "llama-static-b"]
    red = live.red()
    assert set(red) == {(name, what) for name in ("llama-static-a", "llama-static-b") for what in (NODE, GPU, READY)}
    assert red["llama-static-a", NODE] == "0 pods stand where the Deployment wants 1"
    assert "not found" in red["llama-static-b", NODE]


def test_pods_on_their_way_out_and_left_over_ones_do_not_count(live: Live) -> None:
    going = pod("llama-static-a-0", "llama-static-a", "gpu-node-8", "1")
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    evicted = pod("llama-static-a-2", "llama-static-a", "gpu-node-1", "1")
    evicted["status"]["phase"] = "Failed"
    live.kube.pods.extend([going, evicted])
    assert live.red() == {}


def test_a_stack_without_gpus_wants_none(values: Object, live: Live) -> None:
    values["gpu"] = {"resource": "none", "vram_gib": 48}
    without = replace(live, config=stack_config(values))
    assert set(without.red().values()) == {"asks for amd.com/gpu, the stack says none"}
    for each in live.kube.pods:
        each["spec"]["containers"][0]["resources"]["limits"].pop("amd.com/gpu", None)
    assert without.red() == {}


def test_restarts_below_a_loop_are_green_and_counted(live: Live) -> None:
    live.container().update(restartCount=2)
    details = {(check.subject, check.what): check.detail for check in verify(live.config, live.kube)}
    assert details["llama-static-a", READY] == "ready, 2 restarts"


@pytest.mark.parametrize("value", [f"{KEY}\n", ""])
def test_a_key_that_no_header_takes_is_refused_unshown(live: Live, value: str) -> None:
    live.kube.objects["secret", "litellm"]["data"]["master-key"] = b64encode(value.encode()).decode()
    told = live.red()["llm-gateway", "/v1/models"]
    assert told == "Secret litellm: the value of master-key is empty or has a blank or line end: write it anew."


def test_a_secret_without_the_key_is_told(live: Live) -> None:
    live.kube.objects["secret", "litellm"]["data"] = {"other": "eA=="}
    assert "has no key master-key" in live.red()["llm-gateway", "/v1/models"]


def test_the_table_loses_no_text_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    detail = f"[red]reason {'x' * 300} end"
    checks = [
        Check(group="router", subject="llm-gateway", what="/v1/models", ok=False, detail=detail),
        Check(group="router", subject=A, what="completion", ok=True, detail="fine"),
    ]
    print_table(checks)
    printed = capsys.readouterr().out
    assert detail.replace(" ", "") in re.sub(r"\s", "", printed)
    assert re.search(r"llm-gateway +/v1/models +FAILED", printed)
    assert re.search(rf"{re.escape(A)} +completion +ok +fine", printed)


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a kubectl that finds one object, and forwards port 7, was given as arguments."""
    path, kubectl = tmp_path / "asked", tmp_path / "kubectl"
    kubectl.write_text(
        f"""#!/bin/sh
echo "$@" >> {path}
case "$*" in
*port-forward*) echo 'Forwarding from 127.0.0.1:7 -> 4000'; exec sleep 60 ;;
*) echo '{{"items": [{{"found": true}}]}}' ;;
esac
"""
    )
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def test_kubectl_forwards_on_loopback_alone_and_with_no_end_of_its_own(asked: Path) -> None:
    with forward.forwarded(Kube(context="homelab", namespace="ai"), "llm-gateway", 4000) as port:
        assert port == 7
    assert asked.read_text() == (
        "--context homelab --namespace ai port-forward --address=127.0.0.1 --pod-running-timeout=15s"
        " service/llm-gateway :4000\n"
    )


def test_kubectl_is_asked_for_objects_in_the_stacks_context_and_namespace(asked: Path) -> None:
    kube = Kube(context="homelab", namespace="ai")
    assert kube.get("pod", "a") == {"items": [{"found": True}]}
    assert kube.listed("pods", "-l", "a=b") == [{"found": True}]
    assert kube.raw("/healthz").startswith("{")
    asking = "--context homelab --namespace ai --request-timeout=15s get"
    assert asked.read_text().splitlines() == [
        f"{asking} pod a -o json",
        f"{asking} pods -l a=b -o json",
        f"{asking} --raw /healthz",
    ]
