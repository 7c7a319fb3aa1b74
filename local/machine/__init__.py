"""The one-machine Kubernetes cluster: real nodes in namespaces of one Linux machine, gone with one process."""

from local.machine.health import Row, status
from local.machine.lifecycle import PACKAGES, down, exec_in, up

__all__ = ["PACKAGES", "Row", "down", "exec_in", "status", "up"]
