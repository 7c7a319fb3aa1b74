"""One GPU node a role: the label that every backend's affinity asks for."""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import Node, NodePatch

from config.parts import ROLE_LABEL


@dataclass(frozen=True, kw_only=True)
class NodeRolesArgs:
    """Which host has which role."""

    nodes: Mapping[str, str]


class NodeRoles(pulumi.ComponentResource):
    """A label on each role's node, by server-side apply under our own field manager.

    Each node is read first, in previews too: a patch on a node that does not exist would create a phantom one. So
    would taking the label off a node that is gone: a label that no role needs any more stays, and means nothing, as
    every backend asks for its node by name too.
    """

    labels: dict[str, NodePatch]
    """By role."""

    def __init__(self, name: str, args: NodeRolesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:cluster:NodeRoles", name, None, opts)
        self.labels = {}
        for role, host in args.nodes.items():
            node = Node.get(f"{name}-{role}-node", host, opts=pulumi.ResourceOptions(parent=self))
            self.labels[role] = NodePatch(
                f"{name}-{role}",
                metadata={
                    "name": host,
                    "labels": {ROLE_LABEL: role},
                    "annotations": {
                        # a manager a role: taking one role's label away must not take another's on the same node
                        "pulumi.com/patchFieldManager": f"llama-chat-{role}",
                        "pulumi.com/patchForce": "true",  # two roles that swap hosts take over each other's label
                    },
                },
                opts=pulumi.ResourceOptions(parent=self, depends_on=[node], retain_on_delete=True),
            )
        self.register_outputs({"nodes": dict(args.nodes)})
