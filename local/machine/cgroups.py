"""The cgroup folders of a machine's containers: the one thing that namespaces do not take with them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from local.machine.layout import Layout

ROOT = Path("/sys/fs/cgroup")
CONTROLLERS = ("cpu", "cpuset", "hugetlb", "memory", "pids")
"""Those that a kubelet demands of cgroup v2, where the kernel has them."""
SECONDS = 5.0
"""How long a folder may still count processes that are gone."""


def make_cgroups(layout: Layout, root: Path = ROOT) -> None:
    """One folder for each node in each hierarchy: kubelets want theirs to exist, with all that they may limit."""
    for hierarchy in _hierarchies(root):
        top = hierarchy / layout.cgroup
        top.mkdir(exist_ok=True)
        if hierarchy == root:
            # cgroup v2 hands controllers down one level at a time.
            for folder in (root, top):
                known = (folder / "cgroup.controllers").read_text().split()
                wanted = (f"+{controller}" for controller in CONTROLLERS if controller in known)
                (folder / "cgroup.subtree_control").write_text(" ".join(wanted))
        for node in layout.nodes:
            (top / node.name).mkdir(exist_ok=True)


def remove_cgroups(name: str, root: Path = ROOT) -> None:
    """Remove the folder `name` and all below it in each hierarchy; OSError where something still runs there."""
    deadline = time.monotonic() + SECONDS
    for hierarchy in _hierarchies(root):
        top = hierarchy / name
        while top.is_dir():
            try:
                _remove(top)
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


def _remove(top: Path) -> None:
    # A cgroup's files cannot and need not be removed, only folders, the deepest first.
    for folder in sorted((path for path in top.rglob("*") if path.is_dir()), reverse=True):
        with suppress(FileNotFoundError):
            folder.rmdir()
    with suppress(FileNotFoundError):
        top.rmdir()


def _hierarchies(root: Path) -> Iterator[Path]:
    """The one of cgroup v2, or each controller's of v1."""
    if (root / "cgroup.controllers").exists():
        yield root
    else:
        yield from (path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
