"""What the frontend's ConfigMap is."""

import json

import pytest
import yaml

from components.frontend_config import READ, FrontendConfig, FrontendConfigArgs
from config.model import StackConfig
from render.librechat import frontend_text
from tests.components.adopted import LIBRECHAT, adopting
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
    # the one of another phase has waited for another patch, perhaps
    assert len(set(names.values())) == 3


def test_the_way_back_to_the_first_phase_waits_for_librechat_and_goes_on_without_it() -> None:
    recorder = frontend(adopting("parallel"))
    (job,) = recorder.all("Job")
    assert "frontend-routes" in job.after
    assert "frontend-deployment" not in job.after
    plan = json.loads(recorder.one("ConfigMap")["data"]["rollout.json"])
    assert (plan["annotations"], plan["bars"], plan["seconds"]) == ({READ: None}, False, 120)


def test_a_long_name_leaves_room_for_a_jobs_hash() -> None:
    config = adopting("frontend")
    longest = config.frontend.model_copy(update={"deployment": "f" * 63})
    recorder = frontend(config.model_copy(update={"frontend": longest}).with_adopted(config.adopted))
    assert len(recorder.one("Job")["metadata"]["name"]) == 63
