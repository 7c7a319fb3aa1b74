"""What a script in a pod may do in the stack's namespace, and nothing else."""

from collections.abc import Sequence

import pulumi
from pulumi_kubernetes.core.v1 import ServiceAccount
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict, Role, RoleBinding

from components.pods import metadata

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a script looks for its service account."""


def service_account(
    name: str, namespace: str, rules: Sequence[PolicyRuleArgsDict], parent: pulumi.Resource
) -> list[pulumi.Resource]:
    """A service account that is called `name`, and what makes the rules hold for it."""
    child = pulumi.ResourceOptions(parent=parent)
    meta = metadata(namespace, name, name)
    account = ServiceAccount(f"{name}-account", metadata=meta, opts=child)
    role = Role(f"{name}-role", metadata=meta, rules=list(rules), opts=child)
    binding = RoleBinding(
        f"{name}-binding",
        metadata=meta,
        role_ref={"api_group": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        opts=child,
    )
    return [account, role, binding]
