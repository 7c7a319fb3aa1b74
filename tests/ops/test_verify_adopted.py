"""The checklist where gateway and LibreChat are adopted: what is right in each phase, and what turns a check red."""

from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from config.model import StackConfig
from ops.checklist import Check
from ops.verify import verify
from render.librechat import frontend_text
from render.litellm import gateway_text
from tests.conftest import stack_config
from tests.ops.adoptable import KEY as LEGACY_KEY
from tests.ops.adoptable import LIVE_LITELLM, Cluster
from tests.ops.live_stack import Live, Server, StubKube, deployment, live_stack, pod, serving
from tests.runbook import LITELLM, REPLACED, adopted, adopting, adopting_values

Object = dict[str, Any]
A, B, SWAP = (f"http://llama-{role}.ai.svc.cluster.local:8080/v1" for role in ("static-a", "static-b", "swap"))
OURS = {"GLM-4.7-Flash": A, "Qwen3-Coder-30B-A3B": B, "Llama-3.1-70B-Instruct": SWAP, "DeepSeek-R1-Distill": SWAP}
VLLM = {name: f"http://vllm-{name.removesuffix('-chat')}.ai.svc.cluster.local:8000/v1" for name in REPLACED}
IN_TEST = {f"{name}-test": base for name, base in OURS.items()}
MOVED = {name: OURS[new] for name, new in REPLACED.items()}
ANSWERS = {
    "parallel": VLLM,
    "test": {**VLLM, **IN_TEST},
    "cutover": {**OURS, **MOVED},
    "frontend": {**OURS, **MOVED},
    "done": {**OURS, **MOVED},
}
"""Who answers which name in each phase."""
SPEECH = """\
  - model_name: speech
    litellm_params: {model: openai/whisper-1, api_key: os.environ/OPENAI_API_KEY}
"""


@dataclass(frozen=True, kw_only=True)
class AdoptedKube(StubKube, Cluster):
    """The stack's own objects beside those that were adopted."""

    def listed(self, kind: str, *options: str) -> list[Object]:
        return StubKube.listed(self, kind, *options) if options else Cluster.listed(self, kind)


def set_strength(thing: Object, replicas: int) -> None:
    """As many pods as the stack wants."""
    standing = deployment("any", replicas)
    thing["spec"]["replicas"], thing["status"] = replicas, standing["status"]
    thing["metadata"]["generation"] = standing["metadata"]["generation"]


def stands(config: StackConfig, server: Server) -> Live:
    """What the config says, as it stands after its update."""
    ours, phase = live_stack(config, server), config.migration.phase
    kube = AdoptedKube(
        context="homelab",
        namespace="ai",
        objects={},
        pods=ours.kube.pods,
        paths=ours.kube.paths,
        forward=ours.kube.forward,
    )
    kept = {name: it for name, it in ours.kube.objects.items() if name not in kube.objects}
    kube.objects.update({**kept, ("secret", "litellm"): ours.kube.objects["secret", "litellm"]})
    labels = {"app.kubernetes.io/part-of": "llama-chat"}
    kube.objects["secret", "llm-gateway-legacy-keys"] = {
        "metadata": {"labels": labels},
        "data": {"LEGACY_KEY_1": b64encode(LEGACY_KEY.encode()).decode()},
    }
    kube.write(LIVE_LITELLM if phase == "parallel" else gateway_text(config))
    kube.write(frontend_text(config), "librechat-config", "librechat.yaml")
    strength = {"llm-gateway": 2, "librechat": 1, **{f"vllm-{it}": int(phase != "done") for it in WORKERS}}
    for name, replicas in strength.items():
        set_strength(kube.named("deployment", name), replicas)
    answers = ANSWERS[phase]
    server.names = list(OURS) if phase == "done" else list(answers)
    server.bases = dict(answers)
    return Live(config=config, kube=kube, server=server)


WORKERS = ("general", "code", "reasoning")
Standing = Callable[[StackConfig], Live]


@pytest.fixture
def standing() -> Iterator[Standing]:
    with ExitStack() as held:
        yield lambda config: stands(config, held.enter_context(serving(config)))


def rows(live: Live, what: str) -> dict[str, Check]:
    """The checks of a kind, by their subjects."""
    return {check.subject: check for check in verify(live.config, live.kube) if check.what == what}


@pytest.mark.parametrize("phase", ANSWERS)
def test_each_phase_is_green_where_it_stands(standing: Standing, phase: str) -> None:
    live = standing(adopting(phase))
    assert live.red() == {}
    assert {name: check.detail.partition(": ")[0] for name, check in rows(live, "completion").items()} == {
        name: base.removeprefix("http://").partition(".")[0] if base in OURS.values() else base
        for name, base in ANSWERS[phase].items()
    }


def test_another_phase_than_the_one_that_stands_is_red(standing: Standing) -> None:
    live = standing(adopting("cutover"))
    live.config = adopting("test")
    red = live.red()
    assert "lists" in red["llm-gateway", "/v1/models"]
    assert red["general-chat", "completion"] == f"answered by {A}, expected {VLLM['general-chat']}"
    live.config = adopting("frontend")
    assert set(live.red()) == {("librechat-config", "models.default")}


@pytest.mark.parametrize(
    ("phase", "names"),
    [
        ("parallel", [*REPLACED]),
        ("test", [*REPLACED, "GLM-4.7-Flash-test", "Qwen3-Coder-30B-A3B-test", "DeepSeek-R1-Distill-test"]),
        ("cutover", [*REPLACED]),
        ("done", ["GLM-4.7-Flash", "Qwen3-Coder-30B-A3B", "DeepSeek-R1-Distill"]),
    ],
)
def test_a_conversation_is_held_with_each_server_by_a_name_that_is_listed(
    standing: Standing, phase: str, names: list[str]
) -> None:
    live = standing(adopting(phase))
    assert list(rows(live, "conversation")) == names
    assert {asked["model"] for asked in live.server.asked if asked["stream"]} == set(names)


def test_a_hidden_name_is_asked_and_must_not_be_listed(standing: Standing) -> None:
    live = standing(adopting("done"))
    live.server.bases["general-chat"] = B
    assert live.red() == {("general-chat", "completion"): f"answered by {B}, expected {A}"}
    live.server.bases["general-chat"] = A
    live.server.names.append("general-chat")
    assert set(live.red()) == {("llm-gateway", "/v1/models")}


def test_a_name_that_leads_elsewhere_must_be_listed_and_is_never_asked(standing: Standing) -> None:
    values = adopting_values("cutover")
    values["legacy"]["routes"].append({"name": "speech"})
    text = LITELLM.replace("litellm_settings:", f"{SPEECH}litellm_settings:")
    live = standing(stack_config(values).with_adopted(adopted(litellm=text)))
    assert "expected" in live.red()["llm-gateway", "/v1/models"]
    live.server.names.append("speech")
    assert live.red() == {}
    assert rows(live, "/v1/models")["llm-gateway"].detail.endswith("; not asked, leading elsewhere: speech")
    assert "speech" not in {asked["model"] for asked in live.server.asked}


def test_the_adopted_gateways_strength_is_the_stack_files_too(standing: Standing) -> None:
    live = standing(adopting("parallel"))
    set_strength(live.gateway(), 1)
    assert live.red() == {("llm-gateway", "at full strength"): "the Deployment wants 1 pods, the stack 2"}


def test_a_librechat_that_has_not_read_its_document_yet_is_red(standing: Standing) -> None:
    live = standing(adopting("frontend"))
    live.kube.objects["deployment", "librechat"]["status"]["updatedReplicas"] = 0
    assert set(live.red()) == {("librechat", "at full strength")}


def test_documents_are_found_under_keys_of_other_names(standing: Standing) -> None:
    values = adopting_values("frontend")
    values["gateway"]["config_key"], values["frontend"]["config_key"] = "proxy.yaml", "chat.yaml"
    config = stack_config(values).with_adopted(adopted())
    live = standing(config)
    assert "an answer of another shape: KeyError('chat.yaml')" in live.red()["librechat-config", "models.default"]
    for name, key in (("litellm-config", "proxy.yaml"), ("librechat-config", "chat.yaml")):
        data = live.kube.objects["configmap", name]["data"]
        data[key] = data.popitem()[1]
    assert live.red() == {}


def test_what_librechat_had_of_its_own_stays_right_and_is_told_as_such(standing: Standing) -> None:
    document = yaml.safe_load(adopted().librechat)
    ours = document["endpoints"]["custom"][0]
    ours["models"]["fetch"], ours["baseURL"] = True, "http://litellm.example.org/v1"
    del ours["titleModel"]
    live = standing(adopting("frontend", adopted(librechat=yaml.safe_dump(document))))
    assert live.red() == {}
    details = [rows(live, what)["librechat-config"].detail for what in ("models.fetch", "baseURL", "titleModel")]
    assert details == ["True, as adopted", "http://litellm.example.org/v1, as adopted", "absent, as adopted"]


@pytest.mark.parametrize(("phase", "renamed"), [("cutover", False), ("frontend", False), ("done", True)])
def test_legacy_names_are_no_role_aliases_while_they_are_due(standing: Standing, phase: str, *, renamed: bool) -> None:
    live = standing(adopting(phase, renamed=renamed))
    told = rows(live, "no role alias")["librechat-config"]
    due = "none but legacy names, which this phase lists: general-chat, code-chat, reasoning-chat"
    assert (told.ok, told.detail) == (True, "none" if renamed else due)
    live.kube.objects["configmap", "librechat-config"]["data"]["librechat.yaml"] = adopted().librechat
    red = rows(live, "no role alias")["librechat-config"]
    assert red.ok is not renamed


def test_a_document_that_somebody_has_changed_is_told_in_one_line(standing: Standing) -> None:
    live = standing(adopting("cutover"))
    data = live.kube.objects["configmap", "litellm-config"]["data"]
    data["config.yaml"] = data["config.yaml"].replace("drop_params: true", "drop_params: false")
    assert live.red() == {
        ("adopted", "changed by nobody else"): (
            "llama-chat:gateway.config_map: litellm-config: somebody has changed its config.yaml since: put it back, "
            "or OVERWRITE=1 (--overwrite) with make up writes over it, or (phase parallel) make adopt takes it in"
        )
    }


def test_vllm_must_run_until_done_and_stand_still_from_then_on(standing: Standing) -> None:
    before, after = standing(adopting("frontend")), standing(adopting("done"))
    assert set(rows(before, "at full strength")) == {"llm-gateway", "librechat", *(f"vllm-{it}" for it in WORKERS)}
    assert set(rows(after, "scaled to 0")) == {f"vllm-{it}" for it in WORKERS}
    worker = before.kube.objects["deployment", "vllm-code"]
    worker["status"]["readyReplicas"] = 0
    assert before.red() == {
        ("vllm-code", "at full strength"): "of 1 pods: 1 updated, 0 ready, 1 available; 1 stand",
    }
    after.kube.objects["deployment", "vllm-code"]["status"]["replicas"] = 1
    assert after.red() == {("vllm-code", "scaled to 0"): "the Deployment wants 0 pods, the stack 0; 1 stand"}


def test_a_deployment_that_stood_still_before_may_stand_still(standing: Standing) -> None:
    values = adopting_values("parallel")
    values["legacy"]["routes"][1]["replicas"] = 0
    live = standing(stack_config(values).with_adopted(adopted()))
    assert set(live.red()) == {("vllm-code", "scaled to 0")}
    set_strength(live.kube.objects["deployment", "vllm-code"], 0)
    assert live.red() == {}
    assert "code-chat" not in {asked["model"] for asked in live.server.asked}


def test_a_node_may_have_gpus_of_vllm_beside_ours_and_of_nobody_else(standing: Standing) -> None:
    live = standing(adopting("test"))
    vllm = pod("vllm-code-7d9f-x", "vllm-code", "gpu-node-1", "1")
    live.kube.pods.append(vllm)
    check = rows(live, "one GPU, its own")["llama-static-a"]
    assert (check.ok, check.detail) == (False, "gpu-node-1's amd.com/gpu goes to other pods too: ai/vllm-code-7d9f-x")
    vllm["metadata"]["ownerReferences"] = [{"kind": "ReplicaSet", "name": "vllm-code-7d9f"}]
    check = rows(live, "one GPU, its own")["llama-static-a"]
    seen = "1 of amd.com/gpu; others of the node are ai/vllm-code-7d9f-x's until phase done"
    assert (check.ok, check.detail) == (True, seen)
