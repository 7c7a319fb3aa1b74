"""What the frontend's ConfigMap is."""

from typing import Any

import pytest
import yaml

from components.frontend_config import READ, FrontendConfig, FrontendConfigArgs
from config.model import StackConfig
from render.librechat import frontend_text
from tests.components.adopted import FRONTEND, LIBRECHAT, adopting
from tests.components.recorder import Recorder, record


def frontend(config: StackConfig) -> Recorder:
    return record(lambda: FrontendConfig("frontend", FrontendConfigArgs(config=config)))


def read(phase: str) -> dict[str, str]:
    spec = frontend(adopting(phase)).one("DeploymentPatch")["spec"]
    return spec.get("template", {}).get("metadata", {}).get("annotations", {})


def test_the_config_map_has_a_fixed_name_and_lists_what_users_pick_from(config: StackConfig) -> None:
    made = frontend(config).one("ConfigMap")
    assert made["metadata"]["name"] == "librechat-config"
    assert "immutable" not in made
    (endpoint,) = yaml.safe_load(made["data"]["librechat.yaml"])["endpoints"]["custom"]
    assert endpoint["models"]["default"] == list(config.exposed_names)


@pytest.mark.parametrize("phase", ["parallel", "test", "cutover", "frontend", "done"])
def test_an_adopted_librechat_gets_each_phases_document_then_reads_it(phase: str) -> None:
    config = adopting(phase)
    recorder = frontend(config)
    assert recorder.one("ConfigMapPatch")["data"] == {"librechat.yaml": frontend_text(config)}
    (deployment,) = recorder.all("DeploymentPatch")
    assert deployment.after == ["frontend-routes"]
    for it in (*recorder.all("ConfigMapPatch"), deployment):
        assert it.stated["retain_on_delete"] is True
        assert it.stated.get("protect", False) == (phase != "parallel")


def test_librechat_is_not_restarted_for_a_document_that_it_has_read() -> None:
    assert read("parallel") == read("test") == read("cutover") == {}
    assert frontend(adopting("cutover")).one("ConfigMapPatch")["data"] == {"librechat.yaml": LIBRECHAT}
    assert read("frontend")[READ]


def test_each_patch_is_waited_for_by_a_job_of_its_own() -> None:
    jobs = {phase: frontend(adopting(phase)).all("Job")[0] for phase in ("test", "cutover", "frontend")}
    assert "frontend-deployment" in jobs["frontend"].after
    names = {phase: it.name for phase, it in jobs.items()}
    assert names["test"] == names["cutover"] != names["frontend"]


def rolling(live: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever is stated
    return frontend(adopting("frontend", frontend=live)).one("DeploymentPatch")["spec"].get("strategy")


def test_librechat_is_rolled_in_its_own_way_where_it_has_one() -> None:
    live = yaml.safe_load(FRONTEND)
    assert rolling(live) is None
    del live["spec"]["strategy"]
    assert rolling(live) == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
