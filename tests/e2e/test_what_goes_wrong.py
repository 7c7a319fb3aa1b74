"""What goes wrong is told in one line, changes nothing that works, and is mended by the next `make up`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from local.paths import cache_dir
from tests.e2e.killing import kill_up_when, kill_when
from tests.e2e.line import ROOT, Line, server_told

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def test_a_backend_under_another_name_fails_the_update_with_the_verdict_and_a_corrected_one_succeeds(
    standing: Line,
) -> None:
    deaf = standing.image("llama.cpp", "server-deaf", server_told("--alias", "somebody-else"))

    def use_deaf(config: dict[str, Any]) -> None:
        config["images"]["llama_server"] = deaf

    failed = standing.ops("up", "--config-file", str(standing.variant(use_deaf)))
    assert failed.returncode == 1
    assert "somebody-else" in failed.stdout
    assert "gemma-3-270m" in failed.stdout
    assert "Traceback" not in failed.stdout
    standing.up()


@pytest.mark.full
def test_layers_that_silently_stay_on_the_cpu_fail_the_update(standing: Line) -> None:
    def on_gpu(config: dict[str, Any]) -> None:
        config["runtime"]["gpu_layers"] = 999

    failed = standing.ops("up", "--config-file", str(standing.variant(on_gpu)))
    assert failed.returncode == 1
    assert "runs on the CPU" in failed.stdout


@pytest.mark.full
def test_a_kill_in_the_middle_of_pulumi_up_is_repaired_by_the_next(standing: Line) -> None:
    locks = standing.instance.state / "pulumi" / ".pulumi" / "locks"
    before = standing.pod("llama-static-a")["metadata"]["uid"]

    def more_threads(config: dict[str, Any]) -> None:
        config["statics"][0]["runtime"] = {"threads": 3}

    changed = standing.variant(more_threads)
    kill_up_when(
        standing,
        lambda: any(locks.rglob("*.json")) and before not in standing.kubectl("get", "pods", "-o", "yaml"),
        changed,
    )
    assert any(locks.rglob("*.json"))
    printed = standing.up(changed)
    assert "gemma-3-270m: " in printed
    args = standing.pod("llama-static-a")["spec"]["containers"][0]["args"]
    assert args[args.index("--threads") + 1] == "3"


@pytest.mark.full
def test_a_node_that_is_gone_comes_back_with_its_role(standing: Line) -> None:
    standing.kubectl("delete", "node", "gpu-static-a")
    assert "gemma-3-270m: " in standing.up()
    node = json.loads(standing.kubectl("get", "node", "gpu-static-a", "-o", "json"))
    assert node["metadata"]["labels"]["ai.llm.role"] == "static-a"
    assert standing.pod("llama-static-a")["spec"]["nodeName"] == "gpu-static-a"


@pytest.mark.full
def test_a_kill_while_the_nodes_start_is_repaired_by_the_next(line: Line) -> None:
    line.down()
    file = ROOT / "Pulumi.local.yaml"
    kill_up_when(line, lambda: any((line.instance.state / "log").glob("kubelet*.log")), file)
    assert "gemma-3-270m: " in line.up()


@pytest.mark.full
def test_a_kill_during_a_build_is_repaired_by_the_next(standing: Line, tmp_path: Path) -> None:
    cache = tmp_path / "llama-chat"
    (cache / "tools").mkdir(parents=True)
    kept = [path for path in cache_dir().iterdir() if path.name not in {"tools", "logs", "bin"}]
    kept += [path for path in (cache_dir() / "tools").glob("[!.]*") if not path.name.startswith("coredns-")]
    for path in kept:  # all but CoreDNS is built already, and what Go compiled of it makes the build short
        (cache / path.relative_to(cache_dir())).symlink_to(path)
    env = {**standing.env, "XDG_CACHE_HOME": str(tmp_path)}

    def building() -> bool:
        return any((cache / "tools").glob(".building-*")) and (cache / "logs" / "coredns.log").exists()

    standing.as_filed = False
    kill_when(building, ["-m", "ops", "up"], env, tmp_path / "killed.log")
    assert not list((cache / "tools").glob("coredns-*"))
    again = standing.ops("up", env=env)
    assert "gemma-3-270m: " in again.stdout, again.stdout
    (coredns,) = (cache / "tools").glob("coredns-*/coredns")
    assert "CoreDNS" in subprocess.run([coredns, "-version"], capture_output=True, text=True, check=True).stdout
    assert not list((cache / "tools").glob(".building-*"))


@pytest.fixture
def own_context(standing: Line) -> Line:
    """The same cluster as an operator's own would be: under a context that starts nothing, beside a dead one."""
    document: dict[str, Any] = yaml.safe_load(standing.instance.kubeconfig.read_text())
    (context,), (cluster,) = document["contexts"], document["clusters"]
    dead = {**cluster["cluster"], "server": "https://127.0.0.1:9"}
    document["clusters"].append({"name": "dead", "cluster": dead})
    document["contexts"] = [
        {"name": "homelab", "context": context["context"]},
        {"name": "dead", "context": {**context["context"], "cluster": "dead"}},
    ]
    (standing.scratch / "kubeconfig").write_text(yaml.safe_dump(document))
    return standing


def in_context(context: str) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["cluster"].update(context=context)


def misspelt_node(config: dict[str, Any]) -> None:
    config["cluster"].update(context="homelab")
    config["nodes"]["static-a"] = "gpu-sttaic-a"


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (in_context("dead"), "its API server does not answer"),
        (in_context("nowhere"), "llama-chat:cluster.context: nowhere: the kubeconfig"),
        (misspelt_node, "llama-chat:nodes.static-a: gpu-sttaic-a: the cluster has no such node"),
    ],
)
def test_what_a_stack_names_and_the_cluster_lacks_stops_make_up_with_one_line(
    own_context: Line, change: Callable[[dict[str, Any]], None], complaint: str
) -> None:
    before = own_context.kubectl("get", "all,configmaps,nodes", "-o", "name")
    stopped = own_context.ops(
        "up",
        "--yes",
        "--config-file",
        str(own_context.variant(change)),
        env={"KUBECONFIG": str(own_context.scratch / "kubeconfig")},
    )
    assert stopped.returncode == 1
    (told,) = stopped.stdout.splitlines()
    assert told.startswith("error: ")
    assert complaint in told
    assert own_context.kubectl("get", "all,configmaps,nodes", "-o", "name") == before


def test_a_user_without_root_is_told_in_one_line_what_to_do_instead(line: Line) -> None:
    script = (
        "import os, runpy, sys; os.geteuid = lambda: 1000; sys.argv = ['ops', 'up'];"
        "runpy.run_module('ops', run_name='__main__')"
    )
    stopped = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=dict(line.env), capture_output=True, text=True, check=False
    )
    assert stopped.returncode == 1
    (told,) = stopped.stderr.splitlines()
    assert "root" in told
    assert "STACK" in told


def test_a_missing_compiler_is_told_in_one_line_before_anything_starts(line: Line, tmp_path: Path) -> None:
    for command in ("cc", "make", "sh"):
        (tmp_path / command).symlink_to("/bin/true")
    stopped = line.ops("up", env={"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)})
    assert stopped.returncode == 1
    (told,) = stopped.stdout.splitlines()
    assert "gcc" in told
    assert "apt-get install" in told
