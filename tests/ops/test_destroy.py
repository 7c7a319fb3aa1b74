"""The gate, and a stack's end, with the real Pulumi on a small program."""

import os
import subprocess
from base64 import b64encode
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from config.errors import Problem, UserError
from local.toolchain import ensure
from ops import destroy as command
from ops.destroy import destroy
from ops.hold import put_hold
from ops.stack import ROOT
from tests.ops.adoptable import KEY, Cluster
from tests.ops.migrating import NAME, Migrating, at_hand, made
from tests.ops.tiny_stack import environment
from tests.runbook import LITELLM

pytestmark = pytest.mark.timeout(300)
ROUTES, CLAIM, WORKER = "gateway-routes", "llama-static-a-cache", "llama-static-a"
ALL = [ROUTES, WORKER, CLAIM]


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
    uv = subprocess.run(["sh", ROOT / "local" / "bootstrap-uv.sh"], check=True, capture_output=True, text=True)
    path = f"{ensure('pulumi').env()['PATH']}{os.pathsep}{Path(uv.stdout).parent}"
    for name, value in {**environment(place / "backend"), "UV": uv.stdout.strip(), "PATH": path}.items():
        patch.setenv(name, value)
    at_hand(patch, place / "repository")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Where the gateway has its own routes, and answers."""
    found = Cluster()
    labels = {"app.kubernetes.io/part-of": "llama-chat"}
    data = {"LEGACY_KEY_1": b64encode(KEY.encode()).decode()}
    found.objects["secret", "llm-gateway-legacy-keys"] = {"metadata": {"labels": labels}, "data": data}
    found.write(LITELLM)

    @contextmanager
    def open_gateway(_config: object, _kube: object) -> Generator[SimpleNamespace]:
        yield SimpleNamespace(names=lambda: ["general-chat"])

    monkeypatch.setattr(command, "open_gateway", open_gateway)
    return found


def run(stack: Migrating, cluster: Cluster, *, agreed: bool = True) -> None:
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
    stack: Migrating, cluster: Cluster, capfd: pytest.CaptureFixture[str], phase: str
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
    assert "the adopted gateway answers, and lists general-chat" in told
    assert f"`kubectl --context homelab --namespace ai delete pvc {CLAIM}` deletes them" in told
    run(stack, cluster)
    assert "stack prod has nothing to destroy" in capfd.readouterr().err


def test_a_stack_that_has_patched_nothing_yet_has_nothing_to_go_back_from(
    stack: Migrating, cluster: Cluster, capfd: pytest.CaptureFixture[str]
) -> None:
    urn = f"urn:pulumi:{NAME}::llama-chat::kubernetes:core/v1:ConfigMapPatch::{ROUTES}"
    stack.pulumi("state", "delete", urn, "--yes")
    run(stack, cluster)
    assert stack.standing() == []
    assert "going back" not in capfd.readouterr().err


def test_without_agreement_and_while_held_nothing_is_destroyed(stack: Migrating, cluster: Cluster) -> None:
    with pytest.raises(UserError, match="Nothing is changed"):
        run(stack, cluster, agreed=False)
    put_hold(NAME, stack.folder, "rolled back to abcdef0")
    with pytest.raises(UserError, match=r"Stack prod is held: rolled back to abcdef0\. `make resume STACK=prod`"):
        run(stack, cluster)
    assert stack.standing() == ALL


def test_where_the_way_back_fails_all_stands_and_another_run_goes_on(
    stack: Migrating, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.up("test")
    monkeypatch.setenv("FAIL", "parallel")
    with pytest.raises(UserError, match=r"Nothing was destroyed, as going back to parallel comes first: pulumi up"):
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


def test_what_somebody_changed_in_the_live_document_is_shown_first(stack: Migrating, cluster: Cluster) -> None:
    cluster.write(LITELLM.replace("timeout: 900", "timeout: 901"))
    with pytest.raises(UserError, match=r"somebody has changed its config\.yaml since"):
        run(stack, cluster)
    assert stack.standing() == ALL


def test_a_stack_whose_vllm_is_retired_is_not_destroyed(stack: Migrating, cluster: Cluster) -> None:
    (stack.legacy / "retired").mkdir()
    stack.write("done")
    text = stack.file.read_text().replace("  llama-chat:legacy:\n", "  llama-chat:legacy:\n    retired: true\n")
    stack.file.write_text(text)
    with pytest.raises(UserError, match=r"is retired: .*`kubectl --context homelab apply -f legacy/prod/retired`, the"):
        run(stack, cluster)


def test_a_gateway_of_our_own_goes_with_its_stack_and_the_claims_stay(
    stack: Migrating, cluster: Cluster, capfd: pytest.CaptureFixture[str]
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
