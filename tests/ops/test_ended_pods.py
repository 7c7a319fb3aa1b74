"""Ended pods are removed before an update, and nothing else is."""

from dataclasses import dataclass, field

import pytest

from ops.ended_pods import remove_ended_pods
from ops.kube import Kube


@dataclass(frozen=True, kw_only=True)
class Told(Kube):
    """A cluster that notes what it is asked to do."""

    context: str = "homelab"
    namespace: str = "ai"
    printed: str = ""
    ran: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        assert stdin is None
        self.ran.append(arguments)
        return self.printed


def test_only_ended_pods_of_the_stacks_own_deployments_go(capfd: pytest.CaptureFixture[str]) -> None:
    kube = Told(printed="pod/llama-static-a-1\n")
    remove_ended_pods(kube)
    ((verb, kind, *options),) = kube.ran
    assert (verb, kind) == ("delete", "pods")
    assert options[options.index("-l") + 1] == "llama-chat/content"
    picked = options[options.index("--field-selector") + 1]
    assert set(picked.split(",")) == {f"status.phase!={phase}" for phase in ("Running", "Pending", "Unknown")}
    assert "removed llama-static-a-1: it had ended" in capfd.readouterr().err


def test_where_none_has_ended_nothing_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    remove_ended_pods(Told(printed="No resources found\n"))
    assert capfd.readouterr().err == ""
