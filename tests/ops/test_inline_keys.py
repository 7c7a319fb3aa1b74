"""Keys in a document: found in every form that YAML has, and taken out without another character changed."""

import string

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ops.inline_keys import inline_keys, names_key, referred, replaced

CHARACTERS = string.ascii_letters + string.digits + " :#'\"\\{}[],&*!|>%@`-_?"


@given(
    value=st.text(CHARACTERS, min_size=12, max_size=40).map(lambda it: f"canary{it}"),
    before=st.dictionaries(st.sampled_from(["a", "b", "c"]), st.one_of(st.integers(), st.text(CHARACTERS))),
    flow=st.sampled_from([True, False]),
    style=st.sampled_from(["", "'", '"']),
)
def test_any_value_leaves_the_text_and_all_else_stays(
    value: str, before: dict[str, object], *, flow: bool, style: str
) -> None:
    content = {"settings": {**before, "api_key": value}, "after": [1, {"b": "x"}]}
    text = yaml.safe_dump(content, sort_keys=False, default_flow_style=flow, default_style=style or None)
    found = inline_keys(text, "litellm")
    assert [it.value for it in found] == [value]
    changed = replaced(text, dict.fromkeys(found, "os.environ/LEGACY_KEY_1"))
    assert yaml.safe_load(changed) == {**content, "settings": {**before, "api_key": "os.environ/LEGACY_KEY_1"}}
    assert changed.replace("os.environ/LEGACY_KEY_1", "") == text[: found[0].start] + text[found[0].end :]


@pytest.mark.parametrize(
    "name",
    ["api_key", "apiKey", "OPENAI_API_KEY", "x-api-key", "master_key", "redis_password", "Authorization", "jwtSecret"],
)
def test_a_name_tells_of_a_key(name: str) -> None:
    assert names_key(name)


@pytest.mark.parametrize(
    "name", ["model_name", "max_tokens", "input_cost_per_token", "keys", "key_management_system", "titleModel"]
)
def test_a_name_tells_of_none(name: str) -> None:
    assert not names_key(name)


def test_a_block_of_several_lines_is_taken_out_whole() -> None:
    text = "api_key: |\n  canary\n  second line\nnext: 1\n"
    (found,) = inline_keys(text, "litellm")
    assert replaced(text, {found: "os.environ/LEGACY_KEY_1"}) == "api_key: os.environ/LEGACY_KEY_1\nnext: 1\n"


def test_an_anchored_key_stands_once_and_its_aliases_follow() -> None:
    text = "a: &all {api_key: &k canary}\nb: {<<: *all, x: 1}\nc: {api_key: *k}\n"
    (found,) = inline_keys(text, "litellm")
    changed = yaml.safe_load(replaced(text, {found: "gone"}))
    assert [changed[name]["api_key"] for name in "abc"] == ["gone", "gone", "gone"]


def test_a_document_that_holds_itself_is_read_once() -> None:
    assert [it.value for it in inline_keys("a: &x {b: *x, api_key: canary}", "litellm")] == ["canary"]


def test_what_is_no_yaml_is_said_to_be_none() -> None:
    with pytest.raises(ValueError, match="is not YAML"):
        inline_keys("a: [", "litellm")


def test_two_documents_that_differ_in_their_keys_alone_are_the_same_without() -> None:
    assert referred("api_key: one") == referred("api_key: os.environ/LEGACY_KEY_7") == referred("api_key: 'two'")
    assert referred("api_key: one") != referred("api_key: unused")
