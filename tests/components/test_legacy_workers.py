"""When vLLM runs, and when it stops."""

import json

import pytest

from components.adopted_gateway import AdoptedGateway
from components.gateway_routes import GatewayRoutesArgs
from tests.components.adopted import adopting
from tests.components.recorder import Recorder, record


def gateway(phase: str, *, retired: bool = False) -> Recorder:
    config = adopting(phase)
    config = config.model_copy(update={"legacy": config.legacy.model_copy(update={"retired": retired})})
    return record(lambda: AdoptedGateway("gateway", GatewayRoutesArgs(config=config)))


def replicas(recorder: Recorder) -> dict[str, float]:
    return {
        it.inputs["metadata"]["name"]: it.inputs["spec"]["replicas"] for it in recorder.all("DeploymentPatch", "vllm")
    }


ALL = {"vllm-general": 2, "vllm-code": 1}


@pytest.mark.parametrize("phase", ["parallel", "test"])
def test_where_the_gateway_leads_to_them_it_waits_until_they_have_loaded(phase: str) -> None:
    recorder = gateway(phase)
    assert replicas(recorder) == ALL
    (waiting,) = recorder.all("Job", "llm-gateway-legacy")
    assert {it.name for it in recorder.all("DeploymentPatch", "vllm")} <= set(waiting.after)
    first = recorder.all("ConfigMapPatch", "routes") if phase == "parallel" else recorder.all("Job", "smoke")
    assert [waiting.name in it.after for it in first] == [True]
    plan = json.loads(recorder.one("ConfigMap", "llm-gateway-legacy")["data"]["rollout.json"])
    assert plan["deployments"].keys() == ALL.keys()
    (allowed,) = recorder.one("Role", "llm-gateway-legacy")["rules"]
    assert (allowed["resourceNames"], allowed["verbs"]) == (list(ALL), ["get"])


@pytest.mark.parametrize("phase", ["cutover", "frontend"])
def test_where_it_does_not_they_run_for_the_way_back_and_nobody_waits(phase: str) -> None:
    recorder = gateway(phase)
    assert replicas(recorder) == ALL
    assert not recorder.all("Job", "llm-gateway-legacy")
    (rolled,) = recorder.all("Job", "llm-gateway-rollout")
    assert [it.after for it in recorder.all("DeploymentPatch", "vllm")] == 2 * [[rolled.name]]


def test_once_done_they_stop_after_the_gateway_has_its_last_routes() -> None:
    recorder = gateway("done")
    assert replicas(recorder) == {"vllm-general": 0, "vllm-code": 0}
    (rolled,) = recorder.all("Job", "llm-gateway-rollout")
    for it in recorder.all("DeploymentPatch", "vllm"):
        assert it.after == [rolled.name]


def test_the_way_back_to_parallel_waits_for_none_that_the_gateway_leads_to_already() -> None:
    jobs = [gateway(phase).all("Job", "llm-gateway-legacy")[0].name for phase in ("test", "parallel")]
    assert jobs[0] == jobs[1]


def test_stopping_and_starting_are_the_same_object() -> None:
    names = [[it.name for it in gateway(phase).all("DeploymentPatch", "vllm")] for phase in ("frontend", "done")]
    assert names[0] == names[1] == ["gateway-legacy-vllm-general", "gateway-legacy-vllm-code"]


def test_only_the_number_of_pods_is_ours_and_stays_when_the_stack_goes() -> None:
    for it in gateway("done").all("DeploymentPatch", "vllm"):
        assert set(it.inputs["spec"]) == {"replicas"}
        assert it.stated["retain_on_delete"] is True
        # a retired worker leaves the stack file
        assert "protect" not in it.stated


def test_once_they_are_retired_none_is_registered_and_the_routes_are_as_before() -> None:
    recorder = gateway("done", retired=True)
    assert replicas(recorder) == {}
    (routes,) = recorder.all("ConfigMapPatch", "routes")
    assert routes.inputs == gateway("done").one("ConfigMapPatch", "routes")
