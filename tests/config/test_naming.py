from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.errors import Problem
from config.load import load_file
from config.model import StackConfig
from config.naming import ALIASES, alias_as_name, is_alias, name_taken
from config.parts import Model, Pool, PoolModel

Values = dict[str, Any]
BothWays = Callable[[Values], tuple[Problem, ...]]

LOCAL = load_file(Path(__file__).parents[2] / "Pulumi.local.yaml")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True)


def stack(*names: str, pooled: tuple[str, ...] = ()) -> StackConfig:
    static = LOCAL.statics[0]

    def model(name: str) -> Model:
        return static.model.model_copy(update={"name": name})

    statics = tuple(static.model_copy(update={"model": model(name)}) for name in names)
    pools = (
        (Pool(role="swap", models=tuple(PoolModel(**model(name).model_dump()) for name in pooled)),) if pooled else ()
    )
    return LOCAL.model_copy(update={"statics": statics, "pools": pools})


@st.composite
def in_any_case(draw: st.DrawFn, names: st.SearchStrategy[str]) -> str:
    return "".join(draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in draw(names))


ALIAS_FORMS = st.tuples(
    st.sampled_from(["", "vllm-"]), st.sampled_from(ALIASES), st.sampled_from(["", "-chat", "-model"])
).map("".join)


@given(st.data(), NAMES)
def test_a_name_is_taken_in_any_case(data: st.DataObject, name: str) -> None:
    other = data.draw(in_any_case(st.just(name)))
    (problem,) = name_taken(stack(name, other))
    assert problem.key == "llama-chat:statics[1].model.name"
    assert "is the name of llama-chat:statics[0].model too (case does not count)" in problem.remedy


@given(st.lists(NAMES, unique_by=str.casefold, min_size=2, max_size=4))
def test_names_that_differ_in_more_than_case_stand_together(names: list[str]) -> None:
    assert list(name_taken(stack(*names))) == []


def test_a_pool_may_not_take_a_statics_name() -> None:
    (problem,) = name_taken(stack("Phi-4", pooled=("Gemma-3", "PHI-4")))
    assert (problem.key, problem.value) == ("llama-chat:pools[0].models[1].name", "PHI-4")


@given(in_any_case(ALIAS_FORMS))
def test_a_role_alias_is_no_models_name(name: str) -> None:
    (problem,) = alias_as_name(stack(name))
    assert (problem.key, problem.value) == ("llama-chat:statics[0].model.name", name)
    assert problem.remedy == "is a role, not a model: write the model's own name, such as GLM-4.7-Flash"


def test_a_role_alias_is_refused_in_a_pool_too() -> None:
    (problem,) = alias_as_name(stack("Phi-4", pooled=("vllm-code",)))
    assert problem.key == "llama-chat:pools[0].models[0].name"


@given(ALIAS_FORMS, st.from_regex(r"[0-9][A-Za-z0-9.]{0,9}", fullmatch=True))
def test_a_real_name_that_holds_an_alias_is_taken(alias: str, version: str) -> None:
    assert not is_alias(f"{alias}-{version}")
    assert not is_alias(f"{version}-{alias}")


@pytest.mark.parametrize("name", ["Qwen3-Coder-30B-A3B", "DeepSeek-R1-Distill", "vllm", "chatter", "mainline", "codex"])
def test_a_models_own_name_is_taken(name: str) -> None:
    assert not is_alias(name)


def test_every_alias_of_the_design_is_known() -> None:
    design = "general chat code coder reasoning default main fast smart small large best assistant"
    assert set(ALIASES) == set(design.split())


def test_both_rules_are_refused_by_the_loader(values: Values, both_ways: BothWays) -> None:
    values["statics"][0]["model"]["name"] = "vllm-reasoning"
    values["statics"][1]["model"]["name"] = "VLLM-Reasoning"
    assert [problem.key for problem in both_ways(values)] == [
        "llama-chat:statics[1].model.name",
        "llama-chat:statics[0].model.name",
        "llama-chat:statics[1].model.name",
    ]
