import os
from pathlib import Path

import pytest

from config.errors import UserError
from local import models, tiny_gguf


@pytest.fixture
def assembled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Path]:
    """Each assembly's scratch directory; the cache is empty, and uv is not asked."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls: list[Path] = []

    def assemble(work: Path) -> None:
        calls.append(work)
        (work / "venv").mkdir()
        (work / "out").mkdir()
        (work / "out" / models.FILENAME).write_bytes(b"GGUF")
        (work / "out" / "README.md").write_text("terms\n")

    monkeypatch.setattr(models, "_assemble", assemble)
    return calls


def test_a_model_is_assembled_once_and_published_under_its_repository(assembled: list[Path], tmp_path: Path) -> None:
    for _ in range(2):
        models.publish(tmp_path / "hub")
    published = tmp_path / "hub" / "llama-chat" / "gemma-3-270m-GGUF"
    assert {file.name: file.read_bytes() for file in published.iterdir()} == {
        "gemma-3-270m-Q4_K_M.gguf": b"GGUF",
        "README.md": b"terms\n",
    }
    assert len(assembled) == 1
    assert not assembled[0].exists()


@pytest.mark.usefixtures("assembled")
def test_what_is_in_place_is_left_alone_and_what_differs_is_put_right(tmp_path: Path) -> None:
    models.publish(tmp_path / "hub")
    file = tmp_path / "hub" / models.REPO / models.FILENAME
    inode = file.stat().st_ino
    models.publish(tmp_path / "hub")
    assert file.stat().st_ino == inode
    file.unlink()
    file.write_bytes(b"half")
    models.publish(tmp_path / "hub")
    assert file.read_bytes() == b"GGUF"


@pytest.mark.usefixtures("assembled")
def test_the_tiny_models_are_whole_files_each_of_its_own_in_its_own_repository(tmp_path: Path) -> None:
    models.publish(tmp_path / "hub")
    published = {name: tmp_path / "hub" / "llama-chat" / f"{name}-GGUF" for name in models.TINY}
    assert len(published) == 4
    assert {file.name for file in published["tiny-ada"].iterdir()} == {"tiny-ada-F32.gguf", "README.md"}
    assert all("Apache-2.0" in (repository / "README.md").read_text() for repository in published.values())
    contents = {(repository / f"{name}-F32.gguf").read_bytes() for name, repository in published.items()}
    assert {content[:4] for content in contents} == {b"GGUF"}
    assert len(contents) == 4


@pytest.mark.usefixtures("assembled")
def test_a_tiny_model_is_made_once_and_put_right_by_its_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.publish(tmp_path / "hub")
    file = tmp_path / "hub" / "llama-chat" / "tiny-ada-GGUF" / "tiny-ada-F32.gguf"
    inode, content, changed = file.stat().st_ino, file.read_bytes(), file.stat().st_mtime_ns
    monkeypatch.setattr(tiny_gguf, "write", None)
    models.publish(tmp_path / "hub")
    assert file.stat().st_ino == inode
    file.write_bytes(bytes(len(content)))
    os.utime(file, ns=(changed, changed))
    models.publish(tmp_path / "hub")
    assert file.read_bytes() == content
    assert {path.name for path in file.parent.iterdir()} == {"tiny-ada-F32.gguf", "README.md"}


@pytest.mark.usefixtures("assembled")
def test_what_fails_halfway_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, **_: object) -> None:
        path.write_bytes(b"GGUF")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiny_gguf, "write", fail)
    with pytest.raises(OSError, match="No space"):
        models.publish(tmp_path / "hub")
    assert not list(tmp_path.rglob("*tiny*.gguf*"))


@pytest.mark.usefixtures("assembled")
def test_another_file_system_gets_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_source: object, _target: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    models.publish(tmp_path / "hub")
    assert (tmp_path / "hub" / models.REPO / models.FILENAME).read_bytes() == b"GGUF"


def test_without_uv_it_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UV", raising=False)
    with pytest.raises(UserError, match="install uv"):
        models.publish(tmp_path / "hub")
    assert list((tmp_path / "cache" / "llama-chat" / "models").iterdir()) == []
