"""The last update's smoke tests run again, on a cluster of plain data that runs Jobs when it is looked at."""

import json
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import pytest

from config.errors import UserError
from config.model import StackConfig
from ops import smoke as ops_smoke
from ops.kube import Kube
from ops.smoke import Verdict, again, smoke, stamp

BACKENDS = ["llama-static-a", "llama-static-b", "llama-swap"]
SUBJECTS = [*BACKENDS, "llm-gateway"]
Object = dict[str, Any]
TAKEN_AWAY: Object = {
    "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}]
}
"""A pod that its node's drain takes away is made anew."""
MOUNTS = [{"name": "smoke", "mountPath": "/smoke"}]
T = TypeVar("T")


def left_job(test: str, created: str = "2026-01-02T00:00:00Z", *, succeeded: bool = True) -> Object:
    """A Job as the cluster has it after an update."""
    uid = "7f1c"
    generated = {
        "controller-uid": uid,
        "job-name": f"{test}-0123456789",
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": f"{test}-0123456789",
    }
    script = ["python3", "-u", "/smoke/smoke.py", "backend", "--config", "/smoke/smoke.json", "--test", test]
    return {
        "metadata": {
            "name": f"{test}-0123456789",
            "creationTimestamp": created,
            "uid": uid,
            "labels": {"app.kubernetes.io/name": test, "app.kubernetes.io/managed-by": "pulumi"},
        },
        "spec": {
            "activeDeadlineSeconds": 420,
            "backoffLimit": 0,
            "completionMode": "NonIndexed",
            "completions": 1,
            "manualSelector": False,
            "parallelism": 1,
            "podFailurePolicy": TAKEN_AWAY,
            "podReplacementPolicy": "Failed",
            "suspend": False,
            "selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}},
            "template": {
                "metadata": {"creationTimestamp": None, "labels": {"app.kubernetes.io/name": test, **generated}},
                "spec": {
                    "initContainers": [{"name": "litellm", "restartPolicy": "Always"}],
                    "containers": [{"name": "smoke", "command": script, "volumeMounts": MOUNTS}],
                    "volumes": [
                        {"name": "smoke", "configMap": {"name": f"{test}-abc"}},
                        {"name": "live-config", "configMap": {"name": "litellm-config"}},
                    ],
                },
            },
        },
        "status": {"succeeded": 1} if succeeded else {"failed": 1},
    }


def ended(message: str, code: int = 0) -> list[Object]:
    end = {"exitCode": code, "message": message}
    return [{"metadata": {"name": "p"}, "status": {"containerStatuses": [{"state": {"terminated": end}}]}}]


@dataclass(frozen=True, kw_only=True)
class StubKube(Kube):
    """Jobs by test that were left, those that were made, and what becomes of them."""

    left: dict[str, list[Object]]
    ends: dict[str, list[str]] = field(default_factory=dict[str, list[str]])
    """How a subject's Job stands at each look, Complete where it is not named: its condition's type, or nothing yet."""
    pods: dict[str, list[list[Object]]] = field(default_factory=dict[str, list[list[Object]]])
    """Its pods at each look."""
    made: list[list[Object]] = field(default_factory=list[list[Object]])
    removed: list[str] = field(default_factory=list[str])
    unreachable: list[str] = field(default_factory=list[str])
    """Complaints of the API server's, one for each look at a Job to come."""
    complaint: str | None = None

    def listed(self, kind: str, *options: str) -> list[Object]:
        assert options[0] == "-l"
        key, value = options[1].split("=")
        if kind == "jobs":
            assert key == "app.kubernetes.io/name"
            return self.left.get(value, [])
        assert (kind, key) == ("pods", "job-name")
        subject = subject_of(value)
        return at_this_look(self.pods.get(subject, [ended(f"ok: {subject} answers")]))

    def get(self, kind: str, name: str) -> Object:
        assert kind == "job"
        assert name in [job["metadata"]["name"] for job in self.made[-1]]
        if self.unreachable:
            raise UserError(self.unreachable.pop())
        end = at_this_look(self.ends.get(subject_of(name), ["Complete"]))
        condition = {"type": end, "status": "True", "message": "it ran past its deadline"}
        return {"status": {"conditions": [condition] if end else []}}

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        assert arguments == ("apply", "--server-side", "--field-manager=llama-chat", "-f", "-")
        self.made.append(json.loads(stdin or "")["items"])
        return ""

    def fails(self, *arguments: str) -> str | None:
        assert arguments[:2] == ("delete", "jobs")
        assert arguments[-3:] == ("--ignore-not-found", "--cascade=foreground", "--wait=false")
        self.removed.extend(arguments[2:-3])
        return self.complaint


def subject_of(name: str) -> str:
    return name.partition("-smoke-again-")[0]


def at_this_look(looks: list[T]) -> T:
    """The first that is left; the last one stays."""
    return looks.pop(0) if len(looks) > 1 else looks[0]


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> StubKube:
    monkeypatch.setattr(ops_smoke, "POLL_SECONDS", 0)
    left = {f"{subject}-smoke": [left_job(f"{subject}-smoke")] for subject in SUBJECTS}
    return StubKube(context="homelab", namespace="ai", left=left)


def test_every_test_runs_again_the_gateways_last_and_all_are_removed(config: StackConfig, kube: StubKube) -> None:
    verdicts = smoke(config, kube)
    assert verdicts == [Verdict(subject=subject, ok=True, text=f"ok: {subject} answers") for subject in SUBJECTS]
    made = [[job["metadata"]["name"] for job in jobs] for jobs in kube.made]
    assert [[subject_of(name) for name in names] for names in made] == [BACKENDS, ["llm-gateway"]]
    assert kube.removed == [name for names in made for name in names]


def test_all_models_are_asked_and_the_gateway_at_the_address_that_users_have(
    config: StackConfig, kube: StubKube
) -> None:
    smoke(config, kube)
    commands = [job["spec"]["template"]["spec"]["containers"][0]["command"] for jobs in kube.made for job in jobs]
    assert [command[8:] for command in commands] == [
        *[["--all"]] * 3,
        ["--all", "--url", "http://llm-gateway.ai.svc.cluster.local:4000"],
    ]


def test_the_new_job_holds_nothing_that_was_generated_and_no_candidate() -> None:
    left = left_job("llm-gateway-smoke")
    before = deepcopy(left)
    job = again("llm-gateway", left, "k3x9")
    assert job["metadata"]["name"] == "llm-gateway-smoke-again-k3x9"
    assert left == before
    assert job["spec"] == {
        "activeDeadlineSeconds": 420,
        "backoffLimit": 0,
        "completionMode": "NonIndexed",
        "completions": 1,
        "parallelism": 1,
        "podFailurePolicy": TAKEN_AWAY,
        "podReplacementPolicy": "Failed",
        "suspend": False,
        "ttlSecondsAfterFinished": 3600,
        "template": {
            "metadata": {"labels": {"app.kubernetes.io/name": "llm-gateway-smoke"}},
            "spec": {
                "containers": [
                    {
                        "name": "smoke",
                        "command": [*before["spec"]["template"]["spec"]["containers"][0]["command"], "--all"],
                        "volumeMounts": MOUNTS,
                    }
                ],
                "volumes": [{"name": "smoke", "configMap": {"name": "llm-gateway-smoke-abc"}}],
            },
        },
    }


def test_the_script_does_not_find_the_new_job_among_those_that_passed() -> None:
    labels = again("llama-swap", left_job("llama-swap-smoke"), "k3x9")["metadata"]["labels"]
    assert labels == {"app.kubernetes.io/name": "llama-swap-smoke-again", "app.kubernetes.io/part-of": "llama-chat"}


def test_the_longest_name_of_a_gateway_leaves_room_for_the_time() -> None:
    subject = "g" * 46
    now = stamp(1_900_000_000)
    assert len(again(subject, left_job(f"{subject}-smoke"), now)["metadata"]["name"]) == 63
    assert stamp(1_900_000_001) != now


def test_the_newest_job_that_passed_is_taken(config: StackConfig, kube: StubKube) -> None:
    newest = left_job("llama-swap-smoke", "2026-01-03T00:00:00Z")
    newest["spec"]["activeDeadlineSeconds"] = 999
    failed = left_job("llama-swap-smoke", "2026-01-04T00:00:00Z", succeeded=False)
    old = left_job("llama-swap-smoke", "2026-01-01T00:00:00Z")
    kube.left["llama-swap-smoke"] = [old, newest, failed]
    smoke(config, kube)
    assert kube.made[0][2]["spec"]["activeDeadlineSeconds"] == 999


def test_what_was_never_tested_is_told_before_anything_is_made(config: StackConfig, kube: StubKube) -> None:
    kube.left["llama-static-b-smoke"] = [left_job("llama-static-b-smoke", succeeded=False)]
    del kube.left["llm-gateway-smoke"]
    with pytest.raises(UserError, match="no succeeded Job of llama-static-b-smoke, llm-gateway-smoke: run make up"):
        smoke(config, kube)
    assert kube.made == []


def test_a_failed_test_is_told_in_the_scripts_words_and_stops_no_other(
    config: StackConfig, kube: StubKube, capfd: pytest.CaptureFixture[str]
) -> None:
    kube.ends["llama-static-b"] = ["Failed"]
    kube.pods["llama-static-b"] = [ended("Qwen3: the answer\nis empty", code=1)]
    verdicts = smoke(config, kube)
    assert [(verdict.subject, verdict.ok) for verdict in verdicts if not verdict.ok] == [("llama-static-b", False)]
    assert verdicts[1].text == "Qwen3: the answer is empty"
    assert "llama-static-b: FAILED: Qwen3: the answer is empty\n" in capfd.readouterr().err


def test_a_pod_that_never_ran_is_told_with_what_it_waited_for(config: StackConfig, kube: StubKube) -> None:
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "gone"}}
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"state": waiting}]}}
    kube.ends["llama-swap"], kube.pods["llama-swap"] = ["", "Failed"], [[pod], []]
    verdict = next(it for it in smoke(config, kube) if it.subject == "llama-swap")
    assert verdict == Verdict(
        subject="llama-swap",
        ok=False,
        text="no verdict: it ran past its deadline; before: pod p: ErrImagePull: gone",
    )


def test_a_job_without_an_end_is_given_up(config: StackConfig, kube: StubKube, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops_smoke, "LATE_SECONDS", -420)
    kube.ends["llama-swap"] = [""]
    kube.pods["llama-swap"] = [[{"metadata": {"name": "p"}, "status": {"phase": "Running"}}]]
    assert smoke(config, kube)[2] == Verdict(
        subject="llama-swap", ok=False, text="no verdict after 0 s: pod p: Running"
    )


def test_an_api_server_that_is_away_for_a_moment_ends_nothing(config: StackConfig, kube: StubKube) -> None:
    kube.unreachable.extend(["connection refused"] * 5)
    assert all(verdict.ok for verdict in smoke(config, kube))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit])
def test_an_interrupted_run_leaves_no_job(
    config: StackConfig, kube: StubKube, monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def interrupt(_: float) -> None:
        raise interruption

    monkeypatch.setattr(ops_smoke.time, "sleep", interrupt)
    with pytest.raises(interruption):
        smoke(config, kube)
    assert [subject_of(name) for name in kube.removed] == SUBJECTS


def test_a_job_that_cannot_be_removed_is_named(
    config: StackConfig, kube: StubKube, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(smoke(config, replace(kube, complaint="forbidden"))) == 4
    assert "not removed: llama-static-a-smoke-again-" in capfd.readouterr().err
