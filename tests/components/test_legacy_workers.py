"""When vLLM runs, and when it stops."""

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


@pytest.mark.parametrize("phase", ["parallel", "test", "cutover", "frontend"])
def test_every_worker_runs_as_it_was_adopted_and_the_gateway_waits_for_it(phase: str) -> None:
    recorder = gateway(phase)
    assert replicas(recorder) == {"vllm-general": 2, "vllm-code": 1}
    workers = {it.name for it in recorder.all("DeploymentPatch", "vllm")}
    first = recorder.all("ConfigMapPatch", "routes") if phase == "parallel" else recorder.all("Job", "smoke")
    assert [workers <= set(it.after) for it in first] == [True]


def test_once_done_they_stop_after_the_gateway_has_its_last_routes() -> None:
    recorder = gateway("done")
    assert replicas(recorder) == {"vllm-general": 0, "vllm-code": 0}
    for it in recorder.all("DeploymentPatch", "vllm"):
        assert it.after == ["gateway-deployment"]


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
