"""What a stack adopts must be there, unchanged, and leave the new backends a GPU."""

from base64 import b64encode
from dataclasses import dataclass, field
from typing import Any

import pytest

from config.errors import ConfigError
from config.model import StackConfig
from ops.preflight import preflight
from render.litellm import gateway_text
from tests.conftest import stack_config
from tests.ops.adoptable import KEY, LIVE_LITELLM, Cluster
from tests.runbook import adopting, adopting_values

pytestmark = pytest.mark.usefixtures("kubeconfig")
Object = dict[str, Any]
OURS = {"app.kubernetes.io/instance": "prod", "app.kubernetes.io/part-of": "llama-chat"}
GPU = "amd.com/gpu"
HOSTS = ("gpu-node-1", "gpu-node-2", "gpu-node-3")
WORKERS = ("vllm-general", "vllm-code", "vllm-reasoning")


def limits(gpus: int) -> list[Object]:
    return [{"resources": {"limits": {GPU: str(gpus)}}}]


@dataclass(frozen=True, kw_only=True)
class Standing(Cluster):
    """With nodes, and pods that have their GPUs."""

    nodes: dict[str, Object] = field(default_factory=dict[str, Object])
    pods: list[Object] = field(default_factory=list[Object])

    def __post_init__(self) -> None:
        super().__post_init__()
        for host in HOSTS:
            labels = {"kubernetes.io/hostname": host}
            self.nodes[host] = {"metadata": {"labels": labels}, "status": {"allocatable": {GPU: "2"}}}
        self.objects["secret", "hf-token"] = {"metadata": {}, "data": {"token": ""}}
        self.objects["secret", "llm-gateway-legacy-keys"] = {
            "metadata": {"labels": {"app.kubernetes.io/part-of": "llama-chat"}},
            "data": {"LEGACY_KEY_1": b64encode(KEY.encode()).decode()},
        }
        for worker, host in zip(WORKERS, HOSTS, strict=True):
            template: Object = self.named("deployment", worker)["spec"]["template"]
            template["spec"] = {"containers": limits(1), "nodeSelector": {"kubernetes.io/hostname": host}}
            self.take(host, worker)

    def take(self, host: str, deployment: str, gpus: int = 1) -> None:
        """Have a Deployment's pod take GPUs of a node."""
        owner = {"kind": "ReplicaSet", "name": f"{deployment}-5d9c7b"}
        metadata = {"name": f"{deployment}-x", "namespace": "ai", "ownerReferences": [owner]}
        spec = {"nodeName": host, "containers": limits(gpus)}
        self.pods.append({"metadata": metadata, "spec": spec, "status": {"phase": "Running"}})

    def stop(self, deployment: str) -> None:
        """Scale a Deployment to 0."""
        self.named("deployment", deployment)["spec"]["replicas"] = 0
        self.pods[:] = [pod for pod in self.pods if pod["metadata"]["name"] != f"{deployment}-x"]

    def bring_up(self, *deployments: str) -> None:
        """Have the stack's own backends stand, each on its node."""
        for name, host in zip(deployments, HOSTS, strict=False):
            self.objects["deployment", name] = {"metadata": {"name": name, "labels": OURS}}
            self.take(host, name)

    def fails(self, *arguments: str) -> str | None:
        assert arguments == ("get", "--raw", "/version")
        return None

    def items(self, kind: str) -> dict[str, Any]:
        kinds: dict[str, dict[str, Any]] = {"storageclasses": {"local-path": {}}, "namespaces": {"ai": {}}}
        return {**kinds, "nodes": self.nodes}[kind]

    def listed(self, kind: str, *options: str) -> list[Object]:
        if not options:
            return super().listed(kind)
        assert (kind, options[0]) == ("pods", "--all-namespaces")
        host = options[1].removeprefix("--field-selector=spec.nodeName=")
        return [pod for pod in self.pods if pod["spec"]["nodeName"] == host]


def told(cluster: Standing, config: StackConfig) -> list[str]:
    try:
        preflight(config, cluster, "prod")
    except ConfigError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.fixture
def cluster() -> Standing:
    """As `make adopt` left it: every node has a GPU for vLLM, and one to spare."""
    return Standing()


@pytest.mark.parametrize("phase", ["parallel", "test", "cutover", "frontend", "done"])
def test_what_is_adopted_is_no_stranger_in_any_phase(cluster: Standing, phase: str) -> None:
    assert told(cluster, adopting(phase)) == []


def test_all_that_is_adopted_and_not_there_is_told_at_once(cluster: Standing) -> None:
    for gone in (("configmap", "litellm-config"), ("deployment", "librechat"), ("service", "llm-gateway")):
        del cluster.objects[gone]
    assert [line.split(": ")[:2] for line in told(cluster, adopting())] == [
        ["llama-chat:gateway.config_map", "litellm-config"],
        ["llama-chat:frontend.deployment", "librechat"],
        ["llama-chat:gateway.port", "4000"],
    ]


def test_a_changed_document_stops_an_update_with_what_differs(cluster: Standing) -> None:
    cluster.write(LIVE_LITELLM.replace("timeout: 600", "timeout: 60"))
    (line,) = told(cluster, adopting())
    assert "litellm-config: somebody has changed its config.yaml since" in line
    assert "  +      timeout: 60" in line.splitlines()
    preflight(adopting(), cluster, "prod", overwrite=True)
    cluster.write(gateway_text(adopting("cutover")))
    assert told(cluster, adopting()) == []


def test_a_backend_of_somebody_elses_is_a_stranger_beside_an_adopted_gateway_too(cluster: Standing) -> None:
    cluster.objects["deployment", "llama-static-b"] = {"metadata": {"name": "llama-static-b"}}
    (line,) = told(cluster, adopting())
    assert line.startswith("llama-chat:statics[].role: llama-static-b: one of the deployments has that name already")


def test_a_librechat_that_is_left_alone_is_still_not_taken_over(cluster: Standing) -> None:
    values = adopting_values()
    values["frontend"] = {"mode": "none"}
    (line,) = told(cluster, stack_config(values).with_adopted(adopting().adopted))
    assert line.startswith("llama-chat:frontend.config_map: librechat-config: one of the configmaps has that name")


def test_a_document_that_the_stack_made_itself_is_not_adopted(cluster: Standing) -> None:
    cluster.named("configmap", "librechat-config")["metadata"]["labels"] = OURS
    (line,) = told(cluster, adopting())
    assert line == (
        "llama-chat:frontend.config_map: librechat-config: stack prod made it, in mode none, and would remove it now: "
        "have LibreChat read another one"
    )


def with_gpus(cluster: Standing, count: int) -> None:
    for node in cluster.nodes.values():
        node["status"]["allocatable"][GPU] = str(count)


def test_a_gpu_that_vllm_has_until_done_is_told_with_its_pod_and_what_it_answers(cluster: Standing) -> None:
    with_gpus(cluster, 1)
    lines = told(cluster, adopting())
    assert len(lines) == 3
    assert lines[1] == (
        "llama-chat:nodes.static-b: gpu-node-2: of 1 amd.com/gpu 0 are free, 1 wanted: ai/vllm-code-x answers "
        "code-chat until phase done: name a node that has a GPU to spare, or add this backend once done stands"
    )


def test_a_deployment_behind_several_names_is_told_with_all_of_them(cluster: Standing) -> None:
    with_gpus(cluster, 1)
    values = adopting_values()
    values["legacy"]["routes"][1] |= {"deployment": "vllm-general"}
    lines = told(cluster, stack_config(values).with_adopted(adopting().adopted))
    assert "ai/vllm-general-x answers general-chat, code-chat until phase done" in lines[0]
    assert "stop ai/vllm-code-x, or name another node" in lines[1]


def test_backends_that_stand_beside_vllm_stay(cluster: Standing) -> None:
    cluster.bring_up("llama-static-a", "llama-static-b", "llama-swap")
    assert told(cluster, adopting("frontend")) == []


def test_on_the_way_back_a_backend_that_stands_is_told_of_and_stops_nothing(
    cluster: Standing, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.bring_up("llama-static-a")
    cluster.nodes["gpu-node-1"] |= {"status": {}, "spec": {"taints": [{"key": "broken", "effect": "NoSchedule"}]}}
    assert len(told(cluster, adopting("test"))) == 2
    assert "told only" not in capsys.readouterr().err
    assert told(cluster, adopting()) == []
    lines = capsys.readouterr().err.splitlines()
    where = "told only: llama-chat:nodes.static-a: gpu-node-1"
    assert [line.partition(" (")[0] for line in lines] == [
        f"{where}: node gpu-node-1 has 0 of amd.com/gpu: correct the node, gpu or its driver",
        f"{where}: the node has the taint broken=:NoSchedule: add it to tolerations",
    ]
    assert lines[0].endswith(" (this backend stands already, and in parallel no user is led to it)")
    del cluster.objects["deployment", "llama-static-a"]
    assert len(told(cluster, adopting())) == 2


def test_on_the_way_back_too_a_node_must_be_there(cluster: Standing) -> None:
    cluster.bring_up("llama-static-a")
    del cluster.nodes["gpu-node-1"]
    (line,) = told(cluster, adopting())
    assert line == (
        "llama-chat:nodes.static-a: gpu-node-1: the cluster has no such node: it has gpu-node-2, gpu-node-3; correct "
        "it, or take its role out of the stack file"
    )


def test_going_back_is_refused_where_vllms_gpu_has_gone_to_others(cluster: Standing) -> None:
    for worker in WORKERS:
        cluster.stop(worker)
    cluster.bring_up("llama-static-a", "llama-static-b", "llama-swap")
    assert told(cluster, adopting("frontend")) == []
    cluster.take("gpu-node-2", "miner")
    assert told(cluster, adopting("done")) == []
    (line,) = told(cluster, adopting("frontend"))
    assert line == (
        "llama-chat:legacy.routes[1].deployment: vllm-code: starts again in phase frontend, and none of its nodes "
        "(gpu-node-2) has 1 amd.com/gpu free: ai/llama-static-b-x, ai/miner-x has them. Free one (a role of this "
        "stack's: take it out, then make up), or leave the phase as it was"
    )


def test_what_may_run_on_another_node_or_did_not_run_before_stops_nothing(cluster: Standing) -> None:
    cluster.stop("vllm-code")
    cluster.take("gpu-node-2", "miner")
    cluster.bring_up("llama-static-a", "llama-static-b", "llama-swap")
    assert len(told(cluster, adopting("cutover"))) == 1
    values = adopting_values("cutover")
    values["legacy"]["routes"][1]["replicas"] = 0
    assert told(cluster, stack_config(values).with_adopted(adopting().adopted)) == []
    del cluster.named("deployment", "vllm-code")["spec"]["template"]["spec"]["nodeSelector"]
    cluster.nodes["gpu-node-4"] = {"status": {"allocatable": {GPU: "1"}}}
    assert told(cluster, adopting("cutover")) == []
