"""The sandbox image, as an archive that containerd imports: one static binary that waits."""

import io
import json
import shutil
import tarfile
import tempfile
from pathlib import Path

from local.images.oci import MANIFEST_TYPE, Image, Layer, write_layer
from local.machine.layout import PAUSE_IMAGE


def write_archive(binary: Path, archive: Path) -> None:
    """Write an OCI image layout of `binary` as a tar file, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=archive.parent) as work:
        root, tar = Path(work, "root"), Path(work, "layer.tar")
        root.mkdir()
        shutil.copy(binary, root / "pause")
        layer = Layer(path=tar, digest=write_layer(root, tar))
        image = Image(name=PAUSE_IMAGE, layers=(layer,), entrypoint=("/pause",))
        partial = Path(work, "archive.tar")
        with tarfile.open(partial, "w") as into:
            _add(into, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
            _add(into, "index.json", _index(image))
            manifest = json.loads(image.manifest)
            blobs = {image.digest: image.manifest, manifest["config"]["digest"]: image.config}
            for digest, content in {**blobs, layer.digest: tar.read_bytes()}.items():
                _add(into, f"blobs/{digest.replace(':', '/')}", content)
        partial.rename(archive)


def _index(image: Image) -> bytes:
    descriptor = {
        "mediaType": MANIFEST_TYPE,
        "digest": image.digest,
        "size": len(image.manifest),
        "annotations": {"io.containerd.image.name": image.name},
    }
    return json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))
