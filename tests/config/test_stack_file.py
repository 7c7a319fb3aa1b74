from pathlib import Path

import pytest

from config.errors import UserError
from config.stack_file import read


def text(tmp_path: Path, content: str | bytes) -> Path:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return file


def test_other_namespaces_and_pulumis_own_keys_are_left_out(tmp_path: Path) -> None:
    file = text(
        tmp_path,
        "encryptionsalt: v1:x\nsecretsprovider: passphrase\nconfig:\n  aws:region: x\n  llama-chat:gpu: {count: 1}\n",
    )
    assert read(file) == {"gpu": {"count": 1}}


def test_a_key_may_stand_as_pulumi_allows_it(tmp_path: Path) -> None:
    file = text(tmp_path, "config:\n  steady: true\n  llama-chat:config:grace_seconds: 60\n")
    assert read(file) == {"steady": True, "grace_seconds": 60}


def test_values_are_read_as_pulumi_reads_them(tmp_path: Path) -> None:
    file = text(
        tmp_path,
        "config:\n  a: [on, No, 1.0, 1.5, 0x10, 1:30, ~, 'true', 1e3, 12e]\n  base: &b {x: 1}\n  c: {<<: *b, 2: y}\n",
    )
    assert read(file) == {
        "a": ["on", "No", 1, 1.5, 16, "1:30", None, "true", 1000, "12e"],
        "base": {"x": 1},
        "c": {"x": 1, "2": "y"},
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("config: {a: [}", "is not YAML at line 1, column 14: correct it."),
        ("config: {a: &a [*a]}", "is not YAML: correct it."),
        ("config: {a: !!int x}", "is not YAML: correct it."),
        ("config: {a: !python/object:os.system x}", "is not YAML at line 1, column 13: correct it."),
        ("a: 1\n---\nb: 2\n", "is not YAML at line 2, column 1: correct it."),
        (b"config: \xff", "is not UTF-8 text: save it as UTF-8."),
        ("config: {a: 2026-01-02}", "2026-01-02 is a date to YAML: put it in quotes."),
        ("config: {a: !!binary aGk=}", "a !!binary, !!set or !!pairs: write plain text, a list or an object."),
        ("", "has no config block: add `config:` with the keys `llama-chat:…`."),
        ("- config", "has no config block: add `config:` with the keys `llama-chat:…`."),
        ("config:\n", "has no config block: add `config:` with the keys `llama-chat:…`."),
        ("config:\n  llama-chat:gpu:\n    count: 1\n    count: 2\n", "count stands twice (line 4): remove one."),
        ("config: {}\nconfig: {}\n", "config stands twice (line 2): remove one."),
        ("config: {steady: true, llama-chat:steady: false}", "llama-chat:steady stands twice: remove one."),
        ("config: {a: {hf_abcd1234: 1, hf_abcd1234: 2}}", "(hidden) stands twice (line 1): remove one."),
    ],
)
def test_a_file_that_is_no_stack_file_is_refused_in_one_line(content: str | bytes, fault: str, tmp_path: Path) -> None:
    file = text(tmp_path, content)
    with pytest.raises(UserError) as caught:
        read(file)
    assert str(caught.value) == f"{file}: {fault}"


def test_a_missing_file_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^\S+/none\.yaml: cannot be read \(No such file or directory\): name a stack"):
        read(tmp_path / "none.yaml")
