"""What a stack names must be in the cluster, or nothing is changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.errors import ConfigError, UserError
from ops.kube import Kube
from ops.preflight import preflight
from tests.conftest import stack_config
from tests.locks import lock_of

pytestmark = pytest.mark.usefixtures("kubeconfig")
OURS = {"app.kubernetes.io/instance": "prod", "app.kubernetes.io/part-of": "llama-chat"}
EXTERNAL_SECRETS = "externalsecrets.external-secrets.io"
CLUSTER: dict[str, Any] = {
    "nodes": {
        "gpu-node-1": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
        "gpu-node-2": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
        "gpu-node-3": {"status": {"allocatable": {"amd.com/gpu": "1"}}},
    },
    "storageclasses": {"local-path": {}},
    "namespaces": {"ai": {}},
    "secrets": {"litellm": ["master-key"], "hf-token": ["token"]},
    "secret labels": {},
    "pods": [],
    "claims": [],
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

    def secret_labels(self, name: str) -> dict[str, str] | None:
        return self.cluster["secret labels"].get(name, {}) if name in self.cluster["secrets"] else None

    def labels(self, kind: str) -> dict[str, dict[str, str]]:
        return self.cluster[kind]

    def listed(self, kind: str, *options: str) -> list[dict[str, Any]]:
        if kind == "persistentvolumeclaims":
            return self.cluster["claims"]
        assert (kind, options[0]) == ("pods", "--all-namespaces")
        node = options[1].removeprefix("--field-selector=spec.nodeName=")
        return [pod for pod in self.cluster["pods"] if pod["spec"]["nodeName"] == node]


def stub(cluster: Mapping[str, Any], complaint: str | None = None) -> StubKube:
    return StubKube(context="homelab", namespace="ai", cluster=cluster, complaint=complaint)


def passes(values: dict[str, Any], **changed: object) -> None:
    preflight(stack_config(values), stub({**CLUSTER, **changed}), "prod")


def told(values: dict[str, Any], **changed: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        passes(values, **changed)
    return str(caught.value).splitlines()


def refused(values: dict[str, Any], **changed: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        passes(values, **changed)
    return [(problem.key, problem.value) for problem in caught.value.problems]


def test_a_cluster_that_has_all_is_let_pass(values: dict[str, Any]) -> None:
    passes(values)


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
    passes(values, nodes=nodes)


def pod(name: str, *, of: str | None = None, namespace: str = "ai", **limits: str) -> dict[str, Any]:
    """A pod on gpu-node-2 that has one GPU, or what it is given; `of` is its Deployment."""
    owner = {"kind": "ReplicaSet", "name": f"{of}-5d9c7b"}
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/name": "llama-static-b"},
            "ownerReferences": [owner] if of else [],
        },
        "spec": {
            "nodeName": "gpu-node-2",
            "containers": [{"resources": {"limits": {"memory": "16Gi", **(limits or {"amd.com/gpu": "1"})}}}],
        },
        "status": {"phase": "Running"},
    }


def with_gpus(count: int) -> dict[str, Any]:
    return {**CLUSTER["nodes"], "gpu-node-2": {"status": {"allocatable": {"amd.com/gpu": str(count)}}}}


def test_a_gpu_that_another_workload_has_is_told_with_the_pod_that_has_it(values: dict[str, Any]) -> None:
    vllm = pod("vllm-0", namespace="vllm")
    (line,) = told(values, pods=[vllm, pod("daemon", cpu="1")])
    assert line == (
        "llama-chat:nodes.static-b: gpu-node-2: of 1 amd.com/gpu 0 are free, 1 wanted: "
        "stop vllm/vllm-0, or name another node"
    )


def test_a_backends_own_pods_go_before_the_next_one_and_do_not_count(values: dict[str, Any]) -> None:
    standing = pod("llama-static-b-5d9c7b-x", of="llama-static-b")
    passes(values, pods=[standing], deployments={"llama-static-b": OURS})


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_what_has_ended_or_asks_for_something_else_has_no_gpu(values: dict[str, Any], phase: str) -> None:
    ended = pod("job", namespace="vllm")
    ended["status"]["phase"] = phase
    passes(values, pods=[ended, pod("other", **{"nvidia.com/gpu": "1"})])


@pytest.mark.parametrize(("wanted", "fits"), [(1, True), (2, False)])
def test_of_several_gpus_as_many_must_be_free_as_are_wanted(values: dict[str, Any], wanted: int, *, fits: bool) -> None:
    values["statics"][1]["gpu"] = {"count": wanted}
    cluster: dict[str, Any] = {"nodes": with_gpus(4), "pods": [pod("a", **{"amd.com/gpu": "2"}), pod("b")]}
    if fits:
        passes(values, **cluster)
    else:
        (line,) = told(values, **cluster)
        assert "of 4 amd.com/gpu 1 are free, 2 wanted: stop ai/a, ai/b, or" in line


def test_a_role_that_was_renamed_or_lost_its_host_is_to_be_taken_out_first(values: dict[str, Any]) -> None:
    before = pod("llama-old-5d9c7b-x", of="llama-old")
    (line,) = told(values, pods=[before], deployments={"llama-old": OURS})
    assert line == (
        "llama-chat:nodes.static-b: gpu-node-2: of 1 amd.com/gpu 0 are free, 1 wanted: ai/llama-old-5d9c7b-x is this "
        "stack's role old: take that out first (pulumi state unprotect for its claim, then make up), then add this one"
    )


def test_each_that_has_a_gpu_is_told_with_its_own_remedy(values: dict[str, Any]) -> None:
    pods = [pod("llama-old-5d9c7b-x", of="llama-old"), pod("vllm-0", namespace="vllm")]
    (line,) = told(values, nodes=with_gpus(2), pods=pods, deployments={"llama-old": OURS})
    assert "stop vllm/vllm-0, or name another node; ai/llama-old-5d9c7b-x is this stack's role old" in line


@pytest.mark.parametrize(
    ("stranger", "labels"),
    [
        (pod("a-debugging-copy"), OURS),
        (pod("another-namespaces", of="llama-static-b", namespace="chat"), OURS),
        (pod("another-stacks", of="llama-static-b"), {**OURS, "app.kubernetes.io/instance": "staging"}),
    ],
)
def test_a_pod_that_only_looks_like_the_backends_own_counts(
    values: dict[str, Any], stranger: dict[str, Any], labels: dict[str, str]
) -> None:
    lines = told(values, pods=[stranger], deployments={"llama-static-b": labels})
    assert f"stop {stranger['metadata']['namespace']}/{stranger['metadata']['name']}, or name" in lines[0]


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
        passes(values, nodes=nodes)
    else:
        assert refused(values, nodes=nodes) == [("llama-chat:nodes.static-b", "gpu-node-2")]


@pytest.mark.parametrize(
    ("key", "effect"), [("gpu", "PreferNoSchedule"), ("node.kubernetes.io/memory-pressure", "NoSchedule")]
)
def test_a_taint_that_prefers_others_or_passes_is_no_reason_to_stop(
    values: dict[str, Any], key: str, effect: str
) -> None:
    nodes = tainted(key=key, effect=effect)
    passes(values, nodes=nodes)


def test_a_secret_to_be_made_by_an_operator_that_is_not_there_is_told(values: dict[str, Any]) -> None:
    values["hub"]["token_secret"]["external"] = {"store": "vault", "remote_key": "ai/hub"}
    secrets = {"litellm": ["master-key"]}
    assert refused(values, secrets=secrets) == [("llama-chat:hub.token_secret.external.store", "vault")]
    there: dict[str, Any] = {
        **CLUSTER,
        "secrets": secrets,
        "customresourcedefinitions": {EXTERNAL_SECRETS: {}},
        EXTERNAL_SECRETS: {},
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


@pytest.mark.parametrize(
    "labels",
    [
        {"app": "llm-gateway"},
        {**OURS, "app.kubernetes.io/instance": "staging"},
        # a Helm release of the stack's name
        {"app.kubernetes.io/instance": "prod"},
        {"app.kubernetes.io/instance": "prod", "app.kubernetes.io/part-of": "litellm"},
    ],
)
def test_objects_of_somebody_elses_are_not_taken_over(values: dict[str, Any], labels: dict[str, str]) -> None:
    standing = {"llm-gateway": labels, "llama-static-b": labels, "unrelated": labels}
    assert refused(values, deployments=standing) == [
        ("llama-chat:gateway.deployment", "llm-gateway"),
        ("llama-chat:statics[].role", "llama-static-b"),
    ]


def test_a_master_keys_secret_of_somebody_elses_is_not_taken_over(values: dict[str, Any]) -> None:
    values["master_key"] = {"secure": "v1:ciphertext"}
    assert refused(values) == [("llama-chat:gateway.master_key_secret.name", "litellm")]


def test_a_master_keys_secret_of_the_stacks_own_stays_its_own_with_the_key_in_the_file_or_no_more(
    values: dict[str, Any],
) -> None:
    passes(values, **{"secret labels": {"litellm": OURS}})
    values["master_key"] = {"secure": "v1:ciphertext"}
    passes(values, **{"secret labels": {"litellm": OURS}})


def external(values: dict[str, Any], labels: dict[str, str], made: dict[str, str]) -> dict[str, Any]:
    """Have the operator make the hub's Secret; what the cluster has: its ExternalSecret, and the Secret."""
    values["hub"]["token_secret"]["external"] = {"store": "vault", "remote_key": "ai/hub"}
    return {
        EXTERNAL_SECRETS: {"hf-token": labels},
        "customresourcedefinitions": {EXTERNAL_SECRETS: {}},
        "secret labels": {"hf-token": made},
    }


@pytest.mark.parametrize(
    ("labels", "made", "kinds"),
    [
        ({}, {}, [f"one of the {EXTERNAL_SECRETS}", "one of the secrets"]),
        (OURS, {}, ["one of the secrets"]),
        ({}, OURS, [f"one of the {EXTERNAL_SECRETS}"]),
    ],
)
def test_what_the_external_secrets_operator_would_make_is_not_taken_over_from_somebody_else(
    values: dict[str, Any], labels: dict[str, str], made: dict[str, str], kinds: list[str]
) -> None:
    lines = told(values, **external(values, labels, made))
    assert [line.partition(" has that name")[0] for line in lines] == [
        f"llama-chat:hub.token_secret.name: hf-token: {kind}" for kind in kinds
    ]


def test_what_the_external_secrets_operator_made_for_the_stack_is_its_own(values: dict[str, Any]) -> None:
    passes(values, **external(values, OURS, OURS))


def test_the_stacks_own_objects_are_no_strangers(values: dict[str, Any]) -> None:
    ours = {"llm-gateway": OURS}
    passes(values, deployments=ours, services=ours)


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubectl that knows a Secret with labels and one without, and may not look at the third."""
    path = tmp_path / "kubectl"
    path.write_text(
        """#!/bin/sh
echo "$@" >> "$0.asked"
case "$*" in
*"secret labelled "*) echo '{"a":"b"}' ;;
*"secret bare "*) ;;
*"secret forbidden "*) echo 'Error from server (Forbidden): secrets "forbidden" is forbidden' >&2; exit 1 ;;
*) echo 'Error from server (NotFound): secrets "gone" not found' >&2; exit 1 ;;
esac
"""
    )
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return path


def test_a_secret_is_read_by_its_name_so_that_nobody_needs_to_list_them(kubectl: Path) -> None:
    kube = Kube(context="homelab", namespace="ai")
    assert [kube.secret_labels(name) for name in ("labelled", "bare", "gone")] == [{"a": "b"}, {}, None]
    asked = Path(f"{kubectl}.asked").read_text().splitlines()
    assert asked[0].endswith("get secret labelled -o jsonpath={.metadata.labels}")
    with pytest.raises(UserError, match='secrets "forbidden" is forbidden'):
        kube.secret_labels("forbidden")


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


def claim(size: str, storage_class: str = "local-path", name: str = "llama-static-a-cache") -> dict[str, Any]:
    spec = {"storageClassName": storage_class, "resources": {"requests": {"storage": size}}}
    return {"metadata": {"name": name}, "spec": spec}


def test_a_claim_of_the_same_size_is_let_pass(values: dict[str, Any]) -> None:
    passes(values, claims=[claim("80Gi"), claim("5Gi", name="somebody-elses")])


def test_a_claim_never_shrinks(values: dict[str, Any]) -> None:
    (line,) = told(values, claims=[claim("240Gi")])
    assert line == (
        "llama-chat:storage.size_gib: 80: the claim of llama-static-a has 240 GiB and never shrinks: "
        "write size_gib: 240 in that backend's storage"
    )


def test_a_claim_whose_class_cannot_grow_is_told_before_anything_happens(values: dict[str, Any]) -> None:
    (line,) = told(values, claims=[claim("40Gi")])
    assert "has 40 GiB, and volumes of class local-path cannot grow" in line
    passes(values, claims=[claim("40Gi")], storageclasses={"local-path": {"allowVolumeExpansion": True}})


def test_a_claim_of_another_class_is_told(values: dict[str, Any]) -> None:
    (line,) = told(values, claims=[claim("80Gi", storage_class="nfs")])
    assert "is of class nfs, which cannot change" in line


def test_a_claim_whose_size_only_follows_from_its_models_keeps_its_own(values: dict[str, Any]) -> None:
    values["storage"] = {"class_name": "local-path"}
    config = stack_config(values).with_lock(lock_of(stack_config(values)))
    growing = {"local-path": {"allowVolumeExpansion": True}}
    preflight(config, stub({**CLUSTER, "claims": [claim("240Gi")], "storageclasses": growing}), "prod")
    with pytest.raises(ConfigError, match="has 40 GiB, its models need more: write size_gib: 50 in its storage"):
        preflight(config, stub({**CLUSTER, "claims": [claim("40Gi")], "storageclasses": growing}), "prod")
