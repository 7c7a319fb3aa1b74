"""What kube-score says of every stack that ships."""

import subprocess

import pytest
import yaml

from local.toolchain import ensure
from tests.components.manifests import manifests

# kube-score's tests that we fail on purpose
NOT_OURS = {
    "container-image-pull-policy": "images are pinned: a pull at each start only adds a way to fail",
    "container-resources": "a CPU limit would slow llama-server beside idle cores; memory is limited",
    "container-ephemeral-storage-request-and-limit": "weights lie on a volume; what is written beside is small",
    "pod-networkpolicy": "which pods may reach a backend is for the cluster's owner to say",
    "pod-probes-identical": "the same question with other patience: /health is all that the engines have",
    "deployment-strategy": "one GPU a node: the old pod must go before the new one can start",
    "deployment-replicas": "one pinned backend is one pod on its node",
    "deployment-has-host-podantiaffinity": "the gateway spreads by topology constraints instead",
}


@pytest.mark.usefixtures("kubeconfig")
@pytest.mark.parametrize("stack", ["local", "prod", "staging"])
def test_kube_score_finds_nothing_that_is_not_on_purpose(stack: str) -> None:
    score = ensure("kube-score").path("kube-score")
    ignored = [option for name in NOT_OURS for option in ("--ignore-test", name)]
    done = subprocess.run(
        [score, "score", "--output-format", "ci", "--exit-one-on-warning", *ignored, "-"],
        input=yaml.safe_dump_all(manifests(stack), sort_keys=False),
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if not line.startswith(("[OK]", "[SKIPPED]"))]
    assert (found, done.returncode) == ([], 0)
    assert "[OK] llm-gateway" in done.stdout
