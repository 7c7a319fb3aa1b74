import hashlib
import io
import json
import tarfile
from pathlib import Path

from local.machine.layout import PAUSE_IMAGE
from local.machine.pause import write_archive


def test_the_archive_names_the_sandbox_image_and_holds_the_binary(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"wait")
    (tmp_path / "binary").chmod(0o755)
    write_archive(tmp_path / "binary", tmp_path / "pause.tar")
    with tarfile.open(tmp_path / "pause.tar") as archive:
        blobs = {name: file.read() for name in archive.getnames() if (file := archive.extractfile(name))}
    for name, content in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(content).hexdigest()}"
    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == PAUSE_IMAGE
    manifest = json.loads(blobs["blobs/" + entry["digest"].replace(":", "/")])
    layer = blobs["blobs/" + manifest["layers"][0]["digest"].replace(":", "/")]
    with tarfile.open(fileobj=io.BytesIO(layer)) as files:
        binary = files.extractfile("pause")
        assert binary is not None
        assert binary.read() == b"wait"
        assert files.getmember("pause").mode & 0o555 == 0o555


def test_nothing_else_is_left_beside_the_archive(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"wait")
    (tmp_path / "state").mkdir()
    write_archive(tmp_path / "binary", tmp_path / "state" / "pause.tar")
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["pause.tar"]
