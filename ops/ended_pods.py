"""Pods of the backends that have ended and were never removed."""

from local.console import say
from ops.kube import Kube

ENDED = "status.phase!=Running,status.phase!=Pending,status.phase!=Unknown"
OURS = "llama-chat/content"
"""The label of our Deployments' pods."""


def remove_ended_pods(kube: Kube) -> None:
    """Remove what an eviction or a lost node left: beside it, a changed backend would never start.

    Kubernetes looks at a Deployment with strategy Recreate again when the last of its pods is gone, and counts those
    that have ended (kubernetes issue 128798).
    """
    found = ("pods", "-l", OURS, "--field-selector", ENDED, "--output", "name")
    for line in kube.run("delete", *found, "--wait=false").splitlines():
        if line.startswith("pod/"):  # else it says that there is none
            say(f"removed {line.removeprefix('pod/')}: it had ended")
