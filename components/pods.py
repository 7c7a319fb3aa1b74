"""What all our pods and objects have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pulumi
from pulumi_kubernetes.batch.v1 import JobSpecArgsDict, PodFailurePolicyRuleArgsDict
from pulumi_kubernetes.core.v1 import (
    AffinityArgsDict,
    ContainerArgsDict,
    EnvVarArgsDict,
    LocalObjectReferenceArgsDict,
    NodeSelectorArgsDict,
    NodeSelectorTermArgsDict,
    PodSecurityContextArgsDict,
    PodSpecArgsDict,
    PodTemplateSpecArgsDict,
    ProbeArgsDict,
    SecurityContextArgsDict,
    TolerationArgsDict,
    VolumeArgsDict,
    VolumeMountArgsDict,
    VolumeProjectionArgsDict,
)
from pulumi_kubernetes.meta.v1 import ObjectMetaArgsDict

from config.parts import ROLE_LABEL, SecretKey, Toleration
from render.document import content_hash

CONTENT_LABEL = "llama-chat/content"
USER = 10001
"""The uid and gid of every pod of ours: any but root will do."""
RESTRICTED: SecurityContextArgsDict = {
    "allow_privilege_escalation": False,
    "capabilities": {"drop": ["ALL"]},
    "read_only_root_filesystem": True,
    "run_as_non_root": True,
}
"""What the "restricted" Pod Security profile asks of a container
(https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted), and no file that it may change."""
UNPRIVILEGED: SecurityContextArgsDict = {
    **RESTRICTED,
    "run_as_user": USER,
    "run_as_group": USER,
    "seccomp_profile": {"type": "RuntimeDefault"},
}
"""The same for a container in a pod whose other containers decide on the pod's own security context."""
DELETE_SECONDS = 600
"""What an object without a drain may take to be gone: Pulumi's own default."""
TOKEN_SECONDS = 3600
"""How long a service account's token lasts at least, as where Kubernetes mounts it."""
SCRATCH: VolumeArgsDict = {"name": "tmp", "empty_dir": {}}
"""The one place where a container of ours may write."""
HUNG_SECONDS = 30
"""What a server that no longer answers has to end: there is nothing to drain."""
SCRATCH_HOME: EnvVarArgsDict = {"name": "HOME", "value": "/tmp"}  # noqa: S108 - a pod's own
"""For programs that keep caches below their home."""
SCRATCH_MOUNT: VolumeMountArgsDict = {"name": "tmp", "mount_path": "/tmp"}  # noqa: S108 - a pod's own


def scripts(*names: str) -> dict[str, str]:
    """Scripts that run inside a pod, by file name; those that import one another lie in one folder there."""
    return {name: (Path(__file__).parent / "scripts" / name).read_text() for name in names}


def metadata(namespace: str, name: str, app: str, annotations: Mapping[str, str] | None = None) -> ObjectMetaArgsDict:
    """Name, namespace and the recommended labels of an object that belongs to `app`."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": {
            **selector(app),
            "app.kubernetes.io/instance": pulumi.get_stack(),
            "app.kubernetes.io/part-of": "llama-chat",
        },
        "annotations": dict(annotations or {}),
    }


def pod_template(
    app: str, spec: PodSpecArgsDict, annotations: Mapping[str, pulumi.Input[str]] | None = None
) -> PodTemplateSpecArgsDict:
    """A Deployment's pod; its content label tells a smoke test which pods are the ones just deployed."""
    labels = {**selector(app), CONTENT_LABEL: content_hash(spec)}
    return {"metadata": {"labels": labels, "annotations": dict(annotations or {})}, "spec": spec}


def selector(app: str) -> dict[str, str]:
    """The labels that pick the pods of `app`."""
    return {"app.kubernetes.io/name": app}


def pod_security(supplemental_groups: Sequence[int] = ()) -> PodSecurityContextArgsDict:
    """The restricted profile's pod part; `supplemental_groups` own the GPU's device files, where there are any."""
    return {
        "run_as_non_root": True,
        "run_as_user": USER,
        "run_as_group": USER,
        "fs_group": USER,
        "fs_group_change_policy": "OnRootMismatch",
        "seccomp_profile": {"type": "RuntimeDefault"},
        "supplemental_groups": list(supplemental_groups),
    }


def on_role(role: str, host: str) -> AffinityArgsDict:
    """Required affinity to the one node that has the role; naming it too makes another host another pod."""
    has_role: NodeSelectorTermArgsDict = {
        "match_expressions": [{"key": ROLE_LABEL, "operator": "In", "values": [role]}],
        "match_fields": [{"key": "metadata.name", "operator": "In", "values": [host]}],
    }
    required: NodeSelectorArgsDict = {"node_selector_terms": [has_role]}
    return {"node_affinity": {"required_during_scheduling_ignored_during_execution": required}}


def tolerations(wanted: Sequence[Toleration]) -> list[TolerationArgsDict]:
    """The taints that a pod may be placed beside."""
    return [_toleration(it) for it in wanted]


def _toleration(wanted: Toleration) -> TolerationArgsDict:
    made: TolerationArgsDict = {"key": wanted.key, "operator": wanted.operator}
    if wanted.value is not None:
        made["value"] = wanted.value
    if wanted.effect is not None:
        made["effect"] = wanted.effect
    return made


def pull_secrets(names: Sequence[str]) -> list[LocalObjectReferenceArgsDict]:
    """The Secrets with which the kubelet logs in to the images' registries."""
    return [{"name": name} for name in names]


def secret_env(variable: str, secret: SecretKey | None) -> list[EnvVarArgsDict]:
    """An environment variable read from a Secret by the kubelet; its value is nowhere in our objects."""
    if secret is None:
        return []
    return [{"name": variable, "value_from": {"secret_key_ref": {"name": secret.name, "key": secret.key}}}]


def config_volume(name: str, config_map: str) -> VolumeArgsDict:
    """A ConfigMap as a volume."""
    return {"name": name, "config_map": {"name": config_map}}


def account_volume(name: str, seconds: int) -> VolumeArgsDict:
    """A pod's service account as Kubernetes mounts it by itself, for one container instead of for all.

    `seconds` is the pod's deadline: a script reads the token once.
    """
    lasting = max(seconds, TOKEN_SECONDS)
    token: VolumeProjectionArgsDict = {"service_account_token": {"path": "token", "expiration_seconds": lasting}}
    authority: VolumeProjectionArgsDict = {
        "config_map": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    }
    return {"name": name, "projected": {"sources": [token, authority]}}


def probe(port: int, path: str, *, period_seconds: int, failures: int) -> ProbeArgsDict:
    """An HTTP probe; a busy server may take seconds to answer it."""
    return {
        "http_get": {"path": path, "port": port},
        "period_seconds": period_seconds,
        "timeout_seconds": 5,
        "failure_threshold": failures,
    }


def restarting(port: int, path: str, *, period_seconds: int = 15, failures: int = 6) -> ProbeArgsDict:
    """A probe after whose failures a server is started anew, without the time that its pod has to drain."""
    return {
        **probe(port, path, period_seconds=period_seconds, failures=failures),
        "termination_grace_period_seconds": HUNG_SECONDS,
    }


def script_container(
    name: str, image: str, command: Sequence[str], mounts: Mapping[str, str], env: Sequence[EnvVarArgsDict] = ()
) -> ContainerArgsDict:
    """A container that runs one of our scripts; `mounts` maps a volume's name to its path."""
    return {
        "name": name,
        "image": image,
        "command": ["python3", "-u", *command],
        "env": list(env),
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "security_context": RESTRICTED,
        "termination_message_policy": "FallbackToLogsOnError",
        "volume_mounts": [SCRATCH_MOUNT, *({"name": volume, "mount_path": path} for volume, path in mounts.items())],
    }


def job_spec(app: str, pod: PodSpecArgsDict, *, deadline_seconds: int) -> JobSpecArgsDict:
    """A Job's spec; `pod` need not say what every Job's pod says.

    A failed script ends the Job at once: it was as patient as it may be. A pod that Kubernetes took away, say from a
    drained node, is made anew. (FailJob would do it too, but Pulumi's wait knows no failed Job of that reason.)
    """
    taken_away: PodFailurePolicyRuleArgsDict = {
        "action": "Ignore",
        "on_pod_conditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    return {
        "active_deadline_seconds": deadline_seconds,
        "backoff_limit": 0,
        "pod_failure_policy": {"rules": [taken_away]},
        "template": {"metadata": {"labels": selector(app)}, "spec": {"restart_policy": "Never", **pod}},
    }


def timeouts(seconds: int, *, drain: int = 0) -> pulumi.CustomTimeouts:
    """Pulumi's own wait: a minute more than the cluster's, so that the cluster's verdict is the one shown.

    `drain` is what a removed object's pods may take until they are gone, in seconds.
    """
    text = f"{seconds + 60}s"
    return pulumi.CustomTimeouts(create=text, update=text, delete=f"{max(drain, DELETE_SECONDS) + 60}s")
