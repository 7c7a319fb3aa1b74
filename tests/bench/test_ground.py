"""What is put into the cluster, and that it always goes again."""

import os
import signal
from pathlib import Path

import pytest

from bench.ground import LABEL, cluster_wide, furniture, ground
from config.errors import UserError
from config.model import StackConfig

KUBECTL = """#!/bin/sh
# what was created is there until it is deleted
echo "$*" >> "$FAKE/calls"
case "$*" in
    *" create "*) cat >> "$FAKE/created"; [ ! -e "$FAKE/refuses" ] || { echo "nodes exist" >&2; exit 1; } ;;
    *" get namespaces "*)
        if [ -e "$FAKE/created" ]; then echo '{"items": [{"metadata": {"name": "bench-prod"}}]}'
        else echo '{"items": []}'; fi ;;
    *" get nodes "*) echo '{"items": []}' ;;
    *" delete "*) rm "$FAKE/created" ;;
esac
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kubectl").write_text(KUBECTL)
    (tmp_path / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(tmp_path))
    return tmp_path


def deletions(cluster: Path) -> list[str]:
    return [line for line in (cluster / "calls").read_text().splitlines() if " delete " in line]


def test_it_is_gone_after_an_interrupt(cluster: Path, config: StackConfig) -> None:
    before = signal.getsignal(signal.SIGINT)

    def measure() -> None:
        with ground(config, ["bench-prod"]):
            assert (cluster / "created").exists()
            assert not deletions(cluster)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert not (cluster / "created").exists()
    assert [f"--selector {LABEL}" in line for line in deletions(cluster)] == [True]
    assert signal.getsignal(signal.SIGINT) == before


def test_half_of_it_is_gone_when_the_rest_is_refused(cluster: Path, config: StackConfig) -> None:
    (cluster / "refuses").touch()
    with pytest.raises(UserError, match="nodes exist"), ground(config, ["bench-prod"]):
        raise AssertionError
    assert not (cluster / "created").exists()


def test_what_a_killed_bench_left_is_removed_first(cluster: Path, config: StackConfig) -> None:
    (cluster / "created").write_text("of yesterday")
    with ground(config, ["bench-prod"]):
        assert len(deletions(cluster)) == 1
        assert "of yesterday" not in (cluster / "created").read_text()


def test_all_of_it_bears_the_label_that_it_is_removed_by(config: StackConfig) -> None:
    made = [*cluster_wide(config, ["bench-prod"]), *furniture(config)]
    assert {str(it["metadata"]["labels"]) for it in made} == {str({LABEL: "true"})}
    assert [(it["kind"], it["metadata"]["name"]) for it in made] == [
        ("Node", "gpu-node-1"),
        ("Node", "gpu-node-2"),
        ("Node", "gpu-node-3"),
        ("Namespace", "bench-prod"),
        ("ResourceQuota", "no-pods"),
        ("Secret", "litellm"),
        ("Secret", "hf-token"),
    ]


def test_no_pod_may_start_there(config: StackConfig) -> None:
    quotas = [it["spec"] for it in furniture(config) if it["kind"] == "ResourceQuota"]
    assert quotas == [{"hard": {"pods": "0"}}]
