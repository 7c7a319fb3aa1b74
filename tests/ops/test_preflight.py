"""What a stack names must be in the cluster, or nothing is changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from config.errors import ConfigError, UserError
from ops.kube import Kube
from ops.preflight import preflight
from tests.conftest import stack_config

pytestmark = pytest.mark.usefixtures("kubeconfig")
CLUSTER: dict[str, Any] = {
    "nodes": {
        "gpu-node-1": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
        "gpu-node-2": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
        "gpu-node-3": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
    },
    "storageclasses": {"local-path": {}},
    "namespaces": {"ai": {}},
    "secrets": {"litellm": ["master-key"], "hf-token": ["token"]},
    "deployments": {},
    "services": {},
    "configmaps": {},
    "customresourcedefinitions": {},
}


@dataclass(frozen=True, kw_only=True)
class StubKube(Kube):
    """A cluster of plain data, asked the way preflight asks a real one."""

    cluster: Mapping[str, Any]
    complaint: str | None

    def fails(self, *arguments: str) -> str | None:
        assert arguments == ("get", "--raw", "/version")
        return self.complaint

    def items(self, kind: str) -> dict[str, Any]:
        return self.cluster[kind]

    def secret_keys(self, name: str) -> list[str] | None:
        return self.cluster["secrets"].get(name)

    def labels(self, kind: str) -> dict[str, dict[str, str]]:
        return self.cluster[kind]


def stub(cluster: Mapping[str, Any], complaint: str | None = None) -> StubKube:
    return StubKube(context="homelab", namespace="ai", cluster=cluster, complaint=complaint)


def refused(values: dict[str, Any], **changed: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        preflight(stack_config(values), stub({**CLUSTER, **changed}), "prod")
    return [(problem.key, problem.value) for problem in caught.value.problems]


def test_a_cluster_that_has_all_is_let_pass(values: dict[str, Any]) -> None:
    preflight(stack_config(values), stub(CLUSTER), "prod")


def test_all_that_is_missing_is_told_at_once(values: dict[str, Any]) -> None:
    assert refused(values, nodes={}, storageclasses={}, namespaces={}, secrets={}) == [
        ("llama-chat:nodes.static-a", "gpu-node-1"),
        ("llama-chat:nodes.static-b", "gpu-node-2"),
        ("llama-chat:nodes.swap", "gpu-node-3"),
        ("llama-chat:storage.class_name", "local-path"),
        ("llama-chat:cluster.namespace", "ai"),
        ("llama-chat:gateway.master_key_secret.name", "litellm"),
        ("llama-chat:hub.token_secret.name", "hf-token"),
    ]


def test_a_node_without_a_gpu_is_told(values: dict[str, Any]) -> None:
    nodes = {**CLUSTER["nodes"], "gpu-node-2": {"status": {"allocatable": {"cpu": "8"}}}}
    assert refused(values, nodes=nodes) == [("llama-chat:nodes.static-b", "gpu-node-2")]


def test_a_node_without_a_gpu_will_do_for_a_backend_without_one(values: dict[str, Any]) -> None:
    values["statics"][1]["gpu"] = {"resource": "none"}
    nodes = {**CLUSTER["nodes"], "gpu-node-2": {"status": {"allocatable": {"cpu": "8"}}}}
    preflight(stack_config(values), stub({**CLUSTER, "nodes": nodes}), "prod")


def tainted(**taint: str) -> dict[str, Any]:
    return {**CLUSTER["nodes"], "gpu-node-2": {**CLUSTER["nodes"]["gpu-node-2"], "spec": {"taints": [taint]}}}


@pytest.mark.parametrize(
    ("toleration", "let_in"),
    [
        (None, False),
        ({"key": "gpu"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "yes"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "no"}, False),
        ({"key": "gpu", "effect": "NoExecute"}, False),
        ({"key": "other"}, False),
    ],
)
def test_a_taint_that_no_toleration_meets_is_told(
    values: dict[str, Any], toleration: dict[str, str] | None, *, let_in: bool
) -> None:
    values["tolerations"] = [toleration] if toleration else []
    nodes = tainted(key="gpu", value="yes", effect="NoSchedule")
    if let_in:
        preflight(stack_config(values), stub({**CLUSTER, "nodes": nodes}), "prod")
    else:
        assert refused(values, nodes=nodes) == [("llama-chat:nodes.static-b", "gpu-node-2")]


@pytest.mark.parametrize(
    ("key", "effect"), [("gpu", "PreferNoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule")]
)
def test_a_taint_that_prefers_others_or_passes_is_no_reason_to_stop(
    values: dict[str, Any], key: str, effect: str
) -> None:
    nodes = tainted(key=key, effect=effect)
    preflight(stack_config(values), stub({**CLUSTER, "nodes": nodes}), "prod")


def test_a_secret_to_be_made_by_an_operator_that_is_not_there_is_told(values: dict[str, Any]) -> None:
    values["hub"]["token_secret"]["external"] = {"store": "vault", "remote_key": "ai/hub"}
    secrets = {"litellm": ["master-key"]}
    assert refused(values, secrets=secrets) == [("llama-chat:hub.token_secret.external.store", "vault")]
    there: dict[str, Any] = {
        **CLUSTER,
        "secrets": secrets,
        "customresourcedefinitions": {"externalsecrets.external-secrets.io": {}},
    }
    preflight(stack_config(values), stub(there), "prod")


def test_a_pull_secret_that_is_not_there_is_told(values: dict[str, Any]) -> None:
    values["statics"][0]["pull_secrets"] = ["mirror"]
    assert refused(values) == [("llama-chat:pull_secrets", "mirror")]


def test_a_config_map_of_somebody_elses_librechat_is_not_taken_over(values: dict[str, Any]) -> None:
    assert refused(values, configmaps={"librechat-config": {}}) == [
        ("llama-chat:frontend.config_map", "librechat-config")
    ]


def test_a_secret_without_the_key_is_told(values: dict[str, Any]) -> None:
    secrets = {**CLUSTER["secrets"], "litellm": ["other"]}
    assert refused(values, secrets=secrets) == [("llama-chat:gateway.master_key_secret.key", "master-key")]


@pytest.mark.parametrize("labels", [{"app": "llm-gateway"}, {"app.kubernetes.io/instance": "staging"}])
def test_objects_of_somebody_elses_are_not_taken_over(values: dict[str, Any], labels: dict[str, str]) -> None:
    standing = {"llm-gateway": labels, "llama-static-b": labels, "unrelated": labels}
    assert refused(values, deployments=standing) == [
        ("llama-chat:gateway.deployment", "llm-gateway"),
        ("llama-chat:statics[].role", "llama-static-b"),
    ]


def test_a_master_keys_secret_of_somebody_elses_is_not_taken_over(values: dict[str, Any]) -> None:
    values["master_key"] = {"secure": "v1:ciphertext"}
    with pytest.raises(ConfigError, match="one of the secrets has that name already"):
        preflight(stack_config(values), stub({**CLUSTER, "secrets": {"litellm": {}, "hf-token": ["token"]}}), "prod")


def test_the_stacks_own_objects_are_no_strangers(values: dict[str, Any]) -> None:
    ours = {"llm-gateway": {"app.kubernetes.io/instance": "prod"}}
    preflight(stack_config(values), stub({**CLUSTER, "deployments": ours, "services": ours}), "prod")


def test_an_unknown_context_is_told_with_the_known_ones(values: dict[str, Any]) -> None:
    values["cluster"]["context"] = "homelba"
    with pytest.raises(
        ConfigError, match=r"llama-chat:cluster\.context: homelba: .* it has homelab, llama-chat-local, homelab-prod"
    ):
        preflight(stack_config(values), stub(CLUSTER), "prod")


def test_a_dead_api_server_is_told_in_one_line(values: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="does not answer") as caught:
        preflight(stack_config(values), stub(CLUSTER, complaint="connection refused"), "prod")
    assert len(str(caught.value).splitlines()) == 1
