"""Look before you apply: what the stack names must exist, or nothing is changed."""

from collections.abc import Iterator, Mapping
from typing import cast

from config.backend import Backend
from config.errors import ConfigError, Problem, UserError
from config.kubeconfig import require_context
from config.model import StackConfig
from config.parts import SecretKey, Toleration
from config.phases import PHASES
from local.console import say
from ops.claims import claims
from ops.drift import drift
from ops.kube import Kube, Object
from ops.room import Owners, lacking, starting_again

EXTERNAL_SECRETS = "externalsecrets.external-secrets.io"
INSTANCE, PART_OF = "app.kubernetes.io/instance", "app.kubernetes.io/part-of"


def preflight(config: StackConfig, kube: Kube, stack: str, *, overwrite: bool = False) -> None:
    """ConfigError with all that the cluster lacks, or has of somebody else's; UserError where it does not answer.

    `overwrite` lets an adopted document through that somebody has changed, and shows what in it.
    """
    require_context(config.cluster.context)
    complaint = kube.fails("get", "--raw", "/version")
    if complaint:
        raise UserError(
            f"llama-chat:cluster.context: {config.cluster.context}: its API server does not answer ({complaint}): "
            f"start the cluster, or correct the context's server and credentials."
        )
    operator = bool(config.external_secrets) and EXTERNAL_SECRETS in kube.items("customresourcedefinitions")
    made = frozenset(name for name, labels in kube.labels("deployments").items() if _is_ours(labels, stack))
    nodes, owners = cast("dict[str, Object]", kube.items("nodes")), Owners.of(config, made)
    problems = (
        *_nodes(config, kube, nodes, owners),
        *_storage(config, kube),
        *_namespace(config, kube),
        *_secrets(config, kube, operator=operator),
        *_strangers(config, kube, stack, operator=operator),
        *drift(config, kube, overwrite=overwrite),
        *_adopted(config, kube, stack, nodes),
    )
    if problems:
        raise ConfigError(problems)


def _nodes(config: StackConfig, kube: Kube, nodes: Mapping[str, Object], owners: Owners) -> Iterator[Problem]:
    for role, host in config.nodes.items():
        if host not in nodes:
            remedy = (
                f"the cluster has no such node: it has {', '.join(sorted(nodes))}; correct it, or take its role out of "
                "the stack file"
            )
            yield Problem(key=f"llama-chat:nodes.{role}", value=host, remedy=remedy)
    # on the way back to what ran before, a backend that stands already may be broken
    going_back = config.gateway.mode == "adopt" and config.migration.phase == PHASES[0]
    for backend in config.backends:
        if backend.host in nodes:
            node = nodes[backend.host]
            for remedy in (*lacking(backend, node, kube, owners), *_taints(backend, node)):
                found = Problem(key=f"llama-chat:nodes.{backend.role}", value=backend.host, remedy=remedy)
                if going_back and backend.name in owners.made:
                    say(f"told only: {found} (this backend stands already, and in {PHASES[0]} no user is led to it)")
                else:
                    yield found


def _is_ours(labels: Mapping[str, str], stack: str) -> bool:
    """Whether the stack made what is labelled so; an instance alone may be another program's."""
    return labels.get(INSTANCE) == stack and labels.get(PART_OF) == "llama-chat"


def _taints(backend: Backend, node: Object) -> Iterator[str]:
    for taint in node.get("spec", {}).get("taints", []):
        # those of Kubernetes' own tell a node's condition, and go with it
        keeps_out = taint["effect"] != "PreferNoSchedule" and not taint["key"].startswith("node.kubernetes.io/")
        if keeps_out and not any(_tolerates(it, taint) for it in backend.tolerations):
            told = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            yield f"the node has the taint {told}: add it to tolerations"


def _tolerates(toleration: Toleration, taint: Mapping[str, str]) -> bool:
    """Kubernetes' own rule (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/)."""
    same_value = toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", "")
    return toleration.key == taint["key"] and same_value and toleration.effect in {None, taint["effect"]}


def _storage(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    classes = kube.items("storageclasses")
    for name in sorted({backend.storage_class for backend in config.backends} - set(classes)):
        remedy = f"the cluster has no such StorageClass: it has {', '.join(sorted(classes)) or 'none'}"
        yield Problem(key="llama-chat:storage.class_name", value=name, remedy=remedy)
    yield from claims(config, kube, classes)


def _namespace(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    cluster = config.cluster
    if not cluster.create_namespace and cluster.namespace not in kube.items("namespaces"):
        remedy = "the cluster has no such namespace: make it, or set create_namespace: true"
        yield Problem(key="llama-chat:cluster.namespace", value=cluster.namespace, remedy=remedy)


def _secrets(config: StackConfig, kube: Kube, *, operator: bool) -> Iterator[Problem]:
    named = _named_secrets(config)
    for key, secret in named:
        if secret.external is None:
            yield from _secret(key, secret, kube)
    if not operator:
        remedy = "the cluster has no External Secrets Operator: install it, or make the Secret and leave external out"
        yield from (
            Problem(key=f"{key}.external.store", value=secret.external.store, remedy=remedy)
            for key, secret in named
            if secret.external
        )
    for name in sorted(set(config.pull_secrets).union(*(backend.pull_secrets for backend in config.backends))):
        if kube.secret_keys(name) is None:
            remedy = f"namespace {kube.namespace} has no such Secret: make it (kubectl create secret docker-registry)"
            yield Problem(key="llama-chat:pull_secrets", value=name, remedy=remedy)


def _named_secrets(config: StackConfig) -> list[tuple[str, SecretKey]]:
    """Those that the stack does not make of a value of its own, with their keys in the stack file."""
    keys = {"gateway.master_key_secret": config.gateway.master_key_secret, "hub.token_secret": config.hub.token_secret}
    return [(f"llama-chat:{key}", secret) for key, secret in keys.items() if secret and secret in config.named_secrets]


def _secret(key: str, secret: SecretKey, kube: Kube) -> Iterator[Problem]:
    keys = kube.secret_keys(secret.name)
    if keys is None:
        remedy = f"namespace {kube.namespace} has no such Secret: make it with the key {secret.key}"
        yield Problem(key=f"{key}.name", value=secret.name, remedy=remedy)
    elif secret.key not in keys:
        remedy = f"Secret {secret.name} has no such key: it has {', '.join(keys) or 'none'}"
        yield Problem(key=f"{key}.key", value=secret.key, remedy=remedy)


def _strangers(config: StackConfig, kube: Kube, stack: str, *, operator: bool) -> Iterator[Problem]:
    """Objects of somebody else's: the provider would take them over without a word (pulumi-kubernetes 4278).

    What is adopted is somebody else's.
    """
    keys = {backend.name: "llama-chat:statics[].role" for backend in config.pinned}
    keys |= {backend.name: "llama-chat:pools[].role" for backend in config.pooled}
    if config.gateway.mode == "deploy":
        keys[config.gateway.deployment] = "llama-chat:gateway.deployment"
    external = {secret.name: f"{key}.name" for key, secret in _named_secrets(config) if secret.external}
    secrets = dict(external)
    if config.has_master_key:
        secrets[config.gateway.master_key_secret.name] = "llama-chat:gateway.master_key_secret.name"
    kinds = {"deployments": keys, "services": keys}
    if config.frontend.mode == "none":
        kinds["configmaps"] = {config.frontend.config_map: "llama-chat:frontend.config_map"}
    if operator:
        kinds[EXTERNAL_SECRETS] = external
    standing = {kind: kube.labels(kind) for kind in kinds}
    # the operator gives a Secret the labels of the ExternalSecret that it is made of
    standing["secrets"] = {name: labels for name in secrets if (labels := kube.secret_labels(name)) is not None}
    for kind, found in standing.items():
        named = kinds.get(kind, secrets)
        for name, labels in found.items():
            if name in named and not _is_ours(labels, stack):
                remedy = f"one of the {kind} has that name already and is not stack {stack}'s: choose another name"
                yield Problem(key=named[name], value=name, remedy=remedy)


def _adopted(config: StackConfig, kube: Kube, stack: str, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    """What is adopted must find room to run, and be somebody else's."""
    yield from starting_again(config, kube, nodes)
    name = config.frontend.config_map
    if config.frontend.mode == "adopt" and _is_ours(kube.labels("configmaps").get(name, {}), stack):
        remedy = f"stack {stack} made it, in mode none, and would remove it now: have LibreChat read another one"
        yield Problem(key="llama-chat:frontend.config_map", value=name, remedy=remedy)
