"""What somebody else has changed since is told before the stack writes over it."""

from base64 import b64encode
from typing import Any

import pytest

from config.phases import PHASES
from ops.drift import drift
from render.librechat import frontend_text
from render.litellm import gateway_text
from tests.conftest import stack_config
from tests.ops.adoptable import KEY, LIVE_LITELLM, Cluster
from tests.runbook import LIBRECHAT, LITELLM, adopted, adopting, adopting_values

Object = dict[str, Any]
CONFIG_KEYS = {"litellm-config": "config.yaml", "librechat-config": "librechat.yaml"}


def own(cluster: Cluster, name: str, manager: str = "llama-chat") -> None:
    """Say that a manager was the last to write a ConfigMap's document."""
    fields: Object = {"f:data": {f"f:{CONFIG_KEYS[name]}": {}}}
    entry: Object = {"manager": manager, "operation": "Apply", "fieldsV1": fields}
    cluster.named("configmap", name)["metadata"]["managedFields"] = [entry]


def hold(cluster: Cluster, **values: str) -> None:
    """The Secret with the keys."""
    data = {name: b64encode(value.encode()).decode() for name, value in values.items()}
    labels = {"app.kubernetes.io/part-of": "llama-chat"}
    cluster.objects["secret", "llm-gateway-legacy-keys"] = {"metadata": {"labels": labels}, "data": data}


@pytest.fixture
def cluster() -> Cluster:
    """As `make adopt` left it."""
    made = Cluster()
    hold(made, LEGACY_KEY_1=KEY)
    return made


def told(cluster: Cluster, phase: str = "parallel") -> list[str]:
    return [str(problem) for problem in drift(adopting(phase), cluster)]


def test_a_gateway_of_ours_is_not_looked_at(values: Object) -> None:
    assert drift(stack_config(values), Cluster(objects={})) == []


@pytest.mark.parametrize("phase", PHASES)
def test_what_was_adopted_is_let_through_with_its_key_still_in_it(cluster: Cluster, phase: str) -> None:
    assert told(cluster, phase) == []
    cluster.write(LITELLM)
    assert told(cluster, phase) == []


@pytest.mark.parametrize("standing", PHASES)
def test_what_any_phase_makes_of_it_is_let_through(cluster: Cluster, standing: str) -> None:
    other = adopting(standing, keep_aliases=False, renamed=True)
    cluster.write(gateway_text(other))
    cluster.write(frontend_text(other), "librechat-config", "librechat.yaml")
    for phase in PHASES:
        assert told(cluster, phase) == []


def test_what_the_stacks_own_patch_wrote_last_is_let_through_whatever_it_says(cluster: Cluster) -> None:
    values = adopting_values("cutover")
    values["grace_seconds"] = 400
    cluster.write(gateway_text(stack_config(values).with_adopted(adopted())))
    (line,) = told(cluster, "cutover")
    assert line.startswith("llama-chat:gateway.config_map: litellm-config: somebody has changed its config.yaml since")
    own(cluster, "litellm-config")
    assert told(cluster, "cutover") == []
    own(cluster, "litellm-config", manager="kubectl-edit")
    assert len(told(cluster, "cutover")) == 1


def test_a_changed_document_is_told_with_what_differs(cluster: Cluster) -> None:
    cluster.write(LIVE_LITELLM.replace("timeout: 600", "timeout: 60"))
    (line,) = told(cluster)
    first, *diff = line.splitlines()
    assert first == (
        "llama-chat:gateway.config_map: litellm-config: somebody has changed its config.yaml since: put it back, or "
        "OVERWRITE=1 (--overwrite) with make up writes over it, or (phase parallel) make adopt takes it in"
    )
    assert [it for it in diff if it.startswith(("  -", "  +"))] == [
        "  -      timeout: 600",
        "  +      timeout: 60",
    ]


def test_the_phase_that_should_stand_is_what_it_is_held_against(cluster: Cluster) -> None:
    cluster.write(gateway_text(adopting("cutover")).replace("timeout: 110", "timeout: 9"))
    (line,) = told(cluster, "cutover")
    assert "  +    timeout: 9" in line.splitlines()


@pytest.mark.parametrize(
    "text",
    [
        LIVE_LITELLM.replace("drop_params: true", "langfuse_secret: other-canary"),
        LIVE_LITELLM.replace("drop_params: true", "callback: https://u:canary@example.org"),
        f"{LIVE_LITELLM}# sk-canaryCANARYcanary\n",
        "model_list: [\napi_key: canary\nAuthorization: Bearer canary canary\n",
        "- {\n\tPASSWORD = canary\n",
    ],
)
def test_no_diff_shows_a_secret(cluster: Cluster, text: str) -> None:
    cluster.write(text)
    (line,) = told(cluster)
    assert "canary" not in line
    assert "***" in line


def test_a_long_diff_is_cut(cluster: Cluster) -> None:
    cluster.write("".join(f"key{number}: 1\n" for number in range(200)))
    (line,) = told(cluster)
    assert len(line.splitlines()) < 70
    assert line.endswith(" more")


def test_librechats_document_is_looked_at_in_the_same_way(cluster: Cluster) -> None:
    text = LIBRECHAT.replace("${OPENROUTER_KEY}", "sk-or-canary").replace("fetch: false", "fetch: true")
    cluster.write(text, "librechat-config", "librechat.yaml")
    (line,) = told(cluster)
    assert line.startswith("llama-chat:frontend.config_map: librechat-config: somebody has changed its librechat.yaml")
    assert "  +        fetch: true" in line.splitlines()
    assert "canary" not in line


def test_a_change_that_cannot_be_shown_is_told_so(cluster: Cluster) -> None:
    before = LIBRECHAT.replace("${OPENROUTER_KEY}", "sk-or-canary")
    cluster.write(before.replace("canary", "robin"), "librechat-config", "librechat.yaml")
    (problem,) = drift(adopting(found=adopted(librechat=before)), cluster)
    assert str(problem).splitlines()[1:] == ["  (the difference is in a key or at a line's end: not shown)"]


def test_a_gateway_that_users_cannot_reach_is_told(cluster: Cluster) -> None:
    del cluster.objects["service", "llm-gateway"]
    (line,) = told(cluster)
    assert line == (
        "llama-chat:gateway.port: 4000: Service llm-gateway, by which users reach the gateway, is not there: correct "
        "the port, or it"
    )


def test_a_key_that_somebody_has_exchanged_is_told_and_not_written_over(cluster: Cluster) -> None:
    cluster.write(LIVE_LITELLM.replace(KEY, "sk-the-new-one"))
    (line,) = told(cluster)
    assert line == (
        "llama-chat:legacy.keys_secret: llm-gateway-legacy-keys: the live document has another LEGACY_KEY_1 than this "
        "Secret: run `make adopt` with the stack's name as STACK"
    )


def test_a_secret_that_lacks_a_key_is_told(cluster: Cluster) -> None:
    hold(cluster)
    (line,) = told(cluster)
    assert line.startswith("llama-chat:legacy.keys_secret: llm-gateway-legacy-keys: holds no LEGACY_KEY_1: run `make")
    del cluster.objects["secret", "llm-gateway-legacy-keys"]
    assert told(cluster) == [line]


@pytest.mark.parametrize(
    ("gone", "key"),
    [
        (("configmap", "litellm-config"), "gateway.config_map: litellm-config"),
        (("deployment", "llm-gateway"), "gateway.deployment: llm-gateway"),
        (("configmap", "librechat-config"), "frontend.config_map: librechat-config"),
        (("deployment", "librechat"), "frontend.deployment: librechat"),
        (("deployment", "vllm-code"), "legacy.routes[1].deployment: vllm-code"),
    ],
)
def test_an_object_that_is_not_there_is_told_by_its_key(cluster: Cluster, gone: tuple[str, str], key: str) -> None:
    del cluster.objects[gone]
    (line,) = told(cluster)
    assert line.startswith(f"llama-chat:{key}: namespace ai has n")


def test_a_deployment_that_is_gone_comes_back_from_where_it_was_saved(cluster: Cluster) -> None:
    del cluster.objects["deployment", "vllm-code"]
    (line,) = told(cluster)
    assert line.endswith("vllm-general, vllm-reasoning; run `make adopt` with the stack's name as STACK")
    found = adopted().model_copy(update={"retired": "legacy/prod/retired"})
    (problem,) = drift(adopting(found=found), cluster)
    assert problem.remedy.endswith("; bring it back with `kubectl --context homelab apply -f legacy/prod/retired`")


@pytest.mark.parametrize("phase", ["parallel", "cutover"])
def test_what_is_to_be_written_over_is_shown_and_nothing_else_of_drift_is_let_through(
    cluster: Cluster, capsys: pytest.CaptureFixture[str], phase: str
) -> None:
    expected = gateway_text(adopting(phase))
    cluster.write(expected.replace("num_retries: 2", "num_retries: 3"))
    cluster.write("endpoints: {custom: []}\n", "librechat-config", "librechat.yaml")
    assert len(told(cluster, phase)) == 2
    assert drift(adopting(phase), cluster, overwrite=True) == []
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "the update writes over what somebody has changed in litellm-config:"
    assert "  +  num_retries: 3" in lines
    assert len([line for line in lines if line.startswith("the update writes")]) == 2
    cluster.write(LIVE_LITELLM.replace(KEY, "sk-the-new-one"))
    del cluster.objects["deployment", "vllm-code"]
    keys, worker = drift(adopting(phase), cluster, overwrite=True)
    assert (keys.key, worker.key) == ("llama-chat:legacy.keys_secret", "llama-chat:legacy.routes[1].deployment")


@pytest.mark.parametrize("name", ["llm-gateway", "librechat", "vllm-code"])
def test_what_flux_has_taken_over_since_is_told(cluster: Cluster, name: str) -> None:
    labels = {"kustomize.toolkit.fluxcd.io/name": "apps"}
    cluster.named("deployment", name)["metadata"]["labels"] = labels
    (line,) = told(cluster)
    assert f": {name}: Flux would undo what this stack changes in it" in line
    values = adopting_values()
    values["legacy"]["gitops_released"] = True
    assert drift(stack_config(values).with_adopted(adopted()), cluster) == []


def test_a_route_that_stays_as_it_is_needs_no_deployment(cluster: Cluster) -> None:
    values = adopting_values()
    values["legacy"]["routes"][1] = {"name": "code-chat"}
    del cluster.objects["deployment", "vllm-code"]
    assert drift(stack_config(values).with_adopted(adopted()), cluster) == []


@pytest.mark.parametrize(("phase", "warned"), [("parallel", True), ("test", True), ("cutover", False)])
def test_pods_of_vllm_that_the_update_would_end_are_told_and_bar_nothing(
    cluster: Cluster, phase: str, *, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.named("deployment", "vllm-code")["spec"]["replicas"] = 3
    assert told(cluster, phase) == []
    said = "llama-chat:legacy.routes[1].deployment: vllm-code: has 3 pods, and the update leaves it 1: answers of"
    assert (said in capsys.readouterr().err) == warned


def test_legacy_names_stay_routed_while_librechat_lists_them(cluster: Cluster) -> None:
    config = adopting("done", keep_aliases=False, renamed=True)
    cluster.write(frontend_text(config), "librechat-config", "librechat.yaml")
    assert drift(config, cluster) == []
    # as an update that failed on its way back left it
    cluster.write(LIBRECHAT, "librechat-config", "librechat.yaml")
    (problem,) = drift(config, cluster)
    assert str(problem) == (
        "llama-chat:migration.keep_aliases: false: LibreChat still lists code-chat, general-chat, reasoning-chat: "
        "write true, make up, then false again"
    )
    assert drift(adopting("done", renamed=True), cluster) == []
