from collections.abc import Callable, Iterable
from typing import Any

import pytest
from pydantic import JsonValue

from config import policy
from config.errors import ConfigError, Problem
from config.load import checked
from config.model import StackConfig
from config.parts import Static

Values = dict[str, Any]
BothWays = Callable[[Values], tuple[Problem, ...]]

DIGEST = "sha256:" + "0" * 64
PINNED: Values = {name: f"reg.example/{name}:v1@{DIGEST}" for name in ("llama_server", "python", "litellm")}
SWAP = {"name": "Phi-4", "repo": "unsloth/Phi-4", "quant": "Q4_K_M"}


def pool(**changes: JsonValue) -> Values:
    return {"role": "swap", "models": [SWAP, SWAP | {"name": "Gemma-3"}], **changes}


def with_pool(values: Values, **changes: JsonValue) -> Values:
    values["pools"] = [pool(**changes)]
    values["nodes"]["swap"] = "gpu-3"
    return values


def lines(problems: Iterable[Problem]) -> list[tuple[str, str]]:
    return [(problem.key.removeprefix("llama-chat:"), problem.value) for problem in problems]


def test_a_sound_stack_is_not_refused(values: Values) -> None:
    assert [backend.name for backend in checked(values).backends] == ["llama-static-a", "llama-static-b"]


def test_two_backends_with_one_role_are_refused(values: Values, both_ways: BothWays) -> None:
    values["statics"][1]["role"] = "static-a"
    del values["nodes"]["static-b"]
    (problem,) = both_ways(values)
    assert lines([problem]) == [("statics[1].role", "static-a")]
    assert problem.remedy == "is the role of llama-chat:statics[0] too: give each backend its own"


def test_a_role_without_a_host_is_refused(values: Values, both_ways: BothWays) -> None:
    del values["nodes"]["static-b"]
    (problem,) = both_ways(values)
    assert lines([problem]) == [("nodes.static-b", "(missing)")]
    assert problem.remedy == "llama-chat:statics[1].role has no host: add the name of the node that is to run it"


def test_a_pools_role_without_a_host_is_refused(values: Values, both_ways: BothWays) -> None:
    values["pools"] = [pool()]
    assert ("nodes.swap", "(missing)") in lines(both_ways(values))


def test_a_host_for_a_role_that_no_backend_has_is_refused(values: Values, both_ways: BothWays) -> None:
    values["nodes"]["statik-a"] = "gpu-3"
    (problem,) = both_ways(values)
    assert lines([problem]) == [("nodes.statik-a", "gpu-3")]
    assert problem.remedy == "no backend has this role: correct it, or remove the line"


def test_two_roles_on_one_host_are_refused(values: Values, both_ways: BothWays) -> None:
    values["nodes"]["static-b"] = "gpu-1"
    (problem,) = both_ways(values)
    assert lines([problem]) == [("nodes.static-b", "gpu-1")]
    assert problem.remedy.startswith("is the host of llama-chat:nodes.static-a too: ")


def test_a_steady_stack_takes_images_by_digest_only(values: Values, both_ways: BothWays) -> None:
    values |= {"steady": True, "images": PINNED | {"litellm": "reg.example/l:v1", "llama_swap": "reg.example/s:v2"}}
    problems = both_ways(values)
    assert lines(problems) == [("images.llama_swap", "reg.example/s:v2"), ("images.litellm", "reg.example/l:v1")]
    assert "add @sha256:<64 hex digits>, or set llama-chat:steady to false" in problems[0].remedy


def test_a_steady_stack_of_digests_stands(values: Values) -> None:
    assert checked(values | {"steady": True, "images": PINNED}).steady


@pytest.mark.parametrize("digest", ["sha256:abc", "sha512:" + "0" * 64, "sha256:" + "A" * 64, DIGEST + "0"])
def test_a_digest_that_no_registry_gives_is_refused(digest: str, values: Values, both_ways: BothWays) -> None:
    values["images"]["python"] = f"reg.example/python:3.11@{digest}"
    (problem,) = both_ways(values)
    assert problem.key == "llama-chat:images.python"
    assert problem.remedy == "its digest must be sha256: and 64 hex digits, as the registry reports it"


@pytest.mark.parametrize(
    "tag",
    [
        "latest",
        "nightly",
        "main",
        "server-nightly",
        "main-latest",
        "main-stable",
        "main-v1.80.5-nightly",
        "Nightly.7",
        f"main@{DIGEST}",
    ],
)
def test_a_tag_that_moves_is_refused_anywhere(tag: str, values: Values, both_ways: BothWays) -> None:
    values["images"]["llama_server"] = f"reg.example:5000/llama:{tag}"
    (problem,) = both_ways(values)
    assert problem.key == "llama-chat:images.llama_server"
    assert problem.remedy == "nightly, latest and main tags change under you: write the tag of a release"


def test_litellms_own_release_tags_are_no_moving_ones(values: Values) -> None:
    values["images"]["litellm"] = "ghcr.io/berriai/litellm:main-v1.80.5-stable"
    assert checked(values).images.litellm.endswith("main-v1.80.5-stable")


def test_a_namespace_that_comes_after_the_secrets_in_it_is_refused(values: Values, both_ways: BothWays) -> None:
    values["cluster"]["create_namespace"] = True
    (problem,) = both_ways(values)
    assert problem.key == "llama-chat:cluster.create_namespace"
    assert "pulumi config set --secret llama-chat:master_key" in problem.remedy


def test_an_image_without_a_tag_is_refused_as_latest(values: Values, both_ways: BothWays) -> None:
    values["images"]["litellm"] = "localhost:5000/litellm"
    (problem,) = both_ways(values)
    assert lines([problem]) == [("images.litellm", "localhost:5000/litellm")]
    assert problem.remedy == "has no tag, which means latest: add the tag of a release"


@pytest.mark.parametrize("image", [f"reg.example:5000/llama@{DIGEST}", "reg.example/maintained-nightlyish:remain-3"])
def test_an_image_that_stays_is_taken(image: str, values: Values) -> None:
    values["images"]["litellm"] = image
    assert checked(values).images.litellm == image


def test_a_grace_period_under_a_minute_is_refused(values: Values, both_ways: BothWays) -> None:
    values["grace_seconds"] = 59
    values["statics"][1]["grace_seconds"] = 0
    problems = both_ways(values)
    assert lines(problems) == [("grace_seconds", "59"), ("statics[1].grace_seconds", "0")]
    assert "must be at least 60 seconds" in problems[0].remedy


def test_an_answer_longer_than_the_context_is_refused_where_it_is_written(values: Values, both_ways: BothWays) -> None:
    values["statics"][0]["runtime"] = {"context_size": 512}
    values["statics"][1]["runtime"] = {"max_tokens": 5000}
    problems = both_ways(values)
    assert lines(problems) == [("statics[0].runtime.context_size", "512"), ("statics[1].runtime.max_tokens", "5000")]
    assert problems[0].remedy.startswith("max_tokens (1024) must fit into context_size (512)")


def test_the_default_answer_must_fit_into_the_default_context(values: Values, both_ways: BothWays) -> None:
    values["runtime"]["max_tokens"] = 4097
    assert lines(both_ways(values)) == [("runtime.max_tokens", "4097")]


def test_the_router_that_cuts_answers_is_refused_on_a_steady_stack(values: Values, both_ways: BothWays) -> None:
    values |= {"steady": True, "images": PINNED}
    problems = both_ways(with_pool(values, engine="llama-server"))
    assert lines(problems)[0] == ("pools[0].engine", "llama-server")
    assert "set max_loaded to 2, so that all models stay loaded" in problems[0].remedy


@pytest.mark.parametrize(
    ("steady", "changes"),
    [(False, {"engine": "llama-server"}), (True, {"engine": "llama-server", "max_loaded": 2}), (True, {})],
)
def test_the_router_is_taken_where_it_does_not_swap(
    *, steady: bool, changes: dict[str, JsonValue], values: Values
) -> None:
    config = StackConfig.model_validate(with_pool(values | {"steady": steady}, **changes), strict=False)
    assert list(policy.router_swaps(config)) == []


def test_a_pool_of_llama_swap_needs_its_image(values: Values, both_ways: BothWays) -> None:
    (problem,) = both_ways(with_pool(values))
    assert lines([problem]) == [("images.llama_swap", "(missing)")]
    assert problem.remedy == ("llama-chat:pools[0] runs llama-swap: add its image, or write engine: llama-server there")
    values["pools"][0]["image"] = "reg.example/llama-swap:v1"
    assert checked(values).pooled[0].image == "reg.example/llama-swap:v1"


def test_a_backends_own_image_is_judged_like_the_stacks(values: Values, both_ways: BothWays) -> None:
    values["statics"][1]["image"] = "reg.example/llama:nightly"
    assert lines(both_ways(values)) == [("statics[1].image", "reg.example/llama:nightly")]


def test_a_flag_that_the_program_sets_is_refused_where_it_is_written(values: Values, both_ways: BothWays) -> None:
    values["runtime"]["extra_args"] = {"ctx-size": 4096, "cache-type-k": "q8_0"}
    values["statics"][1]["runtime"] = {"extra_args": {"alias": "x", "api-key": "y", "swa-full": True}}
    values = with_pool(values, engine="llama-server")
    values["pools"][0]["models"][1] = SWAP | {"name": "Gemma-3", "runtime": {"extra_args": {"port": 1}}}
    problems = both_ways(values)
    assert lines(problems) == [
        ("runtime.extra_args.ctx-size", "4096"),
        ("statics[1].runtime.extra_args.alias", "x"),
        ("statics[1].runtime.extra_args.api-key", "y"),
        ("pools[0].models[1].runtime.extra_args.port", "1"),
    ]
    assert problems[0].remedy == "has a key of its own: write runtime.context_size"
    assert problems[2].remedy == "would put a secret into an argument list: leave it out"


@pytest.mark.parametrize("value", ["a # comment", "a;b", "${PORT}", "two\nlines"])
def test_a_flags_value_that_an_engine_would_misread_is_refused(value: str, values: Values, both_ways: BothWays) -> None:
    values["runtime"]["extra_args"] = {"chat-template-file": value}
    assert both_ways(values)[0].key.startswith("llama-chat:runtime.extra_args.chat-template-file")


def test_layers_for_a_gpu_that_is_not_there_are_refused(values: Values, both_ways: BothWays) -> None:
    values["statics"][1]["gpu"] = {"resource": "none"}
    (problem,) = both_ways(values)
    assert lines([problem]) == [("statics[1].runtime.gpu_layers", "999")]
    values["statics"][1]["runtime"] = {"gpu_layers": 0}
    assert checked(values).backends[1].gpu.resource == "none"


def test_a_name_that_librechat_keeps_for_itself_is_refused(values: Values, both_ways: BothWays) -> None:
    values["frontend"] = {"endpoint_name": "openAI"}
    assert lines(both_ways(values)) == [("frontend.endpoint_name", "openAI")]


def test_a_pools_grace_is_judged_too(values: Values, both_ways: BothWays) -> None:
    values = with_pool(values, engine="llama-server", grace_seconds=30)
    assert lines(both_ways(values)) == [("pools[0].grace_seconds", "30")]


def test_secrets_that_the_operator_makes_may_come_with_the_namespace(values: Values) -> None:
    external = {"store": "vault", "remote_key": "secret/data/ai/litellm", "remote_property": "master-key"}
    values["cluster"]["create_namespace"] = True
    values["gateway"]["master_key_secret"] |= {"external": external}
    ((secret, source),) = checked(values).external_secrets
    assert (secret.name, source.store, source.store_kind) == ("litellm", "vault", "ClusterSecretStore")


def test_all_problems_of_the_policy_come_at_once(values: Values, both_ways: BothWays) -> None:
    values["statics"][0]["model"]["name"] = "general"
    values["statics"][1]["model"]["name"] = "General"
    values["grace_seconds"] = 1
    values["images"]["python"] = "reg.example/python:main"
    assert lines(both_ways(values)) == [
        ("statics[1].model.name", "General"),
        ("statics[0].model.name", "general"),
        ("statics[1].model.name", "General"),
        ("images.python", "reg.example/python:main"),
        ("grace_seconds", "1"),
    ]


def test_the_shape_is_judged_before_the_policy(values: Values, both_ways: BothWays) -> None:
    values["grace_seconds"] = 1
    values["gpu"]["count"] = 0
    assert lines(both_ways(values)) == [("gpu.count", "0")]


def test_the_longest_role_leaves_room_for_a_jobs_pod() -> None:
    longest = Static.model_json_schema()["properties"]["role"]["maxLength"]
    assert len(f"llama-{'r' * longest}-prefetch-{'0' * 10}-xxxxx") <= 63


@pytest.mark.parametrize("role", ["static-a-fetch", "static-a-smoke"])
def test_a_role_that_is_called_as_another_backends_job_is_refused(
    values: Values, both_ways: BothWays, role: str
) -> None:
    values["statics"][1]["role"] = role
    values["nodes"] = {"static-a": "gpu-1", role: "gpu-2"}
    (problem,) = both_ways(values)
    assert lines([problem]) == [("statics[1].role", role)]


def test_a_gateway_that_is_called_as_a_backend_is_refused(values: Values, both_ways: BothWays) -> None:
    values["gateway"]["deployment"] = "llama-static-a"
    assert lines(both_ways(values)) == [("gateway.deployment", "llama-static-a")]


def test_a_toleration_of_every_value_and_of_one_is_refused(values: Values, both_ways: BothWays) -> None:
    values["statics"][0]["tolerations"] = [{"key": "gpu", "value": "amd"}]
    (problem,) = both_ways(values)
    assert lines([problem]) == [("statics[0].tolerations[0].value", "amd")]
    assert problem.remedy.endswith("write operator: Equal")


def test_pull_secrets_in_a_namespace_that_the_stack_makes_are_refused(values: Values) -> None:
    values["cluster"]["create_namespace"] = True
    values["pull_secrets"] = ["regcred"]
    secure = values | {"master_key": "decrypted"}
    with pytest.raises(ConfigError, match="pull_secrets must always be there before"):
        checked(secure, encrypted=["master_key"])


def test_a_master_key_in_the_stack_and_in_the_vault_is_refused(values: Values) -> None:
    values["gateway"]["master_key_secret"]["external"] = {"store": "vault", "remote_key": "ai/litellm"}
    with pytest.raises(ConfigError, match=r"gateway\.master_key_secret\.external.*leave one of the two out"):
        checked(values | {"master_key": "decrypted"}, encrypted=["master_key"])


def test_one_secret_made_of_two_entries_of_the_vault_is_refused(values: Values, both_ways: BothWays) -> None:
    external = {"store": "vault", "remote_key": "ai"}
    values["gateway"]["master_key_secret"] = {"name": "keys", "key": "master", "external": external}
    values["hub"] = {"token_secret": {"name": "keys", "key": "token", "external": external}}
    (problem,) = both_ways(values)
    assert problem.key == "llama-chat:hub.token_secret.name"
