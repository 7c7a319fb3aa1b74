"""The gateway, the smoke tests and the nodes' roles."""

import json
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import rpc

from components.cluster import Foundation
from components.content import LIMIT_BYTES, config_map
from components.gateway_routes import GatewayRoutes, GatewayRoutesArgs
from components.node_roles import NodeRoles, NodeRolesArgs
from components.smoke_test import SmokeTest, backend_test
from components.static_backend import StaticBackend, StaticBackendArgs
from config.model import StackConfig
from tests.components.recorder import Recorder, record
from tests.conftest import stack_config


def gateway(config: StackConfig) -> Recorder:
    return record(lambda: GatewayRoutes("gateway", GatewayRoutesArgs(config=config)))


def pod(recorder: Recorder, kind: str) -> dict[str, Any]:
    return recorder.one(kind)["spec"]["template"]["spec"]


def backend_smoke(config: StackConfig, index: int) -> Recorder:
    def build() -> None:
        backend = config.pinned[index]
        standing = StaticBackend(backend.name, StaticBackendArgs(config=config, backend=backend))
        SmokeTest(f"{backend.name}-smoke", backend_test(config, backend, standing))

    return record(build)


def test_the_gateway_mounts_its_routes_by_content(config: StackConfig) -> None:
    recorder = gateway(config)
    routes = recorder.one("ConfigMap", "litellm-config")
    names = [route["model_name"] for route in yaml.safe_load(routes["data"]["config.yaml"])["model_list"]]
    assert names == list(config.exposed_names)
    for kind in ("Deployment", "Job"):
        mounted = [volume["configMap"]["name"] for volume in pod(recorder, kind)["volumes"] if "configMap" in volume]
        assert routes["metadata"]["name"] in mounted


def test_the_gateway_is_never_below_full_strength(config: StackConfig) -> None:
    recorder = gateway(config)
    spec = recorder.one("Deployment")["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": "100%"}
    disruption = recorder.one("PodDisruptionBudget")["spec"]
    assert (disruption["maxUnavailable"], disruption["selector"]) == (1, spec["selector"])


def test_the_longest_request_ends_before_the_gateway_pod_does(config: StackConfig) -> None:
    spec = pod(gateway(config), "Deployment")
    env = {it["name"]: it.get("value") for it in spec["containers"][0]["env"]}
    routes = yaml.safe_load(gateway(config).one("ConfigMap", "litellm-config")["data"]["config.yaml"])["model_list"]
    longest = max(route["litellm_params"]["timeout"] for route in routes)
    assert longest == 110 + 240 + 110 + 110
    assert longest <= int(env["GRACEFUL_SHUTDOWN_TIMEOUT"])
    # and one that comes on the same connection before it lay idle
    assert spec["terminationGracePeriodSeconds"] == 2 * longest + 16 + 2 * 8


def test_a_candidate_of_the_same_content_is_asked_outside_the_service_before_the_routes_change(
    config: StackConfig,
) -> None:
    recorder = gateway(config)
    (candidate,) = pod(recorder, "Job")["initContainers"]
    (standing,) = pod(recorder, "Deployment")["containers"]
    assert candidate["restartPolicy"] == "Always"
    assert {key: candidate[key] for key in ("image", "args", "volumeMounts")} == {
        key: standing[key] for key in ("image", "args", "volumeMounts")
    }
    labels = recorder.one("Job")["spec"]["template"]["metadata"]["labels"]
    selected = recorder.one("Service")["spec"]["selector"]
    assert not selected.items() <= labels.items()
    (job,) = recorder.all("Job")
    assert job.name in recorder.all("Deployment")[0].after


def test_probes_never_ask_the_route_that_calls_every_model(config: StackConfig) -> None:
    (container,) = gateway(config).one("Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"/health/liveliness", "/health/readiness"}


def test_the_master_key_is_named_and_never_held(config: StackConfig) -> None:
    recorder = gateway(config)
    reference = {"secretKeyRef": {"name": "litellm", "key": "master-key"}}
    for spec in (pod(recorder, "Deployment"), pod(recorder, "Job")):
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert {"name": "LITELLM_MASTER_KEY", "valueFrom": reference} in container["env"]
    assert not recorder.all("Secret")


def test_the_gateways_smoke_test_expects_each_name_from_its_backend(config: StackConfig) -> None:
    record = json.loads(gateway(config).one("ConfigMap", "smoke")["data"]["smoke.json"])
    assert record["url"] == "http://127.0.0.1:4000"
    assert {model["name"]: model["api_base"] for model in record["models"]} == {
        "GLM-4.7-Flash": "http://llama-static-a.ai.svc.cluster.local:8080/v1",
        "Qwen3-Coder-30B-A3B": "http://llama-static-b.ai.svc.cluster.local:8080/v1",
        "Llama-3.1-70B-Instruct": "http://llama-swap.ai.svc.cluster.local:8080/v1",
        "DeepSeek-R1-Distill": "http://llama-swap.ai.svc.cluster.local:8080/v1",
    }


def test_a_knob_of_a_model_is_no_reason_to_ask_the_gateway_again(values: dict[str, Any]) -> None:
    before = gateway(stack_config(values))
    values["statics"][0]["runtime"] = {"threads": 3}
    values["pools"][0]["models"][0]["quant"] = "Q3_K_M"
    after = gateway(stack_config(values))
    # by name: what waits for nothing is registered in any order
    registered = [{(it.type, it.name): it.inputs for it in built.registered} for built in (before, after)]
    assert registered[0] == registered[1]


def test_a_backends_smoke_test_runs_again_when_that_backend_changes_and_only_then(values: dict[str, Any]) -> None:
    before = [backend_smoke(stack_config(values), index).one("Job", "smoke")["metadata"]["name"] for index in (0, 1)]
    values["statics"][0]["runtime"] = {"threads": 3}
    after = [backend_smoke(stack_config(values), index).one("Job", "smoke")["metadata"]["name"] for index in (0, 1)]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_smoke_test_takes_only_pods_of_the_content_that_was_just_deployed(config: StackConfig) -> None:
    recorder = backend_smoke(config, 0)
    labels = recorder.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    expected = json.loads(recorder.one("ConfigMap", "-smoke")["data"]["smoke.json"])["pods"]
    assert expected["content"] == labels["llama-chat/content"]
    assert expected["selector"] == f"app.kubernetes.io/name={labels['app.kubernetes.io/name']}"
    (container,) = pod(recorder, "Deployment")["containers"]
    assert expected["container"] == container["name"]


def test_a_smoke_test_may_read_pods_and_what_earlier_tests_found_and_nothing_else(config: StackConfig) -> None:
    recorder = backend_smoke(config, 0)
    assert recorder.one("Role")["rules"] == [
        {"apiGroups": [""], "resources": ["pods", "pods/log", "configmaps"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["get", "list"]},
    ]
    assert recorder.one("Job", "smoke")["spec"]["template"]["spec"]["serviceAccountName"] == "llama-static-a-smoke"


def test_no_container_but_the_smoke_script_has_a_service_account(config: StackConfig) -> None:
    for recorder in (backend_smoke(config, 0), gateway(config)):
        for it in (*recorder.all("Deployment"), *recorder.all("Job")):
            spec = it.inputs["spec"]["template"]["spec"]
            assert spec["automountServiceAccountToken"] is False
            holders = [
                container["name"]
                for container in [*spec.get("initContainers", []), *spec["containers"]]
                if any(mount["name"] == "account" for mount in container["volumeMounts"])
            ]
            assert holders == (["smoke"] if "smoke" in it.name else [])


def test_a_new_master_key_in_the_stack_rolls_the_gateway(values: dict[str, Any]) -> None:
    values["master_key"] = {"secure": "v1:ciphertext"}

    def annotations(version: str) -> dict[str, str]:
        def build() -> None:
            args = GatewayRoutesArgs(config=stack_config(values), key_version=pulumi.Output.from_input(version))
            GatewayRoutes("gateway", args)

        return record(build).one("Deployment")["spec"]["template"]["metadata"]["annotations"]

    assert annotations("1") == {"llama-chat/master-key-version": "1"}
    assert annotations("2") != annotations("1")


def test_an_encrypted_master_key_becomes_the_secret_that_the_gateway_names(values: dict[str, Any]) -> None:
    values["master_key"] = {"secure": "v1:ciphertext"}
    made = record(lambda: Foundation("f", stack_config(values), pulumi.Output.secret("sk-canary"))).one("Secret")
    assert made["metadata"]["name"] == "litellm"
    assert made["stringData"]["value"] == {"master-key": "sk-canary"}
    mark = rpc._special_sig_key  # pyright: ignore[reportPrivateUsage] - how a secret looks on its way to the state
    assert mark in made["stringData"]


def test_a_secret_that_the_operator_makes_is_asked_for_and_waited_for(values: dict[str, Any]) -> None:
    external = {"store": "vault", "store_kind": "SecretStore", "remote_key": "ai/hub", "remote_property": "token"}
    values["hub"]["token_secret"]["external"] = external
    made = record(lambda: Foundation("f", stack_config(values), None)).one("ExternalSecret")
    assert made["apiVersion"] == "external-secrets.io/v1"
    assert made["metadata"]["annotations"] == {"pulumi.com/waitFor": "condition=Ready"}
    assert made["spec"] == {
        "refreshInterval": "1h",
        "secretStoreRef": {"name": "vault", "kind": "SecretStore"},
        "target": {"name": "hf-token", "creationPolicy": "Orphan"},
        "data": [{"secretKey": "token", "remoteRef": {"key": "ai/hub", "property": "token"}}],
    }


def test_a_role_is_a_label_under_our_own_field_manager_on_a_node_that_was_read(config: StackConfig) -> None:
    recorder = record(lambda: NodeRoles("nodes", NodeRolesArgs(nodes=config.nodes)))
    patch = recorder.one("NodePatch", "static-a")["metadata"]
    assert patch["labels"] == {"ai.llm.role": "static-a"}
    assert patch["annotations"] == {
        "pulumi.com/patchFieldManager": "llama-chat-static-a",
        "pulumi.com/patchForce": "true",
    }
    assert {it.custom_id for it in recorder.all("Node")} == {"gpu-node-1", "gpu-node-2", "gpu-node-3"}


def test_the_stack_makes_neither_namespace_nor_secret_unless_told(values: dict[str, Any]) -> None:
    assert not [
        it for it in record(lambda: Foundation("f", stack_config(values), None)).registered if "core/v1" in it.type
    ]
    values["cluster"]["create_namespace"] = True
    assert record(lambda: Foundation("f", stack_config(values), None)).one("Namespace")["metadata"]["name"] == "ai"


def test_a_config_map_past_the_api_servers_limit_is_refused_with_its_size() -> None:
    def build() -> None:
        data = {"catalog": "x" * (LIMIT_BYTES + 1)}
        config_map("catalog", namespace="ai", app="a", data=data, parent=None)  # pyright: ignore[reportArgumentType] - never reached

    with pytest.raises(pulumi.RunError, match="at most 1048576 bytes"):
        record(build)
