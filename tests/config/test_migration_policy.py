"""What is refused on the way from vLLM, each in one line with its remedy."""

from collections.abc import Callable
from typing import Any

import pytest

from config.errors import Problem
from config.legacy import Adopted
from config.migration_policy import problems
from tests.conftest import stack_config
from tests.runbook import LIBRECHAT, LITELLM, adopted, adopting, adopting_values

Values = dict[str, Any]
NAMES = "GLM-4.7-Flash, Qwen3-Coder-30B-A3B, Llama-3.1-70B-Instruct, DeepSeek-R1-Distill"
RUN = "run `make adopt` with the stack's name as STACK"


def told(values: Values, found: Adopted | None = None) -> list[str]:
    return [str(problem) for problem in problems(stack_config(values).with_adopted(found or adopted()))]


def route(number: int, **changes: object) -> Values:
    values = adopting_values()
    values["legacy"]["routes"][number] |= changes
    return values


@pytest.mark.parametrize("phase", ["parallel", "test", "cutover", "frontend", "done"])
def test_the_runbooks_stack_is_let_through_in_every_phase(phase: str) -> None:
    assert problems(adopting(phase)) == []


def test_role_aliases_are_fine_as_legacy_names_and_as_those_of_models_they_stay_refused(
    both_ways: Callable[[Values], tuple[Problem, ...]], values: Values
) -> None:
    assert problems(adopting()) == []
    values["statics"][0]["model"]["name"] = "general-chat"
    (problem,) = both_ways(values)
    assert (problem.key, problem.value) == ("llama-chat:statics[0].model.name", "general-chat")


def test_adopting_what_was_not_read_yet_is_refused(both_ways: Callable[[Values], tuple[Problem, ...]]) -> None:
    values = adopting_values()
    values["legacy"] = {}
    assert [str(problem) for problem in both_ways(values)] == [
        f"llama-chat:gateway.mode: adopt: what runs was not read yet: {RUN}",
        f"llama-chat:frontend.mode: adopt: what runs was not read yet: {RUN}",
    ]


def test_a_frontend_that_was_not_read_with_its_gateway_is_refused() -> None:
    (line,) = told(adopting_values(), adopted(librechat=""))
    assert line == f"llama-chat:frontend.mode: adopt: what runs was not read yet: {RUN}"


def test_a_migration_of_a_gateway_that_is_ours_is_refused(both_ways: Callable[[Values], tuple[Problem, ...]]) -> None:
    values = adopting_values("cutover")
    values["gateway"]["mode"] = "deploy"
    assert [str(problem) for problem in both_ways(values)] == [
        (
            "llama-chat:frontend.mode: adopt: a frontend is adopted with its gateway alone: write "
            "gateway.mode: adopt, or none here"
        ),
        (
            "llama-chat:migration.phase: cutover: with gateway.mode deploy there is nothing to migrate: write "
            "parallel, or gateway.mode: adopt"
        ),
        "llama-chat:legacy.routes: 3: does nothing with gateway.mode deploy: remove it, or write gateway.mode: adopt",
    ]


@pytest.mark.parametrize("phase", ["parallel", "test", "cutover", "frontend"])
def test_a_phase_in_which_what_is_retired_would_answer_is_refused_and_the_way_back_told(phase: str) -> None:
    values = adopting_values(phase)
    values["legacy"]["retired"] = True
    found = adopted().model_copy(update={"retired": "legacy/prod/retired"})
    assert told(values, found) == [
        (
            f"llama-chat:migration.phase: {phase}: what answers in it is retired: write done, or bring that back "
            "first: `kubectl --context homelab apply -f legacy/prod/retired`, then legacy.retired: false"
        )
    ]
    values["migration"]["phase"] = "done"
    assert told(values, found) == []


def test_retired_without_saved_manifests_is_refused() -> None:
    values = adopting_values("done")
    values["legacy"]["retired"] = True
    assert told(values) == [
        (
            "llama-chat:legacy.retired: true: no manifests were saved: write false, and let `make retire` save them "
            "and write this"
        )
    ]


@pytest.mark.parametrize("phase", ["frontend", "done"])
def test_the_frontends_phases_without_a_frontend_are_refused(phase: str) -> None:
    values = adopting_values(phase)
    values["frontend"] = {"mode": "none"}
    assert told(values, adopted(librechat="")) == [
        (
            f"llama-chat:migration.phase: {phase}: changes what LibreChat lists, but frontend.mode is none: write "
            "cutover, or adopt the frontend too"
        )
    ]
    values["migration"]["phase"] = "cutover"
    assert told(values, adopted(librechat="")) == []


def test_keys_without_their_secret_are_refused() -> None:
    values = adopting_values()
    del values["legacy"]["keys_secret"]
    assert told(values) == [
        "llama-chat:legacy.keys_secret: (missing): is missing: add the name of the Secret that holds legacy.keys"
    ]


def test_a_key_that_the_document_refers_to_and_the_gateway_would_not_have_is_refused() -> None:
    values = adopting_values()
    values["legacy"]["keys"] = []
    assert told(values) == [
        f"llama-chat:legacy.keys: (missing): the adopted document refers to LEGACY_KEY_1: add it, or {RUN}"
    ]


def test_a_route_that_no_model_replaces_is_refused_while_its_deployment_is_to_be_stopped() -> None:
    assert told(route(1, replaced_by=None)) == [
        (
            "llama-chat:legacy.routes[1].replaced_by: (missing): name the model that answers code-chat once vllm-code "
            f"is gone: one of {NAMES}; or write deployment: null there, if it is to stay"
        )
    ]
    assert told(route(1, replaced_by=None, deployment=None)) == []


def test_a_replacement_that_is_no_model_is_refused_with_those_that_are() -> None:
    assert told(route(0, replaced_by="GLM-4.7")) == [
        f"llama-chat:legacy.routes[0].replaced_by: GLM-4.7: no model has this name: write one of {NAMES}"
    ]


@pytest.mark.parametrize("name", ["glm-4.7-flash", "GLM-4.7-Flash-TEST"])
def test_a_legacy_name_that_a_model_has_in_any_phase_is_refused(name: str) -> None:
    found = adopted(litellm=LITELLM.replace("general-chat", name))
    assert told(route(0, name=name), found) == [
        (
            f"llama-chat:legacy.routes[0].name: {name}: is the name of llama-chat:statics[0].model.name (case does not "
            "count), alone or with -test: give that model another name"
        )
    ]


def test_a_name_with_two_deployments_has_one_replacement() -> None:
    values = adopting_values()
    values["legacy"]["routes"].append({"name": "general-chat", "deployment": "b", "replaced_by": "GLM-4.7-Flash"})
    assert told(values) == []
    values["legacy"]["routes"][-1]["replaced_by"] = "DeepSeek-R1-Distill"
    assert told(values) == [
        (
            "llama-chat:legacy.routes[3].replaced_by: DeepSeek-R1-Distill: general-chat is replaced by GLM-4.7-Flash "
            "in llama-chat:legacy.routes[0]: write the same"
        )
    ]


def test_a_deployment_that_is_named_twice_has_one_number_of_pods() -> None:
    assert told(route(1, deployment="vllm-general")) == []
    assert told(route(1, deployment="vllm-general", replicas=2)) == [
        "llama-chat:legacy.routes[1].replicas: 2: vllm-general has 1 in llama-chat:legacy.routes[0]: write the same"
    ]


def test_routes_and_the_adopted_document_have_the_same_names() -> None:
    values = adopting_values()
    values["legacy"]["routes"][2]["name"] = "reasoning"
    assert told(values) == [
        (
            "llama-chat:legacy.routes[2].name: reasoning: the adopted document has no such name: it has general-chat, "
            f"code-chat, reasoning-chat; or {RUN}"
        ),
        f"llama-chat:legacy.routes: (missing): the adopted document routes reasoning-chat: add it, or {RUN}",
    ]


def test_an_alias_of_the_adopted_document_is_one_of_its_names() -> None:
    aliased = LITELLM.replace("  num_retries: 2", "  model_group_alias: {gpt-4: general-chat}")
    (line,) = told(adopting_values(), adopted(litellm=aliased))
    assert "the adopted document routes gpt-4: add it" in line


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            LITELLM.replace("model_name: code-chat", "model_name: openai/*"),
            "its document routes openai/*, which is any name: write an entry for each that users pick",
        ),
        (f"include: [more.yaml]\n{LITELLM}", "its document includes other files: write their content into it"),
    ],
)
def test_routes_that_the_document_does_not_name_are_refused(text: str, fault: str) -> None:
    expected = f"llama-chat:gateway.config_map: litellm-config: {fault}, and {RUN}"
    assert expected in told(adopting_values(), adopted(litellm=text))


def test_an_endpoint_that_the_adopted_document_has_not_is_refused() -> None:
    values = adopting_values()
    values["frontend"]["endpoint_name"] = "vllm"
    assert told(values) == [
        "llama-chat:frontend.endpoint_name: vllm: the adopted document has no such endpoint: it has vLLM, OpenRouter"
    ]


def test_an_endpoint_of_another_server_is_refused() -> None:
    values = adopting_values()
    values["frontend"]["endpoint_name"] = "OpenRouter"
    found = adopted(librechat=LIBRECHAT.replace("fetch: true", "fetch: false"))
    assert told(values, found) == [
        (
            "llama-chat:frontend.endpoint_name: OpenRouter: lists no name that the adopted gateway routes, as vLLM "
            "does: correct it"
        )
    ]


def test_an_endpoint_that_asks_the_server_for_its_names_is_refused() -> None:
    text = LIBRECHAT.replace("fetch: false", "fetch: true")
    (refusal,) = told(adopting_values(), adopted(librechat=text))
    assert "vLLM: fetches its list from the gateway" in refusal
    assert "write fetch: false and the names" in refusal


def test_names_that_librechat_still_lists_do_not_lose_their_aliases() -> None:
    assert told(adopting_values("done", keep_aliases=False)) == [
        (
            "llama-chat:migration.keep_aliases: false: LibreChat still lists legacy names: rename the stored ones, "
            "write renamed: true and bring that up before you write false here"
        )
    ]
    assert told(adopting_values("done", keep_aliases=False, renamed=True)) == []


def test_a_title_model_that_would_be_gone_is_refused() -> None:
    found = adopted(librechat=LIBRECHAT.replace("titleModel: current_model", "titleModel: general-chat"))
    assert told(adopting_values("done", renamed=True), found) == []
    assert told(adopting_values("done", keep_aliases=False, renamed=True), found) == [
        (
            "llama-chat:migration.keep_aliases: false: LibreChat's document still says general-chat at "
            f"endpoints.custom[0].titleModel: go back to phase parallel, write another name there, and {RUN}"
        )
    ]


def test_a_model_spec_with_a_name_that_is_no_longer_listed_is_refused() -> None:
    specs = "modelSpecs: {list: [{name: x, preset: {endpoint: vLLM, model: code-chat}}]}"
    found = adopted(librechat=f"{LIBRECHAT}{specs}\n")
    assert told(adopting_values("frontend"), found) == []
    assert told(adopting_values("frontend", renamed=True), found) == [
        (
            "llama-chat:migration.renamed: true: LibreChat's document still says code-chat at "
            f"modelSpecs.list[0].preset.model: go back to phase parallel, write another name there, and {RUN}"
        )
    ]
