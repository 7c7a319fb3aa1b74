"""What answered before is saved, written down and committed before it is deleted; a run that was killed goes on."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from config.errors import UserError
from ops import retire as command
from ops import standing
from ops.retire import retire
from tests.ops.adoptable import Cluster
from tests.ops.migrating import SINCE, Migrating, at_hand, made

WORKERS = ("vllm-general", "vllm-code", "vllm-reasoning")
FILES = sorted(f"{kind}-{name}.yaml" for kind in ("deployment", "service") for name in WORKERS)


class CutOffError(Exception):
    """The command was killed here."""


@dataclass(frozen=True, kw_only=True)
class Done(Cluster):
    """The cluster of a migration that is done: nothing answers any more but the stack's own."""

    deleted: list[str] = field(default_factory=list[str])
    most: list[int] = field(default_factory=lambda: [99])
    """How many objects may be deleted until the command is killed."""

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        if arguments[0] != "delete":
            return super().run(*arguments, stdin=stdin)
        assert arguments[3:] == ("--ignore-not-found",)
        if len(self.deleted) == self.most[0]:
            raise CutOffError
        self.deleted.append(f"{arguments[1]}/{arguments[2]}")
        self.objects.pop((arguments[1], arguments[2]), None)
        return ""


@pytest.fixture
def cluster() -> Done:
    made_ = Done()
    for name in WORKERS:
        worker = made_.named("deployment", name)
        worker["spec"]["replicas"] = 0
        worker["metadata"]["managedFields"] = [
            {"manager": "llama-chat", "operation": "Apply", "fieldsV1": {"f:spec": {"f:replicas": {}}}}
        ]
        worker["spec"]["template"]["spec"]["volumes"] = [
            {"name": "models", "persistentVolumeClaim": {"claimName": f"{name}-models"}}
        ]
        made_.named("service", name)["spec"] |= {"clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"]}
        del made_.objects["pod", f"{name}-1"]
    return made_


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrating:
    at_hand(monkeypatch, tmp_path / "repository")
    stack = made(tmp_path)
    stack.write("done")
    stack.commit("Done")
    return stack


@pytest.fixture(autouse=True)
def outputs(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    told = {"phase": "done", "phase_since": SINCE}

    def read_outputs(_stack: str, _folder: Path) -> dict[str, Any]:
        return told

    monkeypatch.setattr(standing, "read_outputs", read_outputs)
    return told


def run(stack: Migrating, cluster: Done, *, agreed: bool = True) -> None:
    retire(stack.stack(), cluster, stack.checkout, lambda _question: agreed)


def saved(stack: Migrating) -> list[str]:
    return sorted(file.name for file in (stack.legacy / "retired").glob("*"))


def is_whole(stack: Migrating, cluster: Done) -> None:
    """Nothing of a worker stands, and all of it is committed."""
    assert saved(stack) == FILES
    assert stack.stack().config.legacy.retired
    assert stack.git("status", "--short") == ""
    assert {name for kind, name in cluster.objects if kind in {"deployment", "service"}} == {"llm-gateway", "librechat"}


def test_deployments_and_their_services_are_saved_committed_and_gone_and_claims_stay(
    stack: Migrating, cluster: Done, capsys: pytest.CaptureFixture[str]
) -> None:
    run(stack, cluster)
    is_whole(stack, cluster)
    assert cluster.deleted == [f"{kind}/{name}" for kind in ("deployment", "service") for name in WORKERS]
    assert stack.git("log", "-1", "--format=%s") == "Retire vllm-general and vllm-code and vllm-reasoning of prod"
    worker = yaml.safe_load((stack.legacy / "retired" / "deployment-vllm-code.yaml").read_text())
    assert worker["spec"]["replicas"] == 1
    assert set(worker) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(worker["metadata"]) <= {"name", "namespace", "labels"}
    service = yaml.safe_load((stack.legacy / "retired" / "service-vllm-code.yaml").read_text())
    assert service["spec"] == {"selector": {"app": "vllm-code"}, "ports": [{"port": 8000}]}
    told = capsys.readouterr().err
    claims = "vllm-code-models vllm-general-models vllm-reasoning-models"
    assert f"`kubectl --context homelab --namespace ai delete pvc {claims}`" in told
    assert "now `make up STACK=prod`" in told


def test_nothing_happens_without_agreement(stack: Migrating, cluster: Done) -> None:
    with pytest.raises(UserError, match="Nothing is changed"):
        run(stack, cluster, agreed=False)
    assert (saved(stack), cluster.deleted, stack.git("status", "--short")) == ([], [], "")


@pytest.mark.parametrize("step", ["_edited", "commit", "first", "third"])
def test_a_run_that_was_killed_is_finished_by_the_next(
    stack: Migrating, cluster: Done, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def cut_off(*_: object) -> str:
        raise CutOffError

    with monkeypatch.context() as patch:
        if step == "_edited":
            patch.setattr(command, step, cut_off)
        elif step == "commit":
            patch.setattr(command.Checkout, step, cut_off)
        else:
            cluster.most[0] = 0 if step == "first" else 2
        with pytest.raises(CutOffError):
            run(stack, cluster)
    assert len(cluster.deleted) == (2 if step == "third" else 0)
    cluster.most[0] = 99
    run(stack, cluster)
    is_whole(stack, cluster)


def test_a_run_that_goes_on_deletes_nothing_that_has_pods_again(stack: Migrating, cluster: Done) -> None:
    cluster.most[0] = 1
    with pytest.raises(CutOffError):
        run(stack, cluster)
    cluster.most[0] = 99
    worker = cluster.named("deployment", "vllm-code")
    worker["spec"]["replicas"] = 1
    scale = "kubectl --context homelab --namespace ai scale --replicas=0 deployment vllm-code"
    with pytest.raises(UserError, match=f"^llama-chat:legacy.routes: vllm-code: has pods: .*stop it with `{scale}`$"):
        run(stack, cluster)
    assert len(cluster.deleted) == 1
    worker["spec"]["replicas"] = 0
    run(stack, cluster)
    is_whole(stack, cluster)


def test_another_change_beside_a_killed_runs_own_is_not_committed_along(
    stack: Migrating, cluster: Done, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> str:
        raise CutOffError

    with monkeypatch.context() as patch:
        patch.setattr(command.Checkout, "commit", cut_off)
        with pytest.raises(CutOffError):
            run(stack, cluster)
    stack.file.write_text(stack.file.read_text() + "# mine\n")
    with pytest.raises(UserError, match=r"Pulumi\.prod\.yaml has changes that are not committed"):
        run(stack, cluster)
    assert cluster.deleted == []


@pytest.mark.parametrize(
    ("told", "refusal"),
    [
        ({"phase": "frontend"}, "says phase done, and the stack has reached frontend: run `make up STACK=prod`"),
        ({"hold": "rolled back to abcdef0"}, "Stack prod is held: rolled back to abcdef0"),
    ],
)
def test_what_has_not_reached_done_or_is_held_is_not_retired(
    stack: Migrating, cluster: Done, outputs: dict[str, Any], told: dict[str, str], refusal: str
) -> None:
    outputs.update(told)
    with pytest.raises(UserError, match=refusal):
        run(stack, cluster)
    assert (saved(stack), cluster.deleted) == ([], [])


def test_in_another_phase_nothing_is_retired(stack: Migrating, cluster: Done) -> None:
    stack.write("frontend")
    stack.commit("Frontend")
    with pytest.raises(UserError, match="says phase frontend: only in done nothing leads to what is retired"):
        run(stack, cluster)
    assert (saved(stack), cluster.deleted) == ([], [])


def test_what_was_started_again_and_what_holds_a_secret_are_refused_at_once(stack: Migrating, cluster: Done) -> None:
    cluster.named("deployment", "vllm-general")["spec"]["replicas"] = 1
    cluster.named("deployment", "vllm-code")["spec"]["template"]["spec"]["containers"] = [
        {
            "name": "vllm",
            "env": [{"name": "HF_TOKEN", "value": "not-to-be-shown"}],
            "args": ["--api-key", "hf_canarycanarycanary"],
        }
    ]
    with pytest.raises(UserError) as refused:
        run(stack, cluster)
    lines = str(refused.value).splitlines()
    held = "llama-chat:legacy.routes: vllm-code: holds what looks like a secret"
    assert [line.partition(", which")[0].partition(": somebody")[0] for line in lines] == [
        "llama-chat:legacy.routes: vllm-general: has pods",
        f"{held} (variable HF_TOKEN)",
        f"{held} (spec.template.spec.containers[0].args[1])",
    ]
    assert "canary" not in str(refused.value)
    assert "not-to-be-shown" not in str(refused.value)
    assert saved(stack) == []


@pytest.mark.parametrize("other", ["deployment", "pod"])
def test_a_service_that_leads_to_others_too_stays(
    stack: Migrating, cluster: Done, capsys: pytest.CaptureFixture[str], other: str
) -> None:
    for name in ("vllm-general", "llm-gateway" if other == "deployment" else "vllm-general"):
        cluster.named("deployment", name)["spec"]["template"]["metadata"]["labels"]["tier"] = "ai"
    if other == "pod":
        cluster.objects["pod", "database-0"] = {"metadata": {"name": "database-0", "labels": {"tier": "ai"}}}
    cluster.named("service", "vllm-general")["spec"]["selector"] = {"tier": "ai"}
    run(stack, cluster)
    assert "Service vllm-general stays: it leads to others too" in capsys.readouterr().err
    assert ("service", "vllm-general") in cluster.objects
    assert "service-vllm-general.yaml" not in saved(stack)


def test_a_headless_service_stays_one(stack: Migrating, cluster: Done) -> None:
    cluster.named("service", "vllm-code")["spec"] |= {"clusterIP": "None"}
    run(stack, cluster)
    service = yaml.safe_load((stack.legacy / "retired" / "service-vllm-code.yaml").read_text())
    assert service["spec"]["clusterIP"] == "None"


def test_a_second_retirement_leaves_no_file_of_the_first(stack: Migrating, cluster: Done) -> None:
    before = deepcopy(cluster.objects)
    run(stack, cluster)
    cluster.objects.update(before)
    stack.write("done")
    (stack.legacy / "retired" / "service-gone.yaml").write_text("{}\n")
    stack.commit("Brought back")
    run(stack, cluster)
    is_whole(stack, cluster)


def test_where_nothing_is_left_to_retire_that_is_said(stack: Migrating, cluster: Done) -> None:
    for name in WORKERS:
        del cluster.objects["deployment", name]
    with pytest.raises(UserError, match="there is nothing to retire"):
        run(stack, cluster)
