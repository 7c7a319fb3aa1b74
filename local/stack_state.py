"""What the local stack keeps between commands: passphrase, master key and Pulumi's own state, for its owner alone."""

import os
import secrets
from pathlib import Path

from local.paths import Instance

MASTER_KEY = "master-key"
PASSPHRASE = "passphrase"  # noqa: S105 - the name of the file that holds it


def secret(instance: Instance, name: str) -> str:
    """A random value, made once, in a file of mode 0600 below the instance's state folder."""
    path = instance.state / name
    if not path.exists():
        instance.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = path.with_suffix(".part")
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write("sk-" + secrets.token_urlsafe(32))  # LiteLLM wants its keys to begin so
        partial.rename(path)
    return path.read_text()


def pulumi_environment(instance: Instance) -> dict[str, str]:
    """What makes Pulumi and kubectl use this machine's cluster and a state of its own."""
    secret(instance, PASSPHRASE)
    backend = instance.state / "pulumi"
    backend.mkdir(mode=0o700, parents=True, exist_ok=True)
    return {
        "KUBECONFIG": str(instance.kubeconfig),
        "PULUMI_BACKEND_URL": f"file://{backend}",
        "PULUMI_CONFIG_PASSPHRASE_FILE": str(instance.state / PASSPHRASE),
        "PULUMI_SKIP_UPDATE_CHECK": "true",
    }


def locks(instance: Instance) -> list[Path]:
    """Pulumi's lock files: while one is there, it refuses every update."""
    return sorted((instance.state / "pulumi" / ".pulumi" / "locks").rglob("*.json"))
