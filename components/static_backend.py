"""One llama-server with one pinned model on one GPU node."""

import pulumi

from components.model_backend import BackendArgs, ModelBackend, Server
from config.backend import PinnedBackend
from render.llama_server import arguments

StaticBackendArgs = BackendArgs[PinnedBackend]


class StaticBackend(ModelBackend):
    """llama-server, which loads its model before it is ready and keeps it."""

    def __init__(self, name: str, args: StaticBackendArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        server = Server(container="llama-server", engine="llama-server", args=arguments(args.backend))
        super().__init__(name, args, server, opts)
