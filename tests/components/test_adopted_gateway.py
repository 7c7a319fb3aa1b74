"""What becomes of a gateway that runs already."""

import json
import runpy
from typing import Any

import pulumi
import pytest
from pulumi.runtime import rpc

from components.adopted_gateway import DRAINS, AdoptedGateway
from components.gateway_routes import GatewayRoutesArgs
from config import program
from config.model import StackConfig
from render.budget import longest_request
from render.litellm import gateway_routes, gateway_text
from tests.components.adopted import LITELLM, adopting, litellm_container, live_gateway
from tests.components.manifests import ROOT
from tests.components.recorder import Recorder, Registered, record

HOOK = [
    {"name": "PYTHONPATH", "value": "/llama-chat"},
    {"name": "LITELLM_WORKER_STARTUP_HOOKS", "value": "llama_chat_connections:watch"},
]
LEGACY_KEY = {"name": "LEGACY_KEY_1", "valueFrom": {"secretKeyRef": {"name": "legacy-keys", "key": "LEGACY_KEY_1"}}}
OUTSIDE_PARALLEL = ["test", "cutover", "frontend", "done"]


def gateway(config: StackConfig, key_version: str = "") -> Recorder:
    version = pulumi.Output.from_input(key_version) if key_version else None
    return record(lambda: AdoptedGateway("gateway", GatewayRoutesArgs(config=config, key_version=version)))


def one(recorder: Recorder, kind: str, name: str) -> Registered:
    (found,) = recorder.all(kind, name)
    return found


def smoke_job(recorder: Recorder) -> dict[str, Any]:
    spec = recorder.one("Job", "smoke")["spec"]
    mark = rpc._special_sig_key  # pyright: ignore[reportPrivateUsage] - how a secret looks on its way to the state
    assert mark in spec
    return spec["value"]


def candidate(recorder: Recorder) -> dict[str, Any]:
    return smoke_job(recorder)["template"]["spec"]


def patched(config: StackConfig) -> dict[str, Any]:
    return gateway(config).one("DeploymentPatch", "gateway-deployment")["spec"]


def server(spec: dict[str, Any]) -> dict[str, Any]:
    proxy, container = spec["template"]["spec"]["containers"]
    assert proxy == {"name": "proxy"}
    return container


def plan(recorder: Recorder) -> dict[str, Any]:
    return json.loads(recorder.one("ConfigMap", "drain")["data"]["handover.json"])


def rolled(recorder: Recorder) -> str:
    """The Job that waits until the patched Deployment stands."""
    waiting = one(recorder, "Job", "llm-gateway-rollout")
    assert "gateway-deployment" in waiting.after
    return waiting.name


def test_candidate_then_routes_then_handover_then_deployment() -> None:
    recorder = gateway(adopting("test"))
    smoke, drain = one(recorder, "Job", "smoke"), one(recorder, "Job", "drain")
    routes = one(recorder, "ConfigMapPatch", "gateway-routes")
    assert routes.after == [smoke.name]
    assert routes.name in drain.after
    assert one(recorder, "DeploymentPatch", "gateway-deployment").after == sorted([routes.name, drain.name])


def test_the_handovers_token_lasts_as_long_as_the_handover_may() -> None:
    spec = gateway(adopting("test")).one("Job", "drain")["spec"]
    (account,) = [it for it in spec["template"]["spec"]["volumes"] if it["name"] == "account"]
    lasting = account["projected"]["sources"][0]["serviceAccountToken"]["expirationSeconds"]
    assert lasting == spec["activeDeadlineSeconds"] > 3600


def test_on_the_way_back_to_what_was_adopted_the_candidate_comes_last() -> None:
    recorder = gateway(adopting("parallel"))
    assert rolled(recorder) in one(recorder, "Job", "smoke").after
    (waited_for,) = one(recorder, "ConfigMapPatch", "gateway-routes").after
    assert waited_for.startswith("llm-gateway-legacy-")


def test_at_first_the_pods_have_the_new_variables_before_the_document_refers_to_them() -> None:
    args = GatewayRoutesArgs(config=adopting("parallel"), first=True)
    recorder = record(lambda: AdoptedGateway("gateway", args))
    smoke, drain = one(recorder, "Job", "smoke"), one(recorder, "Job", "drain")
    assert smoke.name in drain.after
    assert one(recorder, "DeploymentPatch", "gateway-deployment").after == sorted([smoke.name, drain.name])
    assert one(recorder, "ConfigMapPatch", "gateway-routes").after == [rolled(recorder)]


@pytest.mark.parametrize("phase", ["parallel", *OUTSIDE_PARALLEL])
def test_each_phases_document_goes_to_the_live_key_and_before_that_to_the_candidate(phase: str) -> None:
    config = adopting(phase)
    recorder = gateway(config)
    live = recorder.one("ConfigMapPatch", "gateway-routes")
    assert live["metadata"]["name"] == "litellm-config"
    assert live["data"] == {"config.yaml": gateway_text(config)}
    tried = recorder.one("ConfigMap", "litellm-config")
    assert (tried["data"], tried["immutable"]) == (live["data"], True)
    assert (live["data"]["config.yaml"] == LITELLM) == (phase == "parallel")


def test_every_route_of_the_phase_is_asked() -> None:
    config = adopting("cutover")
    asked = json.loads(gateway(config).one("ConfigMap", "smoke")["data"]["smoke.json"])
    assert {it["name"]: it["api_base"] for it in asked["models"]} == {
        it.name: it.api_base for it in gateway_routes(config)
    }
    assert asked["url"] == "http://127.0.0.1:8000"


def test_the_test_has_time_for_every_route() -> None:
    recorder = gateway(adopting("test"))
    asked = json.loads(recorder.one("ConfigMap", "smoke")["data"]["smoke.json"])["models"]
    deadline = smoke_job(recorder)["activeDeadlineSeconds"]
    assert deadline > sum(it["deadline_seconds"] for it in asked)


@pytest.mark.parametrize("phase", ["parallel", *OUTSIDE_PARALLEL])
def test_patches_outlive_the_stack_and_are_protected_outside_parallel(phase: str) -> None:
    recorder = gateway(adopting(phase))
    patches = [one(recorder, "ConfigMapPatch", "routes"), one(recorder, "DeploymentPatch", "gateway-deployment")]
    for it in patches:
        assert it.stated["retain_on_delete"] is True
        assert it.stated.get("protect", False) == (phase != "parallel")
        assert it.inputs["metadata"]["annotations"] == {
            "pulumi.com/patchFieldManager": "llama-chat",
            "pulumi.com/patchForce": "true",
        }


def test_what_the_live_objects_hold_is_encrypted_in_the_state() -> None:
    recorder = gateway(adopting())
    hidden = {
        it.type.rsplit(":", 1)[1]: set(it.options.additional_secret_outputs or ())
        for it in (one(recorder, "ConfigMapPatch", "routes"), one(recorder, "DeploymentPatch", "gateway-deployment"))
    }
    assert hidden == {"ConfigMapPatch": {"metadata", "data", "binary_data"}, "DeploymentPatch": {"metadata", "spec"}}


def test_the_deployment_never_has_fewer_pods_while_they_change() -> None:
    spec = patched(adopting())
    assert spec["replicas"] == 2
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": "100%"}}
    # what a handover holds for a while is back as it was
    assert spec["progressDeadlineSeconds"] == 900
    assert "minReadySeconds" not in spec


def test_the_longest_request_ends_before_the_adopted_pod_does() -> None:
    spec = patched(adopting())
    env = {it["name"]: it.get("value") for it in server(spec)["env"]}
    grace = spec["template"]["spec"]["terminationGracePeriodSeconds"]
    assert longest_request(adopting()) <= int(env["GRACEFUL_SHUTDOWN_TIMEOUT"]) < grace - 8
    stop = ["sh", "-c", "touch /dev/shm/llama-chat-ends; exec sleep 8"]
    assert server(spec)["lifecycle"] == {"preStop": {"exec": {"command": stop}}}


def test_only_what_is_ours_of_the_container_is_stated() -> None:
    config = adopting()
    stated = server(patched(config))
    assert set(stated) == {"name", "env", "lifecycle", "readinessProbe", "volumeMounts"}
    assert stated["name"] == "litellm"
    assert stated["env"] == [
        # in the live order, in which Pulumi compares them
        {"name": "LITELLM_MASTER_KEY"},
        {"name": "OLD"},
        {"name": "GRACEFUL_SHUTDOWN_TIMEOUT", "value": str(longest_request(config))},
        {"name": "KEEPALIVE_TIMEOUT", "value": "75"},
        LEGACY_KEY,
        *HOOK,
    ]
    assert stated["readinessProbe"]["httpGet"] == {"path": "/health/readiness", "port": 8000, "scheme": "HTTP"}


def test_the_adopted_pods_have_our_script_beside_their_own_volumes_and_it_outlives_the_stack() -> None:
    recorder = gateway(adopting())
    spec = recorder.one("DeploymentPatch", "gateway-deployment")["spec"]
    script = one(recorder, "ConfigMap", "gateway-connections")
    # what is left to a default would be taken for the adopted pods' own
    ours = {"name": "llama-chat", "configMap": {"name": script.name, "defaultMode": 420}}
    # in the live order too
    assert spec["template"]["spec"]["volumes"] == [{"name": "config"}, {"name": "cache"}, {"name": "tmp"}, ours]
    assert server(spec)["volumeMounts"] == [
        {"name": "config", "mountPath": "/app/config.yaml"},
        {"name": "cache", "mountPath": "/cache"},
        {"name": "llama-chat", "mountPath": "/llama-chat"},
    ]
    assert set(script.inputs["data"]) == {"llama_chat_connections.py"}
    assert script.stated["retain_on_delete"] is True
    for kind in ("smoke", "drain"):
        assert script.name in one(recorder, "Job", kind).after


def test_a_gateway_may_go_without_our_hook() -> None:
    config = adopting()
    without = config.gateway.model_copy(update={"close_connections": False})
    config = config.model_copy(update={"gateway": without}).with_adopted(config.adopted)
    assert not {it["name"] for it in server(patched(config))["env"]} & {it["name"] for it in HOOK}


def test_a_hook_a_probe_and_a_longer_grace_period_of_its_own_stay() -> None:
    live = live_gateway()
    live["spec"]["minReadySeconds"] = 5
    live["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 14400
    own: dict[str, Any] = {"lifecycle": {"preStop": {"httpGet": {"port": 1}}}, "readinessProbe": {"exec": {}}}
    litellm_container(live).update(own)
    spec = patched(adopting(gateway=live))
    assert set(server(spec)) == {"name", "env", "volumeMounts"}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 14400
    assert spec["minReadySeconds"] == 5


def test_the_pods_change_with_the_document_and_only_then() -> None:
    def mark(config: StackConfig) -> str:
        return patched(config)["template"]["metadata"]["annotations"][DRAINS]

    assert mark(adopting("parallel")) == mark(adopting("parallel"))
    assert mark(adopting("test")) not in {mark(adopting("parallel")), mark(adopting("cutover"))}


def test_a_new_master_key_in_the_stack_rolls_the_adopted_gateway() -> None:
    spec = gateway(adopting(), "7").one("DeploymentPatch", "gateway-deployment")["spec"]
    assert spec["template"]["metadata"]["annotations"]["llama-chat/master-key-version"] == "7"


def test_the_handover_applies_what_pulumi_will_patch() -> None:
    recorder = gateway(adopting("test"))
    made = plan(recorder)
    assert made["patch"] == recorder.one("DeploymentPatch", "gateway-deployment")["spec"]
    assert made["patch"]["template"]["metadata"]["annotations"][made["mark"]]
    patch = recorder.one("DeploymentPatch", "gateway-deployment")["metadata"]
    assert (made["namespace"], made["deployment"]) == (patch["namespace"], patch["name"])
    assert made["manager"] == patch["annotations"]["pulumi.com/patchFieldManager"]
    assert made["port"] == 8000
    # what may come after the last answer under way comes to pods that have the hook alone
    assert (
        made["drain_seconds"] == (made["patch"]["template"]["spec"]["terminationGracePeriodSeconds"] - 16 - 16) / 2 + 16
    )


def test_the_handover_has_time_for_the_start_and_the_longest_answers() -> None:
    recorder = gateway(adopting())
    made = plan(recorder)
    deadline = recorder.one("Job", "drain")["spec"]["activeDeadlineSeconds"]
    parts = ("start_seconds", "settle_seconds", "patience_seconds", "drain_seconds")
    assert deadline > sum(made[part] for part in parts)


def test_the_handover_may_touch_pods_and_replica_sets_and_this_one_deployment() -> None:
    recorder = gateway(adopting())
    assert recorder.one("Role", "drain")["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "patch", "delete"]},
        {"apiGroups": [""], "resources": ["services"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "delete"]},
        {
            "apiGroups": ["apps"],
            "resources": ["deployments"],
            "resourceNames": ["llm-gateway"],
            "verbs": ["get", "patch"],
        },
    ]
    spec = recorder.one("Job", "drain")["spec"]["template"]["spec"]
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("llm-gateway-drain", False)
    assert set(recorder.one("ConfigMap", "drain")["data"]) == {
        "handover.json",
        "handover.py",
        "handover_pods.py",
        "cluster_objects.py",
        "smoke_client.py",
        "smoke_pods.py",
    }


def test_a_jobs_name_is_one_that_its_pods_can_have() -> None:
    config = adopting()
    longest = config.gateway.model_copy(update={"deployment": "g" * 46})
    recorder = gateway(config.model_copy(update={"gateway": longest}).with_adopted(config.adopted))
    jobs = [it.inputs["metadata"]["name"] for it in recorder.all("Job")]
    assert len(set(jobs)) == 4
    assert max(map(len, jobs)) <= 63


def test_the_candidate_is_the_adopted_pod_and_nobodys_server() -> None:
    spec = candidate(gateway(adopting()))
    prepare, proxy, litellm = spec["initContainers"]
    assert [it["name"] for it in (prepare, proxy, litellm)] == ["prepare", "proxy", "litellm"]
    assert "restartPolicy" not in prepare
    assert (proxy["restartPolicy"], litellm["restartPolicy"]) == ("Always", "Always")
    live = litellm_container(live_gateway())
    assert {key: litellm[key] for key in ("image", "args", "envFrom")} == {
        key: live[key] for key in ("image", "args", "envFrom")
    }
    assert not {"livenessProbe", "readinessProbe", "ports", "lifecycle"} & {*litellm, *proxy}
    assert litellm["env"] == [*live["env"], LEGACY_KEY, *HOOK]
    assert litellm["volumeMounts"][-1] == {"name": "live-llama-chat", "mountPath": "/llama-chat"}


def volumes(recorder: Recorder) -> dict[str, Any]:
    return {it.pop("name"): it for it in candidate(recorder)["volumes"]}


def test_the_candidate_reads_the_new_document_in_the_place_of_the_live_one() -> None:
    recorder = gateway(adopting())
    new = recorder.one("ConfigMap", "litellm-config")["metadata"]["name"]
    assert volumes(recorder)["live-config"] == {
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"configMap": {"name": "litellm-config"}},
                {"configMap": {"name": new, "items": [{"key": "config.yaml", "path": "config.yaml"}]}},
            ],
        }
    }
    litellm = candidate(recorder)["initContainers"][-1]
    assert litellm["volumeMounts"][0] == {
        "name": "live-config",
        "mountPath": "/app/config.yaml",
        "subPath": "config.yaml",
    }


def test_one_key_under_another_path_and_a_projected_volume_are_exchanged_as_well() -> None:
    live = live_gateway()
    items = [{"key": "config.yaml", "path": "proxy.yaml"}, {"key": "hooks.py", "path": "hooks.py"}]
    token = {"serviceAccountToken": {"path": "token"}}
    source = {"configMap": {"name": "litellm-config", "items": items}}
    live["spec"]["template"]["spec"]["volumes"][0] = {"name": "config", "projected": {"sources": [token, source]}}
    recorder = gateway(adopting(gateway=live))
    new = recorder.one("ConfigMap", "litellm-config")["metadata"]["name"]
    assert volumes(recorder)["live-config"]["projected"]["sources"] == [
        token,
        {"configMap": {"name": "litellm-config", "items": items[1:]}},
        {"configMap": {"name": new, "items": items[:1]}},
    ]


def test_the_candidate_writes_to_nothing_of_the_live_pods() -> None:
    found = volumes(gateway(adopting()))
    assert found["live-cache"] == {"emptyDir": {}}
    assert found["live-tmp"] == {"emptyDir": {}}
    assert "tmp" in found  # the test's own


def test_the_candidate_runs_where_and_as_whom_the_live_pods_do_and_the_test_as_nobody() -> None:
    spec = candidate(gateway(adopting()))
    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert set(spec["affinity"]) == {"nodeAffinity"}
    assert spec["imagePullSecrets"] == [{"name": "ghcr"}]
    assert spec["securityContext"] == {"fsGroup": 999}
    (smoke,) = spec["containers"]
    assert smoke["securityContext"]["runAsUser"] == 10001
    assert smoke["securityContext"]["runAsNonRoot"] is True
    assert smoke["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # one pod has one account: the test's, and no other container can use it
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("llm-gateway-smoke", False)


def test_a_config_map_that_the_adopted_pods_do_not_mount_is_refused_by_name() -> None:
    live = live_gateway()
    live["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] = "other"
    told = r"llama-chat:gateway.config_map: litellm-config: no container .* mounts it \(proxy, litellm\): name the"
    with pytest.raises(pulumi.RunError, match=told):
        gateway(adopting(gateway=live))


@pytest.mark.parametrize("flag", ["--run_gunicorn", "--run_hypercorn"])
def test_a_server_that_cuts_answers_is_warned_of(flag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pulumi, "warn", said.append)
    live = live_gateway()
    gateway(adopting(gateway=live))
    assert said == []
    litellm_container(live)["args"].append(flag)
    gateway(adopting(gateway=live))
    assert len(said) == 1
    assert flag in said[0]


def test_a_value_in_plain_of_the_adopted_pod_is_in_its_copy_alone_encrypted_in_the_state() -> None:
    recorder = gateway(adopting())
    holders = [it.name for it in recorder.registered if "sk-env-canary" in json.dumps(it.inputs, default=str)]
    assert holders == [one(recorder, "Job", "smoke").name]


def test_the_program_adopts_and_makes_no_gateway_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_pulumi() -> StackConfig:
        return adopting("cutover")

    monkeypatch.setattr(program, "load_pulumi", load_pulumi)
    reached = {"phase": "test", "phase_since": "2026-11-24T10:00:00Z"}
    recorder = record(lambda: runpy.run_path(str(ROOT / "__main__.py")), reached)
    deployed = {it.inputs["metadata"]["name"] for it in recorder.all("Deployment")}
    assert deployed == {"llama-static-a", "llama-static-b", "llama-swap"}
    assert not [it for it in recorder.all("Service") if it.inputs["metadata"]["name"] == "llm-gateway"]
    assert one(recorder, "ConfigMapPatch", "frontend").after == [rolled(recorder)]
    smoke = one(recorder, "Job", "llm-gateway-smoke").after
    assert [name for name in smoke if name.startswith("llama-s")]
