"""What ran before, as it lies beside the stack files."""

import contextvars
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml

from config import legacy
from config.errors import UserError
from config.legacy import Adopted, folder_of, librechat_document, load_adopted
from config.load import load_file, load_unadopted
from config.lock import Lock
from config.model import StackConfig
from tests.conftest import stack_config
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, adopted, adopting_values

Values = dict[str, Any]


def write(folder: Path, **changes: str | None) -> Path:
    """A stack's folder as `make adopt` leaves it; a file that is None is not there."""
    files: dict[str, str | None] = {
        "litellm": LITELLM,
        "librechat": LIBRECHAT,
        "gateway": yaml.safe_dump(GATEWAY),
        "frontend": yaml.safe_dump(FRONTEND),
    }
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in {**files, **changes}.items():
        if text is not None:
            (folder / f"{name}.yaml").write_bytes(text.encode())
    return folder


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the folders of all stacks lie."""
    monkeypatch.setattr(legacy, "LEGACY", tmp_path / "legacy")
    return tmp_path / "legacy"


def test_the_folder_is_named_after_the_stack_beside_the_stack_files() -> None:
    assert folder_of("prod") == Path(__file__).parents[2] / "legacy" / "prod"


def test_what_was_adopted_is_read_byte_for_byte(tmp_path: Path) -> None:
    text = LITELLM.replace("\n", "\r\n")
    found = load_adopted(write(tmp_path / "prod", litellm=text))
    assert found is not None
    assert (found.litellm, found.librechat, found.gateway, found.frontend) == (text, LIBRECHAT, GATEWAY, FRONTEND)
    assert found.names == ("general-chat", "code-chat", "reasoning-chat")


def test_nothing_was_adopted_where_there_is_no_folder(tmp_path: Path) -> None:
    assert load_adopted(tmp_path / "prod") is None


def test_a_gateway_may_be_adopted_alone(tmp_path: Path) -> None:
    found = load_adopted(write(tmp_path, librechat=None, frontend=None))
    assert found is not None
    assert (found.librechat, found.frontend) == ("", {})


def test_what_was_retired_lies_in_the_same_folder(tmp_path: Path) -> None:
    folder = write(tmp_path / "legacy" / "prod")
    assert [it.retired for it in [load_adopted(folder)] if it] == [""]
    (folder / "retired").mkdir()
    assert [it.retired for it in [load_adopted(folder)] if it] == ["legacy/prod/retired"]


RESTORE = "restore it from git, or run `make adopt` with the stack's name as STACK"


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("litellm", None, "is missing"),
        ("gateway", None, "is missing"),
        ("litellm", "model_list: [", "is not YAML at line 1"),
        ("litellm", "- a", "is not a mapping of keys"),
        ("litellm", "model_list: {}", "has no model_list of entries with model_name and litellm_params"),
        ("litellm", "model_list: [{model_name: a}]", "has no model_list of entries with model_name and litellm_params"),
        ("librechat", "a: &a [*a", "is not YAML at line 1"),
        ("librechat", "endpoints: {custom: [{apiKey: x}]}", "has no endpoints.custom of entries with a name"),
        ("gateway", "kind: Pod", "is no Deployment"),
        ("frontend", "}", "is not YAML at line 1"),
    ],
)
def test_a_file_that_is_not_what_it_was_is_told_by_name(
    tmp_path: Path, name: str, text: str | None, fault: str
) -> None:
    folder = write(tmp_path, **{name: text})
    with pytest.raises(UserError) as caught:
        load_adopted(folder)
    assert str(caught.value) == f"{folder / name}.yaml: {fault}: {RESTORE}"


def test_a_file_that_is_no_text_is_told_by_name(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "litellm.yaml").write_bytes(b"\xff")
    with pytest.raises(UserError, match=rf"litellm\.yaml: cannot be read \(.*\): {RESTORE}"):
        load_adopted(folder)


def test_a_stack_file_is_loaded_with_what_was_adopted_for_it(beside: Path, tmp_path: Path) -> None:
    write(beside / "homelab")
    file = tmp_path / "Pulumi.homelab.yaml"
    config = {f"llama-chat:{name}": value for name, value in adopting_values().items()}
    file.write_text(yaml.safe_dump({"config": config}))
    assert load_file(file).adopted == adopted()
    other = file.rename(tmp_path / "other.yaml")
    assert load_file(other, adopted=folder_of("homelab")).adopted == adopted()
    with pytest.raises(UserError, match="was not read yet"):
        load_file(other)
    assert load_unadopted(other).adopted == Adopted()


@pytest.mark.usefixtures("kubeconfig")
def test_a_program_is_loaded_with_what_was_adopted_for_its_stack(
    beside: Path, as_program: Callable[[Values], StackConfig]
) -> None:
    write(beside / pulumi.get_stack())
    assert as_program(adopting_values()).adopted == adopted()
    (beside / pulumi.get_stack() / "litellm.yaml").unlink()
    with pytest.raises(pulumi.RunError, match=r"litellm\.yaml: is missing"):
        contextvars.copy_context().run(as_program, adopting_values())


def test_a_gateway_of_ours_has_adopted_nothing(beside: Path, as_file: Callable[[Values], StackConfig]) -> None:
    write(beside / "dev")
    values = adopting_values()
    values |= {"legacy": {}, "frontend": {}}
    values["gateway"]["mode"] = "deploy"
    assert as_file(values).adopted == Adopted()


def test_the_lock_and_what_was_adopted_do_not_forget_each_other() -> None:
    lock, found = Lock(), adopted()
    config = stack_config(adopting_values())
    assert config.with_adopted(found).with_lock(lock).adopted is found
    assert config.with_lock(lock).with_adopted(found).lock is lock


@pytest.mark.parametrize("name", ["", " general", "general\nchat", "a\tb"])
def test_a_legacy_name_is_one_line_of_text(name: str) -> None:
    values = adopting_values()
    values["legacy"]["routes"][0]["name"] = name
    with pytest.raises(ValueError, match=r"legacy.routes.0.name"):
        stack_config(values)


def test_librechats_numbers_and_switches_are_read_as_librechat_reads_them() -> None:
    text = "endpoints: {custom: []}\na: [yes, true, 010, 12, 0x1F, 1.5, 1e3, ~, 2024-01-02, 1_000]\n"
    assert librechat_document(text)["a"] == ["yes", True, "010", 12, 31, 1.5, 1000.0, None, "2024-01-02", "1_000"]
