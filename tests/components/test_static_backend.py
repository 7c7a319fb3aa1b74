"""What stands in the cluster for one pinned model."""

import json
from typing import Any

import pytest

from components.static_backend import StaticBackend, StaticBackendArgs
from components.swap_pool import SwapPool, SwapPoolArgs
from config.model import StackConfig
from tests.components.recorder import Recorder, record
from tests.conftest import stack_config


def build(config: StackConfig, index: int = 0) -> Recorder:
    backend = config.pinned[index]
    return record(lambda: StaticBackend(backend.name, StaticBackendArgs(config=config, backend=backend)))


def pod(recorder: Recorder) -> dict[str, Any]:
    return recorder.one("Deployment")["spec"]["template"]["spec"]


def server(recorder: Recorder) -> dict[str, Any]:
    (container,) = pod(recorder)["containers"]
    return container


def test_the_pod_asks_for_exactly_one_gpu_on_the_node_of_its_role(config: StackConfig) -> None:
    recorder = build(config)
    resources = server(recorder)["resources"]
    assert resources["requests"]["amd.com/gpu"] == resources["limits"]["amd.com/gpu"] == "1"
    required = pod(recorder)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required["nodeSelectorTerms"] == [
        {
            "matchExpressions": [{"key": "ai.llm.role", "operator": "In", "values": ["static-a"]}],
            "matchFields": [{"key": "metadata.name", "operator": "In", "values": ["gpu-node-1"]}],
        }
    ]


def test_another_host_is_another_pod(values: dict[str, Any]) -> None:
    before = pod(build(stack_config(values)))
    values["nodes"]["static-a"] = "gpu-node-9"
    assert pod(build(stack_config(values))) != before


def test_the_old_pod_goes_before_the_new_one_comes(config: StackConfig) -> None:
    spec = build(config).one("Deployment")["spec"]
    assert spec["strategy"] == {"type": "Recreate"}
    assert spec["replicas"] == 1


def test_the_prefetch_job_takes_no_gpu_and_fills_the_servers_own_volume(config: StackConfig) -> None:
    recorder = build(config)
    job = recorder.one("Job")["spec"]["template"]["spec"]
    (fetch,) = job["containers"]
    assert "amd.com/gpu" not in json.dumps(job)
    assert job["affinity"] == pod(recorder)["affinity"]
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for spec in (job, pod(recorder))
        for volume in spec["volumes"]
        if "persistentVolumeClaim" in volume
    ]
    assert claims == [recorder.one("PersistentVolumeClaim")["metadata"]["name"]] * 2
    assert fetch["command"][2:4] == ["/catalog/fetch_model.py", "fetch"]


def test_a_failed_prefetch_is_run_again_by_the_next_update(config: StackConfig) -> None:
    assert build(config).one("Job")["metadata"]["annotations"]["pulumi.com/replaceUnready"] == "true"


def test_a_knob_changes_the_server_and_neither_the_fetch_nor_the_other_backend(values: dict[str, Any]) -> None:
    before = [build(stack_config(values), index) for index in (0, 1)]
    values["statics"][0]["runtime"] = {"threads": 3}
    after = [build(stack_config(values), index) for index in (0, 1)]
    assert before[0].one("Deployment") != after[0].one("Deployment")
    assert before[0].one("Job") == after[0].one("Job")
    objects = [{it.name: (it.type, it.inputs, it.stated) for it in built[1].registered} for built in (before, after)]
    assert objects[0] == objects[1]


def test_another_model_is_another_prefetch_job(values: dict[str, Any]) -> None:
    before = build(stack_config(values)).one("Job")["metadata"]["name"]
    values["statics"][0]["model"]["quant"] = "Q5_K_M"
    assert build(stack_config(values)).one("Job")["metadata"]["name"] != before


def test_config_maps_are_immutable_record_the_triple_and_are_named_by_content(config: StackConfig) -> None:
    recorder = build(config)
    maps = {it.name.rpartition("-")[0]: it.inputs for it in recorder.all("ConfigMap")}
    assert all(inputs["immutable"] for inputs in maps.values())
    (recorded,) = json.loads(maps["llama-static-a-models"]["data"]["models.json"])["models"]
    assert (recorded["repo"], recorded["quant"]) == ("unsloth/GLM-4.7-Flash-GGUF", "Q4_K_M")
    knobs = json.loads(maps["llama-static-a-server"]["data"]["server.json"])["models"]["GLM-4.7-Flash"]
    assert knobs["context_size"] == 32768
    mounted = {volume["configMap"]["name"] for volume in pod(recorder)["volumes"] if "configMap" in volume}
    assert mounted == {inputs["metadata"]["name"] for inputs in maps.values()}


def test_content_that_comes_back_is_the_object_that_still_stands(values: dict[str, Any]) -> None:
    """Under one name in the state it would be created over the live object, and then deleted as the replaced one."""
    before = [build(stack_config(values)).all(kind)[0].name for kind in ("Job", "ConfigMap")]
    values["statics"][0]["model"]["quant"] = "Q5_K_M"
    recorder = build(stack_config(values))
    assert not set(before) & {it.name for it in recorder.registered}
    assert all(it.name == it.inputs["metadata"]["name"] for kind in ("Job", "ConfigMap") for it in recorder.all(kind))


def test_a_role_that_turns_into_a_pool_keeps_its_volume_and_its_service(values: dict[str, Any]) -> None:
    kept = ("PersistentVolumeClaim", "Service", "Deployment", "ModelBackend")
    backend = stack_config(values).pooled[0]
    as_pool = record(lambda: SwapPool(backend.name, SwapPoolArgs(config=stack_config(values), backend=backend)))
    static = stack_config(values).pinned[0].model_copy(update={"role": backend.role})
    as_static = record(
        lambda: StaticBackend(static.name, StaticBackendArgs(config=stack_config(values), backend=static))
    )
    for kind in kept:
        assert [(it.type, it.name) for it in as_pool.all(kind)] == [(it.type, it.name) for it in as_static.all(kind)]


def test_a_removed_backend_may_drain_before_pulumi_gives_up(config: StackConfig) -> None:
    (deployment,) = build(config).all("Deployment")
    drain = deployment.inputs["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert int(deployment.stated["timeouts"]["delete"].rstrip("s")) > drain


def test_liveness_waits_for_a_startup_that_may_take_all_of_startup_seconds(config: StackConfig) -> None:
    probes = server(build(config))
    startup = probes["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
    assert probes["livenessProbe"]["timeoutSeconds"] >= 5


def test_the_server_drains_within_its_grace_period(config: StackConfig) -> None:
    recorder = build(config)
    command = ["sh", "/server/drain.sh", "llama-server", "8080"]
    assert server(recorder)["lifecycle"]["preStop"]["exec"]["command"] == command
    assert pod(recorder)["terminationGracePeriodSeconds"] == 120


def test_the_server_is_the_images_entrypoint_with_arguments_only(config: StackConfig) -> None:
    container = server(build(config))
    assert "command" not in container
    assert container["args"][container["args"].index("--model") + 1] == "/models/weights/model.gguf"


def test_the_hub_token_reaches_fetch_and_link_by_reference_and_the_server_not_at_all(config: StackConfig) -> None:
    recorder = build(config)
    (fetch,) = recorder.one("Job")["spec"]["template"]["spec"]["containers"]
    (link,) = pod(recorder)["initContainers"]
    reference = {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token"}}}
    assert fetch["env"] == link["env"] == [reference]
    assert "HF_TOKEN" not in json.dumps(server(recorder))


def test_device_file_groups_are_the_pods(config: StackConfig) -> None:
    assert pod(build(config))["securityContext"]["supplementalGroups"] == [44, 109]


def test_every_pod_satisfies_the_restricted_profile(config: StackConfig) -> None:
    recorder = build(config)
    for spec in (pod(recorder), recorder.one("Job")["spec"]["template"]["spec"]):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["readOnlyRootFilesystem"] is True
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert "hostPort" not in json.dumps(container)
        assert all(
            set(volume) <= {"name", "configMap", "emptyDir", "persistentVolumeClaim"} for volume in spec["volumes"]
        )


def test_the_service_has_the_name_that_the_runbook_gives(config: StackConfig) -> None:
    service = build(config).one("Service")
    assert service["metadata"]["name"] == "llama-static-a"
    assert service["spec"]["selector"] == {"app.kubernetes.io/name": "llama-static-a"}


def test_a_backend_without_a_gpu_asks_for_none(values: dict[str, Any]) -> None:
    values["statics"][1]["gpu"] = {"resource": "none"}
    resources = server(build(stack_config(values), 1))["resources"]
    assert set(resources["limits"]) == {"memory"}
    assert set(resources["requests"]) == {"cpu", "memory"}


def test_another_vendors_gpu_comes_with_its_image_and_runtime_class(values: dict[str, Any]) -> None:
    values["statics"][1] |= {
        "image": "ghcr.io/ggml-org/llama.cpp:server-cuda-b1",
        "gpu": {"resource": "nvidia.com/gpu", "runtime_class": "nvidia", "supplemental_groups": []},
    }
    recorder = build(stack_config(values), 1)
    assert server(recorder)["image"] == "ghcr.io/ggml-org/llama.cpp:server-cuda-b1"
    assert server(recorder)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert pod(recorder)["runtimeClassName"] == "nvidia"
    assert "runtimeClassName" not in recorder.one("Job")["spec"]["template"]["spec"]


def test_tolerations_and_pull_secrets_are_the_pods_and_the_prefetch_jobs(values: dict[str, Any]) -> None:
    values |= {"tolerations": [{"key": "gpu", "effect": "NoSchedule"}], "pull_secrets": ["mirror"]}
    recorder = build(stack_config(values))
    for spec in (pod(recorder), recorder.one("Job")["spec"]["template"]["spec"]):
        assert spec["tolerations"] == [{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]
        assert spec["imagePullSecrets"] == [{"name": "mirror"}]


@pytest.mark.parametrize("index", [0, 1])
def test_memory_is_a_limit_and_a_backends_own_value_beats_the_default(config: StackConfig, index: int) -> None:
    resources = server(build(config, index))["resources"]
    memory = ["16Gi", "24Gi"][index]
    assert resources["requests"]["memory"] == resources["limits"]["memory"] == memory
    assert "cpu" not in resources["limits"]
