import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest

from local.images.oci import Image, Layer, write_layer
from local.images.rootfs import unpack


def _tree(root: Path) -> Path:
    (root / "etc").mkdir(parents=True)
    (root / "etc/b").write_text("b")
    (root / "etc/a").write_text("a")
    (root / "etc/absolute").symlink_to("/etc/a")
    (root / "etc/hard").hardlink_to(root / "etc/a")
    return root


def _members(tar: Path) -> list[tarfile.TarInfo]:
    with tarfile.open(tar) as archive:
        return archive.getmembers()


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(tmp_path: Path) -> None:
    first, second = _tree(tmp_path / "first"), _tree(tmp_path / "second")
    os.utime(second / "etc/a", (5, 5))
    digests = [write_layer(root, tmp_path / f"{root.name}.tar") for root in (first, second)]
    assert digests[0] == digests[1]
    assert (tmp_path / "first.tar").read_bytes() == (tmp_path / "second.tar").read_bytes()


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    digest = write_layer(_tree(tmp_path / "root"), tmp_path / "layer.tar")
    assert digest == f"sha256:{hashlib.sha256((tmp_path / 'layer.tar').read_bytes()).hexdigest()}"


def test_entries_are_sorted_and_belong_to_root_at_one_time(tmp_path: Path) -> None:
    write_layer(_tree(tmp_path / "root"), tmp_path / "layer.tar")
    members = _members(tmp_path / "layer.tar")
    assert [member.name for member in members] == ["etc", "etc/a", "etc/absolute", "etc/b", "etc/hard"]
    assert {(member.uid, member.gid, member.uname, member.mtime) for member in members} == {(0, 0, "", 1)}


def test_everybody_may_read_what_a_strict_umask_made(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root")
    (root / "etc").chmod(0o700)
    (root / "etc/a").chmod(0o600)
    (root / "etc/b").chmod(0o4700)
    write_layer(root, tmp_path / "layer.tar")
    modes = {member.name: member.mode for member in _members(tmp_path / "layer.tar")}
    assert (modes["etc"], modes["etc/a"], modes["etc/b"]) == (0o755, 0o644, 0o755)


def test_the_sticky_bit_of_tmp_stays(tmp_path: Path) -> None:
    (tmp_path / "root/tmp").mkdir(parents=True)
    (tmp_path / "root/tmp").chmod(0o1777)
    write_layer(tmp_path / "root", tmp_path / "layer.tar")
    assert _members(tmp_path / "layer.tar")[0].mode == 0o1777


def test_pipes_are_left_out(tmp_path: Path) -> None:
    root = _tree(tmp_path / "root")
    os.mkfifo(root / "etc/pipe")
    write_layer(root, tmp_path / "layer.tar")
    assert "etc/pipe" not in {member.name for member in _members(tmp_path / "layer.tar")}


@pytest.mark.usefixtures("cache")
def test_an_unpacked_layer_is_written_again_bit_by_bit(tmp_path: Path) -> None:
    tar, again = tmp_path / "layer.tar", tmp_path / "again.tar"
    digest = write_layer(_tree(tmp_path / "root"), tar)
    unpack(Layer(path=tar, digest=digest), tmp_path / "unpacked")
    assert (tmp_path / "unpacked/etc/absolute").readlink() == Path("/etc/a")
    assert write_layer(tmp_path / "unpacked", again) == digest


@pytest.mark.parametrize(("machine", "architecture"), [("x86_64", "amd64"), ("aarch64", "arm64")])
def test_config_and_manifest_tell_each_other_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, architecture: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    digest = write_layer(_tree(tmp_path / "root"), tmp_path / "layer.tar")
    layer = Layer(path=tmp_path / "layer.tar", digest=digest)
    image = Image(name="a", layers=(layer,), entrypoint=("/run", "-v"), cmd=("x",), env=("A=b",), workdir="/app")
    config, manifest = json.loads(image.config), json.loads(image.manifest)
    assert config["architecture"] == architecture
    assert config["rootfs"]["diff_ids"] == [digest]
    assert config["config"] == {"Entrypoint": ["/run", "-v"], "Cmd": ["x"], "Env": ["A=b"], "WorkingDir": "/app"}
    assert manifest["config"]["digest"] == f"sha256:{hashlib.sha256(image.config).hexdigest()}"
    assert manifest["config"]["size"] == len(image.config)
    assert [entry["size"] for entry in manifest["layers"]] == [(tmp_path / "layer.tar").stat().st_size]
    assert image.digest == f"sha256:{hashlib.sha256(image.manifest).hexdigest()}"


def test_an_image_is_known_by_its_content_and_not_by_its_name(tmp_path: Path) -> None:
    layer = Layer(path=tmp_path / "layer.tar", digest=write_layer(_tree(tmp_path / "root"), tmp_path / "layer.tar"))
    assert Image(name="a", layers=(layer,)).digest == Image(name="b", layers=(layer,)).digest
    assert Image(name="a", layers=(layer,)).digest != Image(name="a", layers=(layer,), cmd=("x",)).digest
