"""A stack file is changed where it stands, and nowhere else."""

import pytest
import yaml

from config.errors import UserError
from ops.stack_edit import with_block, with_entry, with_value

LINES = ["keys: [A]", "routes:", "  - {name: a}"]
VALUE = {"keys": ["A"], "routes": [{"name": "a"}]}


def legacy(text: str) -> object:
    return yaml.safe_load(text)["config"]["llama-chat:legacy"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "config:\n  llama-chat:gateway: {a: 1} # x\n  b: 2\n",
            "config:\n  llama-chat:gateway: {a: 1} # x\nNEW\n  b: 2\n",
        ),
        (
            "config:\n  llama-chat:gateway:\n    a: 1 # x\n\n  # y\n  b: 2",
            "config:\n  llama-chat:gateway:\n    a: 1 # x\nNEW\n\n  # y\n  b: 2",
        ),
        (
            "config:\n  llama-chat:gateway:\n  - a: [1,\n      2]",
            "config:\n  llama-chat:gateway:\n  - a: [1,\n      2]\nNEW",
        ),
        ("config:\n  gateway: x\n", "config:\n  gateway: x\nNEW\n"),
        ("config:\n  llama-chat:legacy: {}\n  b: 2\n", "config:\nNEW\n  b: 2\n"),
        ("config:\n  llama-chat:legacy:\n    routes:\n    - a\n  # y\n  b: 2\n", "config:\nNEW\n  # y\n  b: 2\n"),
        ("config:\n  llama-chat:legacy:\n  b: 2\n", "config:\nNEW\n  b: 2\n"),
        ("config:\n    legacy: {a: {b: 1}} # z\n", "config:\nNEW # z\n"),
    ],
    ids=["one line", "block", "list", "bare name", "replaced", "replaced block", "replaced null", "other indent"],
)
def test_a_key_stands_after_the_others_or_in_its_old_place(before: str, after: str) -> None:
    indent = "    " if "    legacy" in before else "  "
    block = "\n".join(
        [f"{indent}llama-chat:legacy:", *(f"{indent}  {line}" for line in LINES)],
    )
    text = with_block(before, "legacy", LINES, ["frontend", "gateway"])
    assert text == after.replace("NEW", block)
    assert legacy(text) == VALUE
    assert with_block(text, "legacy", LINES, []) == text


@pytest.mark.parametrize("text", ["config: {llama-chat:gateway: {}}\n", "config:\n  aws:region: x\n", "a: 1\n"])
def test_a_file_in_which_there_is_no_place_for_it_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="llama-chat:legacy: cannot be added: write `config:` as a block"):
        with_block(text, "legacy", LINES, ["gateway"])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{a: {name: x, key: y}, b: 1} # c", "{a: {name: n}, b: 1} # c"),
        ("\n    a:\n      name: x # old\n      key: y # c\n    b: 1", "\n    a:\n      {name: n} # c\n    b: 1"),
    ],
)
def test_a_value_is_exchanged_for_one_on_one_line(before: str, after: str) -> None:
    text = with_value(f"config:\n  llama-chat:gateway: {before}\n", ("gateway", "a"), {"name": "n"})
    assert text == f"config:\n  llama-chat:gateway: {after}\n"
    assert yaml.safe_load(text)["config"]["llama-chat:gateway"] == {"a": {"name": "n"}, "b": 1}


def test_a_value_that_a_merge_brings_in_is_refused() -> None:
    text = "x: &x {a: 1}\nconfig:\n  llama-chat:gateway: {<<: *x}\n"
    with pytest.raises(UserError, match="llama-chat:gateway: stands in a form that cannot be edited"):
        with_value(text, ("gateway", "a"), 2)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("  llama-chat:m: {phase: a, n: 1} # x\n", "  llama-chat:m: {phase: b, n: 1} # x\n"),
        ("  llama-chat:m: {n: 1} # x\n", "  llama-chat:m: {phase: b, n: 1} # x\n"),
        ("  llama-chat:m: {} # x\n", "  llama-chat:m: {phase: b} # x\n"),
        (
            "  llama-chat:m:\n    # y\n    n:\n      - 1 # z\n\n  # other\n",
            "  llama-chat:m:\n    # y\n    n:\n      - 1 # z\n    phase: b\n\n  # other\n",
        ),
        ("  m:\n      n: 1", "  m:\n      n: 1\n      phase: b"),
        ("  llama-chat:g: 1 # x\n  b: 2\n", "  llama-chat:g: 1 # x\n  llama-chat:m:\n    phase: b\n  b: 2\n"),
    ],
    ids=["there already", "in braces", "empty", "block", "bare name and no end of line", "no object"],
)
def test_a_key_of_an_object_is_changed_or_added(before: str, after: str) -> None:
    text = with_entry(f"config:\n{before}", "m", "phase", "b", ["g"])
    assert text == f"config:\n{after}"
    assert with_entry(text, "m", "phase", "b", ["g"]) == text
