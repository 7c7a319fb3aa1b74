"""`make up` ends with a real chat completion, and every change after it is seen before it is made."""

import json
import re
import subprocess
from typing import Any

import pytest

from tests.e2e.line import ROOT, Line, rolled

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
MODEL = "gemma-3-270m"


def test_make_up_prints_a_reply_and_a_curl_line_that_works_and_shows_no_key(line: Line) -> None:
    printed = line.up()
    reply = next(row for row in printed.splitlines() if row.startswith(f"{MODEL}: "))
    assert len(reply) > len(f"{MODEL}: ")
    curl = printed[printed.index("Go on with:") + len("Go on with:") :]
    answer = json.loads(subprocess.run(["sh", "-c", curl], capture_output=True, text=True, check=True).stdout)
    assert answer["model"] == MODEL
    assert answer["choices"][0]["message"]["content"]
    key = (line.instance.state / "master-key").read_text()
    assert key not in printed
    assert (line.instance.state / "master-key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("backend", ["llama-static-a", "llama-static-b", "llama-swap"])
def test_each_backend_is_on_its_roles_node_with_one_gpu_and_never_restarted(standing: Line, backend: str) -> None:
    pod = standing.pod(backend)
    role = backend.removeprefix("llama-")
    assert pod["spec"]["nodeName"] == f"gpu-{role}"
    (server,) = pod["spec"]["containers"]
    assert server["resources"]["limits"]["amd.com/gpu"] == "1"
    assert [status["restartCount"] for status in pod["status"]["containerStatuses"]] == [0]
    node = json.loads(standing.kubectl("get", "node", f"gpu-{role}", "-o", "json"))
    assert node["metadata"]["labels"]["ai.llm.role"] == role


def test_the_api_server_lets_in_restricted_pods_alone(standing: Line) -> None:
    container = {"name": "bad", "image": "bad", "securityContext": {"privileged": True}}
    bad = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": {"containers": [container]}}
    file = standing.scratch / "bad.json"
    file.write_text(json.dumps(bad))
    with pytest.raises(subprocess.CalledProcessError) as refused:
        standing.kubectl("apply", "--dry-run=server", "-f", str(file))
    assert "violates PodSecurity" in refused.value.stderr


def test_a_second_pulumi_up_shows_no_change(standing: Line) -> None:
    previewed = standing.ops("preview", "--expect-no-changes")
    assert previewed.returncode == 0, previewed.stdout
    again = standing.up()
    counts = again[again.index("Resources:") :].splitlines()[1:3]
    assert re.fullmatch(r"\s+\d+ unchanged", counts[0])
    assert counts[1] == ""


def test_one_knob_shows_in_the_preview_and_rolls_that_pod_alone(standing: Line) -> None:
    def more_threads(config: dict[str, Any]) -> None:
        config["statics"][0]["runtime"] = {"threads": 1}

    before = standing.pods()
    changed = standing.variant(more_threads)
    seen = standing.preview(changed)
    assert "llama-static-a-deployment" in seen
    assert not {"llama-static-b-deployment", "llama-swap-deployment", "gateway-deployment"} & set(seen.split())
    standing.up(changed)
    assert rolled(before, standing.pods()) == {"llama-static-a"}
    args = standing.pod("llama-static-a")["spec"]["containers"][0]["args"]
    assert args[args.index("--threads") + 1] == "1"


def test_nothing_in_the_checkout_changes_when_the_stack_comes_up(standing: Line) -> None:
    status = subprocess.run(
        ["git", "status", "--porcelain", "Pulumi.yaml", "Pulumi.local.yaml"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert standing.instance.kubeconfig.exists()
    assert status.stdout == ""
