"""One engine in front of many models on one GPU node, which loads what is asked for."""

import pulumi

from components.model_backend import BackendArgs, ModelBackend, Server
from config.backend import PoolBackend
from render.document import to_yaml
from render.llama_server import ANY_ADDRESS, CATALOG, PORT, router_arguments, router_presets
from render.llama_swap import COMMAND, llama_swap

SwapPoolArgs = BackendArgs[PoolBackend]


class SwapPool(ModelBackend):
    """llama-swap, or llama-server as a router; all files are on the volume before the first request."""

    def __init__(self, name: str, args: SwapPoolArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(name, args, engine(args.backend), opts)


def engine(backend: PoolBackend) -> Server:
    """The process that loads and unloads the pool's models."""
    if backend.engine == "llama-server":
        presets = {"presets.ini": router_presets(backend)}
        return Server(container="llama-server", engine="router", args=router_arguments(backend), documents=presets)
    return Server(
        container="llama-swap",
        engine="llama-swap",
        # the image's entrypoint names a file of its own and watches it; ours never changes
        command=[COMMAND],
        args=["-config", f"{CATALOG}/llama-swap.yaml", "-listen", f"{ANY_ADDRESS}:{PORT}"],
        documents={"llama-swap.yaml": to_yaml(llama_swap(backend))},
    )
