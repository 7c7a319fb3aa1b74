import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from config.errors import ConfigError, Problem
from config.load import checked
from config.secrecy import looks_secret, shown
from config.stack_file import read

Values = dict[str, Any]
BothWays = Callable[[Values], tuple[Problem, ...]]

LOCAL: Values = dict(read(Path(__file__).parents[2] / "Pulumi.local.yaml"))

WORDS = st.text("abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ123456789", min_size=20, max_size=40)
SECRETS = st.one_of(
    *(WORDS.map(prefix.__add__) for prefix in ("hf_", "sk-", "sk-ant-api03-", "ghp_", "github_pat_")),
    WORDS.map(lambda word: f"https://user:{word}@hub.example.org"),
    WORDS.map(lambda word: f"-----BEGIN RSA PRIVATE KEY-----\n{word}\n-----END RSA PRIVATE KEY-----"),
)


def places(value: JsonValue, where: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if where:
        yield where
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*where, key))


def at(where: tuple[str | int, ...]) -> JsonValue:
    value: Any = LOCAL
    for part in where:
        value = value[part]
    return value


# a host may be called sk-…: the cluster itself tells whether it is one of its nodes
PLACES = [where for where in places(LOCAL) if where[0] != "nodes" or len(where) == 1]
OBJECTS = [(), *(where for where in places(LOCAL) if isinstance(at(where), dict))]


def message(values: Values) -> str:
    with pytest.raises(ConfigError) as caught:
        checked(values)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return f"{caught.value}{caught.value!r}{caught.value.problems!r}"


@given(st.sampled_from(PLACES), SECRETS)
def test_a_secret_in_the_place_of_any_value_is_refused_and_never_shown(
    where: tuple[str | int, ...], secret: str
) -> None:
    values: Any = copy.deepcopy(LOCAL)
    target = values
    for part in where[:-1]:
        target = target[part]
    target[where[-1]] = secret
    assert secret not in message(values)
    assert secret[-16:] not in message(values)


@given(st.sampled_from(OBJECTS), SECRETS)
def test_a_secret_in_the_place_of_any_key_is_refused_and_never_shown(where: tuple[str | int, ...], secret: str) -> None:
    values: Any = copy.deepcopy(LOCAL)
    target = values
    for part in where:
        target = target[part]
    target[secret] = "x"
    assert secret not in message(values)


@pytest.mark.parametrize(
    ("name", "value", "key"),
    [
        ("cluster", {"context": "hf_abc123"}, "cluster.context"),
        ("hub", {"endpoint": "https://me:pass@hub.example.org"}, "hub.endpoint"),
        ("gateway", {"master_key_secret": {"name": "sk-1234", "key": "k"}}, "gateway.master_key_secret.name"),
        ("cluster", {"context": "-----BEGIN PRIVATE KEY-----"}, "cluster.context"),
    ],
)
def test_a_secret_that_the_schema_would_take_is_refused(
    name: str, value: JsonValue, key: str, values: Values, both_ways: BothWays
) -> None:
    (problem,) = both_ways(values | {name: value})
    assert (problem.key, problem.value) == (f"llama-chat:{key}", "(hidden)")
    assert problem.remedy.startswith("looks like a secret: revoke it, put a new one into a Secret")


def test_the_master_key_in_plain_is_refused_unseen(values: Values, both_ways: BothWays) -> None:
    (problem,) = both_ways(values | {"master_key": "correct horse"})
    assert (problem.key, problem.value) == ("llama-chat:master_key", "(hidden)")
    assert "`pulumi config set --secret llama-chat:master_key`" in problem.remedy


@pytest.mark.parametrize("where", ["inside an object", "at the top", "under an unknown key", "in a list"])
def test_an_encrypted_value_elsewhere_is_refused(where: str, values: Values, both_ways: BothWays) -> None:
    encrypted = {"secure": "v1:abc"}
    name, value = {
        "inside an object": ("gateway", {"master_key_secret": {"name": encrypted, "key": "k"}}),
        "at the top": ("grace_seconds", encrypted),
        "under an unknown key": ("hf", encrypted),
        "in a list": ("statics", [{"role": encrypted}]),
    }[where]
    (problem,) = both_ways(values | {name: value})
    assert (problem.key, problem.value) == (f"llama-chat:{name}", "(hidden)")
    assert problem.remedy.startswith("only llama-chat:master_key may be encrypted: ")


def test_an_encrypted_value_elsewhere_does_not_hide_other_problems(values: Values, both_ways: BothWays) -> None:
    values["gpu"]["count"] = 0
    problems = both_ways(values | {"gateway": {"secure": "v1:abc"}})
    assert [problem.key for problem in problems] == ["llama-chat:gateway", "llama-chat:gpu.count"]


@pytest.mark.parametrize(
    "text",
    ["hf_token", "hf-token", "hf_api_key", "owner/sk-llama-3-70b-instruct-GGUF", "owner/hf_models", "task-force",
     "ghcr.io/x/y:v1@sha256:" + "0" * 64, "https://huggingface.co/a@b", "risk-1234"],
)  # fmt: skip
def test_names_are_not_taken_for_secrets(text: str) -> None:
    assert not looks_secret(text)


def test_what_lies_under_a_secrets_key_is_hidden_whatever_its_shape() -> None:
    assert shown("plain", ("gateway", "master_key_secret", "name")) == "(hidden)"
    assert shown("plain", ("runtime", "max_tokens")) == "plain"
