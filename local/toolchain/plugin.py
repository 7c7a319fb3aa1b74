"""Pulumi's Kubernetes provider, where Pulumi looks for it."""

import os
import shutil
import tempfile
from pathlib import Path

from local.console import say
from local.system import answer
from local.toolchain.pieces import PROVIDER, PROVIDER_VERSION
from local.toolchain.store import building_lock, make

INSTALL_SECONDS = 60.0


def plugin_binary() -> Path:
    """The provider, in Pulumi's own folder of plugins."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    return home / "plugins" / f"resource-kubernetes-v{PROVIDER_VERSION}" / "pulumi-resource-kubernetes"


def plugin_stands() -> bool:
    """Whole: Pulumi itself marks an unfinished installation with a `.partial` file."""
    binary = plugin_binary()
    return os.access(binary, os.X_OK) and not binary.parent.with_name(f"{binary.parent.name}.partial").exists()


def ask_pulumi(pulumi: Path) -> bool:
    """Let an installed Pulumi download it; whether it stands then."""
    say(f"asking pulumi for its Kubernetes provider {PROVIDER_VERSION}")
    install = [str(pulumi), "plugin", "install", "resource", "kubernetes", f"v{PROVIDER_VERSION}"]
    answer(install, seconds=INSTALL_SECONDS)
    return plugin_stands()


def build_plugin() -> None:
    """Build it, and put it in place whole."""
    built = make(PROVIDER) / PROVIDER.commands[0]
    binary = plugin_binary()
    final = binary.parent
    final.parent.mkdir(parents=True, exist_ok=True)
    with building_lock():
        if plugin_stands():
            return
        # A name that Pulumi does not read as a plugin's.
        place = Path(tempfile.mkdtemp(prefix=".llama-chat-", dir=final.parent))
        try:
            _link_or_copy(built, place / binary.name)
            shutil.rmtree(final, ignore_errors=True)
            place.chmod(0o755)
            place.rename(final)
            final.with_name(f"{final.name}.partial").unlink(missing_ok=True)
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copy2(source, target)
