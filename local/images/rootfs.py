"""The base of all images: a small Debian with Python and curl."""

import os
import platform
import shutil
from pathlib import Path

from local.console import run_logged
from local.images.oci import Layer
from local.images.store import cached_layer
from local.paths import cache_dir
from local.system import answer, require_packages

_RECIPE = 1
"""Raise it when the code below makes something else of the same packages."""
SUITE = "bookworm"
PYTHON = "3.11.2"
"""What that suite's `python3` is."""
PACKAGES = ("ca-certificates", "curl", "python3")

# Caches, documentation, and what debootstrap copies from the machine that it runs on.
_UNWANTED = (
    *("dev/*", "proc/*", "run/*", "sys/*", "tmp/*", "var/tmp/*", "var/log/*"),
    *("var/cache/apt/*", "var/cache/debconf/*", "var/cache/ldconfig/*", "var/lib/apt/lists/*"),
    *("usr/share/doc/*", "usr/share/info/*", "usr/share/lintian/*", "usr/share/locale/*", "usr/share/man/*"),
    *("etc/hostname", "etc/resolv.conf", "etc/apt/sources.list"),
)


def base() -> Layer:
    """Debian's minimal root file system with `PACKAGES`; the first time takes about a minute, and root."""
    return cached_layer("base", base_key(), _build)


def base_key() -> str:
    """All that decides the base layer's content."""
    return f"{_RECIPE} {platform.machine()} {SUITE} {' '.join(PACKAGES)}"


def images_log() -> Path:
    """What the commands that make images print."""
    return cache_dir() / "logs" / "images.log"


def contained(*command: str) -> list[str]:
    """A command that ends when we end, however we end, and takes its mounts with it."""
    namespaces = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    return ["setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--", *command]


def unpack(layer: Layer, root: Path) -> None:
    """Lay a layer's files below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    # tar, not tarfile: what this has for trusted archives differs from one Python to the next.
    command = ["tar", "--extract", "--file", str(layer.path), "--directory", str(root)]
    run_logged(f"unpacking {layer.path.parent.name}", command, log=images_log())


def compile_python(root: Path, *folders: str) -> None:
    """Compile the Python files in these folders of a root file system, with its own Python.

    A read-only container cannot keep what it compiles: LiteLLM takes 7.5 s to start without this, and 4.3 s with it.
    """
    # By hash, and never checked again: all files of a layer have one made-up time.
    compileall = ("python3", "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash")
    command = contained("chroot", str(root), *compileall, *folders)
    run_logged("compiling Python files", command, log=images_log(), env=_environment())


def _build(root: Path) -> None:
    require_packages("debootstrap")
    include = f"--include={','.join(PACKAGES)}"
    debootstrap = ("debootstrap", "--variant=minbase", include, SUITE, str(root), *_mirror())
    run_logged("base image: Debian and Python", contained(*debootstrap), log=images_log(), env=_environment())
    compile_python(root, "/usr/lib/python3", f"/usr/lib/python{PYTHON.rpartition('.')[0]}")
    for pattern in _UNWANTED:
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in ("python", "python3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/python3")


def _mirror() -> list[str]:
    """The mirror that this machine's apt uses; none where it has none of Debian's: debootstrap knows one."""
    targets = ("Created-By: Packages", "Origin: Debian", f"Codename: {SUITE}", "Component: main")
    printed = answer(["apt-get", "indextargets", "--format", "$(REPO_URI)", *targets], seconds=30) or ""
    return [uri for uri in printed.split() if uri.startswith(("http://", "https://"))][:1]


def _environment() -> dict[str, str]:
    # What runs in there is Debian's: no settings of ours, and its own folders on the PATH.
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    kept = {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**kept, "PATH": path, "LC_ALL": "C", "HOME": "/root"}
