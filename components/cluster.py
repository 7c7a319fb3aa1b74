"""The cluster that everything is put into, and what of it the stack itself makes."""

import pulumi
from pulumi_kubernetes import Provider
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.core.v1 import Namespace, Secret

from components.pods import metadata
from config.model import StackConfig
from config.parts import ExternalSecret, SecretKey


def provider(config: StackConfig) -> Provider:
    """The provider for the named context; a moved API server updates it, and replaces nothing."""
    context = config.cluster.context
    return Provider(
        "cluster",
        context=context,
        cluster_identifier=context,
        # what has a fixed name is read by pods that are running: it changes in place, and is never away
        enable_config_map_mutable=True,
        enable_secret_mutable=True,
    )


class Foundation(pulumi.ComponentResource):
    """Namespace and Secrets, each only where the stack file says that the stack makes it."""

    resources: list[pulumi.Resource]
    """What later objects wait for."""
    key_version: pulumi.Output[str] | None = None
    """Another one after each change of the master key, where the stack makes its Secret."""

    def __init__(
        self,
        name: str,
        config: StackConfig,
        master_key: pulumi.Output[str] | None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("llama-chat:cluster:Foundation", name, None, opts)
        self.resources = []
        namespace = config.cluster.namespace
        if config.cluster.create_namespace:
            self.resources.append(
                Namespace(
                    f"{name}-namespace",
                    metadata={"name": namespace},
                    # other people's objects, volumes and all, would go with it
                    opts=pulumi.ResourceOptions(parent=self, protect=True, retain_on_delete=True),
                )
            )
        if master_key is not None:
            secret = config.gateway.master_key_secret
            made = Secret(
                f"{name}-master-key",
                metadata=metadata(namespace, secret.name, config.gateway.deployment),
                string_data={secret.key: master_key},
                # a key that leaves the stack file stays in the cluster: the gateway's pods still read it
                opts=pulumi.ResourceOptions(parent=self, depends_on=list(self.resources), retain_on_delete=True),
            )
            self.resources.append(made)
            self.key_version = made.metadata.apply(lambda meta: str(meta.resource_version))
        self.resources += [
            external_secret(f"{name}-{secret.name}", namespace, secret, source, self)
            for secret, source in config.external_secrets
        ]
        self.register_outputs({"namespace": namespace})


def external_secret(
    name: str, namespace: str, secret: SecretKey, source: ExternalSecret, parent: Foundation
) -> CustomResource:
    """Have the External Secrets Operator make the Secret (https://external-secrets.io/latest/api/externalsecret/)."""
    reference = {"key": source.remote_key}
    if source.remote_property:
        reference["property"] = source.remote_property
    return CustomResource(
        name,
        api_version="external-secrets.io/v1",
        kind="ExternalSecret",
        # what mounts the Secret must find it
        metadata=metadata(namespace, secret.name, secret.name, {"pulumi.com/waitFor": "condition=Ready"}),
        spec={
            "refreshInterval": source.refresh,
            "secretStoreRef": {"name": source.store, "kind": source.store_kind},
            # what was read once stays where it is, without this object too: the pods still read it
            "target": {"name": secret.name, "creationPolicy": "Orphan"},
            "data": [{"secretKey": secret.key, "remoteRef": reference}],
        },
        opts=pulumi.ResourceOptions(parent=parent, depends_on=list(parent.resources)),
    )
