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
from components.smoke_test import SmokeTest, backend_test, gateway_test
from components.static_backend import StaticBackend, StaticBackendArgs
from config.errors import ConfigError
from config.model import StackConfig
from tests.components.recorder import Recorder, record
from tests.conftest import stack_config


def gateway(config: StackConfig) -> Recorder:
    def build() -> None:
        standing = GatewayRoutes("gateway", GatewayRoutesArgs(config=config))
        SmokeTest("llm-gateway-smoke", gateway_test(config, standing))

    return record(build)


def backend_smoke(config: StackConfig, index: int) -> Recorder:
    def build() -> None:
        backend = config.backends[index]
        standing = StaticBackend(backend.name, StaticBackendArgs(config=config, backend=backend))
        SmokeTest(f"{backend.name}-smoke", backend_test(config, backend, standing))

    return record(build)


def test_the_gateway_mounts_its_routes_by_content(config: StackConfig) -> None:
    recorder = gateway(config)
    routes = recorder.one("ConfigMap", "gateway-config")
    names = [route["model_name"] for route in yaml.safe_load(routes["data"]["config.yaml"])["model_list"]]
    assert names == ["GLM-4.7-Flash", "Qwen3-Coder-30B-A3B"]
    (volume,) = recorder.one("Deployment")["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == routes["metadata"]["name"]


def test_a_new_gateway_pod_is_ready_before_an_old_one_goes(config: StackConfig) -> None:
    strategy = gateway(config).one("Deployment")["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_the_longest_request_ends_before_the_gateway_pod_does(config: StackConfig) -> None:
    spec = gateway(config).one("Deployment")["spec"]["template"]["spec"]
    env = {it["name"]: it.get("value") for it in spec["containers"][0]["env"]}
    assert 120 <= int(env["GRACEFUL_SHUTDOWN_TIMEOUT"]) < spec["terminationGracePeriodSeconds"]


def test_probes_never_ask_the_route_that_calls_every_model(config: StackConfig) -> None:
    (container,) = gateway(config).one("Deployment")["spec"]["template"]["spec"]["containers"]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert paths == {"/health/liveliness", "/health/readiness"}


def test_the_master_key_is_named_and_never_held(config: StackConfig) -> None:
    recorder = gateway(config)
    reference = {"secretKeyRef": {"name": "litellm", "key": "master-key"}}
    for kind in ("Deployment", "Job"):
        (container,) = recorder.one(kind)["spec"]["template"]["spec"]["containers"]
        assert {"name": "LITELLM_MASTER_KEY", "valueFrom": reference} in container["env"]
    assert not recorder.all("Secret")


def test_the_gateways_smoke_test_expects_each_name_from_its_backend(config: StackConfig) -> None:
    files = gateway(config).one("ConfigMap", "smoke")
    assert json.loads(files["data"]["smoke.json"])["routes"] == {
        "GLM-4.7-Flash": "http://llama-static-a.ai.svc.cluster.local:8080/v1",
        "Qwen3-Coder-30B-A3B": "http://llama-static-b.ai.svc.cluster.local:8080/v1",
    }


def test_a_backends_smoke_test_runs_again_when_that_backend_changes_and_only_then(values: dict[str, Any]) -> None:
    before = [backend_smoke(stack_config(values), index).one("Job", "smoke")["metadata"]["name"] for index in (0, 1)]
    values["statics"][0]["runtime"] = {"threads": 3}
    after = [backend_smoke(stack_config(values), index).one("Job", "smoke")["metadata"]["name"] for index in (0, 1)]
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_a_smoke_test_takes_only_pods_of_the_content_that_was_just_deployed(config: StackConfig) -> None:
    for recorder, kind in ((backend_smoke(config, 0), "smoke-files"), (gateway(config), "smoke-files")):
        labels = recorder.one("Deployment")["spec"]["template"]["metadata"]["labels"]
        expected = json.loads(recorder.one("ConfigMap", kind)["data"]["smoke.json"])["pods"]
        assert expected["content"] == labels["llama-chat/content"]
        assert expected["selector"] == f"app.kubernetes.io/name={labels['app.kubernetes.io/name']}"


def test_a_smoke_test_may_read_pods_and_their_logs_and_nothing_else(config: StackConfig) -> None:
    recorder = backend_smoke(config, 0)
    assert recorder.one("Role")["rules"] == [
        {"apiGroups": [""], "resources": ["pods", "pods/log"], "verbs": ["get", "list"]}
    ]
    assert recorder.one("Job", "smoke")["spec"]["template"]["spec"]["serviceAccountName"] == "llama-static-a-smoke"
    for kind in ("Deployment", "Job"):
        pods = [it.inputs["spec"]["template"]["spec"] for it in recorder.all(kind) if "smoke" not in it.name]
        assert [pod["automountServiceAccountToken"] for pod in pods] == [False]


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


def test_a_role_is_a_label_under_our_own_field_manager_on_a_node_that_was_read(config: StackConfig) -> None:
    recorder = record(lambda: NodeRoles("nodes", NodeRolesArgs(nodes=config.nodes)))
    patch = recorder.one("NodePatch", "static-a")["metadata"]
    assert patch["labels"] == {"ai.llm.role": "static-a"}
    assert patch["annotations"] == {
        "pulumi.com/patchFieldManager": "llama-chat-static-a",
        "pulumi.com/patchForce": "true",
    }
    assert {it.custom_id for it in recorder.all("Node")} == {"gpu-node-1", "gpu-node-2"}


def test_the_stack_makes_neither_namespace_nor_secret_unless_told(values: dict[str, Any]) -> None:
    assert not [
        it for it in record(lambda: Foundation("f", stack_config(values), None)).registered if "core/v1" in it.type
    ]
    values["cluster"]["create_namespace"] = True
    assert record(lambda: Foundation("f", stack_config(values), None)).one("Namespace")["metadata"]["name"] == "ai"


def test_a_config_map_past_the_api_servers_limit_is_refused_with_its_size() -> None:
    def build() -> None:
        data = {"catalog": "x" * (LIMIT_BYTES + 1)}
        config_map("c", name="catalog", namespace="ai", app="a", data=data, parent=None)  # pyright: ignore[reportArgumentType] - never reached

    with pytest.raises(ConfigError, match="at most 1048576 bytes"):
        record(build)
