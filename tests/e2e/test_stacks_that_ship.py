"""prod and staging, as far as a cluster without their GPUs can tell: previews, refusals and manifests."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.toolchain import ensure
from tests.components.manifests import manifests
from tests.e2e.line import ROOT, Line

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
STACKS = ("prod", "staging")


class Cluster:
    """The test cluster under the contexts of the stacks that ship, with hosts that bear their nodes' names."""

    def __init__(self, line: Line, home: Path) -> None:
        self.line, self.home = line, home
        self.kubeconfig = home / "kubeconfig"
        document = yaml.safe_load(line.instance.kubeconfig.read_text())
        (context,) = document["contexts"]
        names = [f"homelab-{stack}" for stack in STACKS]
        self.kubeconfig.write_text(
            yaml.safe_dump(
                {**document, "current-context": "", "contexts": [{**context, "name": name} for name in names]}
            )
        )
        self.env = {
            **line.pulumi_env(),
            "KUBECONFIG": str(self.kubeconfig),
            "PULUMI_BACKEND_URL": f"file://{home}",
            "PULUMI_CONFIG_PASSPHRASE": "only-for-this-test",
        }
        self.env.pop("PULUMI_CONFIG_PASSPHRASE_FILE")

    def apply(self, *objects: dict[str, Any], options: tuple[str, ...] = ()) -> str:
        """Hand objects to the API server; what kubectl says, warnings included."""
        kubectl = ensure("kubectl").path("kubectl")
        done = subprocess.run(
            [kubectl, "--kubeconfig", self.line.instance.kubeconfig, "apply", "--server-side", *options, "-f", "-"],
            input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def stack(self, name: str, **cluster: str) -> Path:
        """The stack's file with other `cluster` values, and the stack itself in a backend of the test's own."""
        project = self.home / name
        project.mkdir()
        (project / "Pulumi.yaml").write_text("name: llama-chat\nruntime: python\n")
        init = ["pulumi", "stack", "init", name]
        subprocess.run(init, cwd=project, env=self.env, capture_output=True, text=True, check=True)
        document = yaml.safe_load((ROOT / f"Pulumi.{name}.yaml").read_text())
        document["config"]["llama-chat:cluster"] |= cluster
        file = project / f"Pulumi.{name}.yaml"
        file.write_text(yaml.safe_dump({**document, **yaml.safe_load(file.read_text())}))
        return file

    def preview(self, name: str, file: Path) -> subprocess.CompletedProcess[str]:
        """`make preview` of that stack."""
        return self.line.ops("preview", "--stack", name, "--config-file", str(file), env=self.env)


def node(name: str) -> dict[str, Any]:
    """A host that has a GPU and runs nothing."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": False}}


@pytest.fixture
def cluster(standing: Line, tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(standing, tmp_path)
    hosts = [
        host
        for stack in STACKS
        for host in yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]["llama-chat:nodes"].values()
    ]
    made.apply(*(node(host) for host in hosts))
    gpu = json.dumps({"status": {part: {"amd.com/gpu": "1"} for part in ("capacity", "allocatable")}})
    for host in hosts:
        standing.kubectl("patch", "node", host, "--subresource=status", "--type=merge", "-p", gpu)
    try:
        yield made
    finally:
        standing.kubectl("delete", "node", *hosts)
        standing.kubectl("delete", "namespace", "--ignore-not-found", *STACKS)


def furnish(cluster: Cluster, namespace: str) -> None:
    """The namespace and the Secrets that a stack names."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted"}
    secrets = {"litellm": "master-key", "hf-token": "token"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        *(
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "stringData": {key: "only-for-this-test"},
            }
            for name, key in secrets.items()
        ),
    )


@pytest.mark.parametrize("stack", STACKS)
def test_a_preview_works_where_context_nodes_and_secrets_are_there(cluster: Cluster, stack: str) -> None:
    furnish(cluster, stack)
    seen = cluster.preview(stack, cluster.stack(stack, namespace=stack))
    assert seen.returncode == 0, seen.stdout
    for name in ("llama-static-a-deployment", "llama-static-b-deployment", "llama-swap-deployment", "gateway-service"):
        assert name in seen.stdout
    assert "only-for-this-test" not in seen.stdout


def test_a_preview_says_in_a_line_each_what_is_not_there(cluster: Cluster) -> None:
    file = cluster.stack("prod")
    cluster.line.kubectl("delete", "node", "gpu-node-2")
    told = cluster.preview("prod", file)
    assert told.returncode == 1
    assert "llama-chat:nodes.static-b: gpu-node-2: the cluster has no such node" in told.stdout
    assert "llama-chat:hub.token_secret.name: hf-token: namespace ai has no such Secret" in told.stdout
    assert "llama-chat:gateway.deployment: llm-gateway: one of the deployments has that name already" in told.stdout
    assert "Traceback" not in told.stdout
    nowhere = cluster.stack("staging", context="homelab-nowhere")
    lost = cluster.preview("staging", nowhere)
    assert lost.returncode == 1
    assert lost.stdout.startswith("error: llama-chat:cluster.context: homelab-nowhere: the kubeconfig")
    cluster.apply(node("gpu-node-2"))


@pytest.mark.parametrize("stack", STACKS)
def test_the_api_server_takes_every_manifest_strictly_and_without_a_warning(
    cluster: Cluster, stack: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
    furnish(cluster, stack)
    objects = manifests(stack)
    for it in objects:
        it["metadata"]["namespace"] = stack
    assert len(objects) > 40
    assert cluster.apply(*objects, options=("--dry-run=server", "--validate=strict")) == ""
