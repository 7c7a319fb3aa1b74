"""OCI images by hand: a layer is a tar file, config and manifest are JSON; the same content gives the same bytes."""

import hashlib
import json
import platform
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
# Not compressed: nothing travels farther than this machine, and packing costs more than it saves.
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"

_MTIME = 1
"""Seconds since 1970 of every file; not 0, which some tools read as "unknown"."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One tar file."""

    path: Path
    digest: str
    """`sha256:<hex>` of the tar file, packed and unpacked alike."""

    @property
    def size(self) -> int:
        """Size of the tar file in bytes."""
        return self.path.stat().st_size


@dataclass(frozen=True, kw_only=True)
class Image:
    """A name as it stands in a manifest, such as `docker.io/library/python:3.11`, and what it stands for."""

    name: str
    layers: tuple[Layer, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    """`NAME=value` each."""
    workdir: str = "/"

    @property
    def config(self) -> bytes:
        """The image config: what runs, and the layers' digests."""
        return _json(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "config": {
                    "Entrypoint": list(self.entrypoint) or None,
                    "Cmd": list(self.cmd) or None,
                    "Env": list(self.env),
                    "WorkingDir": self.workdir,
                },
                "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in self.layers]},
            }
        )

    @property
    def manifest(self) -> bytes:
        """What a registry keeps under the image's tag."""
        config = {"mediaType": CONFIG_TYPE, "digest": digest_of(self.config), "size": len(self.config)}
        layers = [{"mediaType": LAYER_TYPE, "digest": layer.digest, "size": layer.size} for layer in self.layers]
        return _json({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config, "layers": layers})

    @property
    def digest(self) -> str:
        """The image's own digest: that of its manifest."""
        return digest_of(self.manifest)


def digest_of(content: bytes) -> str:
    """`sha256:<hex>`."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def write_layer(root: Path, tar: Path) -> str:
    """Write all below `root` to a tar file and return its digest.

    Owner root, readable by anybody, one time for all, sorted, no set-id bits; device files, pipes and sockets are
    left out.
    """
    with tarfile.open(tar, "w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(root.rglob("*")):
            _add(archive, path, path.relative_to(root).as_posix())
    with tar.open("rb") as written:
        return f"sha256:{hashlib.file_digest(written, 'sha256').hexdigest()}"


def _add(archive: tarfile.TarFile, path: Path, name: str) -> None:
    info = archive.gettarinfo(path, name)
    if not (info.isreg() or info.isdir() or info.issym() or info.islnk()):
        return
    # Whatever the umask was: pods run as any user.
    info.mode = info.mode & 0o1777 | 0o444 | (0o111 if info.mode & 0o100 else 0)
    info.mtime = _MTIME
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    if info.isreg():
        with path.open("rb") as content:
            archive.addfile(info, content)
    else:
        archive.addfile(info)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
