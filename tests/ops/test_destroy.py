"""The gate, and a stack's end, with the real Pulumi on a small program."""

from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.errors import Problem, UserError
from ops import destroy as command
from ops import verify
from ops.destroy import destroy
from ops.engine import Ended
from ops.hold import put_hold
from tests.ops.adoptable import KEY, Cluster
from tests.ops.migrating import NAME, Migrating, at_hand, made
from tests.ops.tiny_stack import environment
from tests.runbook import LITELLM

pytestmark = pytest.mark.timeout(300)
ROUTES, CLAIM, WORKER = "gateway-routes", "llama-static-a-cache", "llama-static-a"
HOOK = "llm-gateway-connections-1"
ALL = [ROUTES, WORKER, CLAIM, HOOK]
Object = dict[str, Any]
OURS = "http://llama-static-a.ai.svc.cluster.local:8080/v1"


@dataclass(frozen=True, kw_only=True)
class Machines(Cluster):
    """With nodes, a gateway that answers, and every Deployment whole."""

    nodes: dict[str, Object] = field(default_factory=dict[str, Object])
    pods: list[Object] = field(default_factory=list[Object])
    """Those that have a node's GPUs."""
    answers: dict[str, str] = field(default_factory=dict[str, str])
    """The gateway's names, and who answers each."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("general", "code", "reasoning"):
            self.answers[f"{name}-chat"] = f"http://vllm-{name}.ai.svc.cluster.local:8000/v1"
        for (kind, _), thing in self.objects.items():
            if kind == "deployment":
                counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
                thing["status"] = {"observedGeneration": 4, **dict.fromkeys(counts, thing["spec"]["replicas"])}

    def items(self, kind: str) -> dict[str, Any]:
        assert kind == "nodes"
        return self.nodes

    def listed(self, kind: str, *options: str) -> list[Object]:
        return self.pods if options else super().listed(kind)

    def complete(self, model: str, _seconds: float) -> SimpleNamespace:
        return SimpleNamespace(text="four", answered_by=self.answers[model])


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Migrating:
    """The stack in phase parallel; tests work on copies of it."""
    place = tmp_path_factory.mktemp("migrating")
    with pytest.MonkeyPatch.context() as patch:
        _set(patch, place)
        stack = made(place)
        stack.pulumi("stack", "init")
        stack.up("parallel")
        return stack


@pytest.fixture
def stack(grown: Migrating, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Migrating:
    _set(monkeypatch, tmp_path)
    return grown.copy(tmp_path)


def _set(patch: pytest.MonkeyPatch, place: Path) -> None:
    for name, value in environment(place / "backend").items():
        patch.setenv(name, value)
    at_hand(patch, place / "repository")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Machines:
    """Where the gateway has its own routes, and answers."""
    found = Machines()
    labels = {"app.kubernetes.io/part-of": "llama-chat"}
    data = {"LEGACY_KEY_1": b64encode(KEY.encode()).decode()}
    found.objects["secret", "llm-gateway-legacy-keys"] = {"metadata": {"labels": labels}, "data": data}
    found.write(LITELLM)

    @contextmanager
    def open_gateway(_config: object, _kube: object) -> Generator[SimpleNamespace]:
        yield SimpleNamespace(names=lambda: list(found.answers), complete=found.complete)

    for module in (command, verify):
        monkeypatch.setattr(module, "open_gateway", open_gateway)
    return found


def run(stack: Migrating, cluster: Machines, *, agreed: bool = True) -> None:
    destroy(stack.stack(), stack.engine, cluster, stack.folder, lambda _question: agreed)


def test_an_update_goes_one_phase_forward_and_is_refused_two_in_previews_too(stack: Migrating) -> None:
    before = stack.outputs()
    assert before["phase"] == "parallel"
    told = "error: llama-chat:migration.phase: cutover: this stack has reached parallel, and phases go forward one at a"
    refused = stack.up("cutover", code=1)
    assert told in refused
    assert "Traceback" not in refused
    assert told in stack.pulumi("preview", code=1)
    assert stack.outputs() == before
    stack.up("test")
    reached = stack.outputs()
    assert (reached["phase"], reached["wanted"]) == ("test", "test")
    assert reached["phase_since"] > before["phase_since"]
    stack.pulumi("preview", "--expect-no-changes")
    stack.up("test")
    assert stack.outputs() == reached


def test_an_update_that_fails_has_reached_nothing(stack: Migrating, monkeypatch: pytest.MonkeyPatch) -> None:
    before = stack.outputs()
    monkeypatch.setenv("FAIL", "test")
    failed = stack.up("test", code=1)
    assert "nowhere" in failed
    assert "Traceback" not in failed
    assert stack.outputs() == before
    assert "has reached parallel, and phases go forward one at a time" in stack.up("cutover", code=1)
    monkeypatch.delenv("FAIL")
    stack.up("test")
    assert stack.outputs()["phase"] == "test"


def test_a_stack_that_was_destroyed_begins_with_parallel(stack: Migrating) -> None:
    stack.pulumi("state", "unprotect", "--all", "--yes")
    stack.pulumi("destroy", "--yes")
    assert "has reached no phase yet: write parallel and bring it up" in stack.up("test", code=1)


@pytest.mark.parametrize("phase", ["parallel", "test"])
def test_a_stack_goes_back_first_and_leaves_claims_and_the_adopted_gateway(
    stack: Migrating, cluster: Machines, capfd: pytest.CaptureFixture[str], phase: str
) -> None:
    if phase == "test":
        stack.up("test")
    file = stack.file.read_text()
    refused = stack.pulumi("destroy", "--yes", code=1)
    assert f"{CLAIM} delete[retain] error" in refused
    assert (f"{ROUTES} delete[retain] error" in refused) == (phase == "test")
    assert stack.standing() == ALL
    capfd.readouterr()
    run(stack, cluster)
    assert stack.standing() == []
    assert stack.file.read_text() == file
    told = capfd.readouterr().err
    assert "going back to phase parallel first; Pulumi.prod.yaml stays as it is" in told
    assert "the adopted gateway answers, and lists general-chat, code-chat, reasoning-chat" in told
    assert "the gateway needs ConfigMap llm-gateway-connections-" in told
    assert told.endswith("the gateway needs Secret llm-gateway-legacy-keys from now on: its document refers to it\n")
    assert f"`kubectl --context homelab --namespace ai delete pvc {CLAIM}` deletes them" in told
    run(stack, cluster)
    assert "stack prod has nothing to destroy" in capfd.readouterr().err


def test_a_stack_that_has_patched_nothing_yet_has_nothing_to_go_back_from(
    stack: Migrating, cluster: Machines, capfd: pytest.CaptureFixture[str]
) -> None:
    urn = f"urn:pulumi:{NAME}::llama-chat::kubernetes:core/v1:ConfigMapPatch::{ROUTES}"
    stack.pulumi("state", "delete", urn, "--yes")
    run(stack, cluster)
    assert stack.standing() == []
    assert "going back" not in capfd.readouterr().err


def test_without_agreement_and_while_held_nothing_is_destroyed(stack: Migrating, cluster: Machines) -> None:
    with pytest.raises(UserError, match="Nothing is changed"):
        run(stack, cluster, agreed=False)
    put_hold(NAME, stack.folder, "rolled back to abcdef0")
    with pytest.raises(UserError, match=r"Stack prod is held: rolled back to abcdef0\. `make resume STACK=prod`"):
        run(stack, cluster)
    assert stack.standing() == ALL


def test_where_the_way_back_fails_all_stands_and_another_run_goes_on(
    stack: Migrating, cluster: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up("test")
    monkeypatch.setenv("FAIL", "parallel")
    whole = dict(cluster.answers)
    cluster.answers["GLM-4.7-Flash-test"] = OURS
    comes_first = r"Nothing was destroyed, as going back to parallel comes first: pulumi up .*Users "
    with pytest.raises(UserError, match=comes_first + r"may still have this stack's routes: llm-gateway: lists GLM-4"):
        run(stack, cluster)
    del cluster.answers["GLM-4.7-Flash-test"]
    cluster.answers["code-chat"] = OURS
    which = "code-chat: answered by http://llama-static-a"
    with pytest.raises(UserError, match=f"{comes_first}have the legacy routes, which do not all answer: {which}"):
        run(stack, cluster)
    cluster.answers.update(whole)
    cluster.named("deployment", "llm-gateway")["status"]["updatedReplicas"] = 0
    with pytest.raises(UserError, match=comes_first + "may still have this stack's routes: llm-gateway: of 1 pods: 0"):
        run(stack, cluster)
    cluster.named("deployment", "llm-gateway")["status"]["updatedReplicas"] = 1
    cluster.named("deployment", "vllm-code")["status"]["readyReplicas"] = 0
    with pytest.raises(UserError, match=r"which do not all answer: vllm-code: of 1 pods: 1 updated, 0 ready"):
        run(stack, cluster)
    assert stack.standing() == ALL
    monkeypatch.delenv("FAIL")

    def no_drift(_config: object, _kube: object) -> list[Problem]:
        return []

    with monkeypatch.context() as patch:
        patch.setattr(command, "drift", no_drift)
        cluster.write("model_list: []\n")
        with pytest.raises(UserError, match=r"Nothing was destroyed: the live document of the gateway is not the ado"):
            run(stack, cluster)
    cluster.write(LITELLM)
    run(stack, cluster)
    assert stack.standing() == []


def test_a_broken_backend_keeps_no_stack_whose_users_have_what_they_had_before(
    stack: Migrating, cluster: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    stack.up("test")
    monkeypatch.setenv("FAIL", "parallel")

    def agree_once(question: str) -> bool:
        asked.append(question)
        return len(asked) == 1

    with pytest.raises(UserError, match=r"^Nothing was destroyed\.$"):
        destroy(stack.stack(), stack.engine, cluster, stack.folder, agree_once)
    assert "Users have what they had before all the same. Go on, and destroy stack prod?" in asked[1]
    assert stack.standing() == ALL
    run(stack, cluster)
    assert stack.standing() == []


def test_an_interrupted_way_back_is_nobodys_leave_to_destroy(
    stack: Migrating, cluster: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up("test")

    def interrupted(_command: object) -> Ended:
        return Ended(1, interrupted=True)

    monkeypatch.setattr("ops.engine.run_gently", interrupted)
    with pytest.raises(UserError, match=r"^pulumi up of stack prod was interrupted: run this again\.$"):
        run(stack, cluster)
    assert stack.standing() == ALL


def test_where_vllm_finds_no_gpu_the_way_back_is_not_begun(
    stack: Migrating, cluster: Machines, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = [{"resources": {"limits": {"amd.com/gpu": "1"}}}]
    worker = cluster.named("deployment", "vllm-code")["spec"]
    worker["replicas"] = 0
    worker["template"]["spec"]["containers"] = limits
    cluster.nodes["gpu-node-2"] = {"status": {"allocatable": {"amd.com/gpu": "1"}}}
    holder = {"metadata": {"name": "miner", "namespace": "ai"}, "status": {}}
    cluster.pods.append({**holder, "spec": {"containers": limits}})
    with pytest.raises(UserError, match=r"vllm-code: starts again in phase parallel, and none of its nodes .*ai/miner"):
        run(stack, cluster)
    assert stack.standing() == ALL
    assert "going back" not in capfd.readouterr().err


def test_a_stack_file_that_adopts_no_more_destroys_nothing_that_is_patched(stack: Migrating, cluster: Machines) -> None:
    values = {"gateway": {"mode": "deploy", "master_key_secret": {"name": "a", "key": "b"}}, "frontend": {}}
    stack.up("test")
    stack.write("parallel", **values, legacy={})
    with pytest.raises(UserError, match=r"says mode deploy: .*Check out the stack file that adopted it, then run this"):
        run(stack, cluster)
    assert stack.standing() == ALL
    assert f"{ROUTES} delete[retain] error" in stack.pulumi("destroy", "--yes", code=1)


def test_what_somebody_changed_in_the_live_document_is_shown_first(stack: Migrating, cluster: Machines) -> None:
    cluster.write(LITELLM.replace("timeout: 900", "timeout: 901"))
    with pytest.raises(UserError, match=r"somebody has changed its config\.yaml since"):
        run(stack, cluster)
    assert stack.standing() == ALL


def test_a_stack_whose_vllm_is_retired_is_not_destroyed(stack: Migrating, cluster: Machines) -> None:
    (stack.legacy / "retired").mkdir()
    stack.write("done")
    text = stack.file.read_text().replace("  llama-chat:legacy:\n", "  llama-chat:legacy:\n    retired: true\n")
    stack.file.write_text(text)
    with pytest.raises(UserError, match=r"is retired: .*`kubectl --context homelab apply -f legacy/prod/retired`, the"):
        run(stack, cluster)


def test_a_gateway_of_our_own_goes_with_its_stack_and_the_claims_stay(
    stack: Migrating, cluster: Machines, capfd: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []
    values = {"gateway": {"mode": "deploy", "master_key_secret": {"name": "a", "key": "b"}}, "frontend": {}}
    stack.write("parallel", **values, legacy={})
    stack.pulumi("up", "--yes", "--skip-preview", "--suppress-progress")
    assert "phase" not in stack.outputs()

    def agree(question: str) -> bool:
        asked.append(question)
        return True

    destroy(stack.stack(), stack.engine, cluster, stack.folder, agree)
    assert asked == ["Destroy stack prod in context homelab? Its users lose the gateway."]
    assert stack.standing() == []
    assert f"delete pvc {CLAIM}" in capfd.readouterr().err
