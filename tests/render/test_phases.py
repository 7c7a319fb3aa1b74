"""The adopted documents, phase by phase, as text and as LiteLLM itself routes them."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from syrupy.assertion import SnapshotAssertion
from typer.testing import CliRunner

from config import legacy
from config.model import StackConfig
from render import __main__ as commands
from render.budget import LITELLM_SECONDS, budget, longest_request
from render.librechat import frontend_text
from render.litellm import gateway_routes, gateway_text
from render.smoke import gateway_expectation
from tests.conftest import stack_config
from tests.gateway_group import with_litellm
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, REPLACED, adopted, adopting, adopting_values

PHASES = ("parallel", "test", "cutover", "frontend", "done")
OURS = ("GLM-4.7-Flash", "Qwen3-Coder-30B-A3B", "Llama-3.1-70B-Instruct", "DeepSeek-R1-Distill")
A = "http://llama-static-a.ai.svc.cluster.local:8080/v1"
LOADER = """
import asyncio, json, sys
from litellm.proxy.proxy_server import ProxyConfig
from litellm import Router

def routes(path):
    config = asyncio.run(ProxyConfig().get_config(path))
    router = Router(model_list=config["model_list"], **(config.get("router_settings") or {}))
    asked = {}
    for name in sys.argv[1].split(","):
        try:
            found = router.get_available_deployment(model=name, messages=[{"role": "user", "content": "hi"}])
            asked[name] = found["litellm_params"]["api_base"]
        except Exception:
            asked[name] = None
    return {"listed": router.get_model_names(), "asked": asked}

print(json.dumps([routes(path) for path in sys.argv[2:]]))
"""
ALIASES = """\
  model_group_alias:
    gpt-4: general-chat
    gpt-4o: {model: code-chat, hidden: true}
    whisper: speech
"""
SPEECH = """\
  - model_name: speech
    litellm_params: {model: openai/whisper-1, api_key: os.environ/OPENAI_API_KEY}
"""


def document(config: StackConfig) -> dict[str, Any]:
    return yaml.safe_load(gateway_text(config))


def listed(config: StackConfig) -> list[str]:
    return [routed.name for routed in gateway_routes(config) if not routed.hidden]


def endpoint(config: StackConfig) -> dict[str, Any]:
    return yaml.safe_load(frontend_text(config))["endpoints"]["custom"][0]


def with_more(phase: str, **migration: object) -> StackConfig:
    """Beside the runbook's routes, an external one and three aliases."""
    values = adopting_values(phase, **migration)
    values["legacy"]["routes"] += [
        {"name": "speech"},
        {"name": "gpt-4", "deployment": "vllm-general", "replaced_by": "GLM-4.7-Flash"},
        {"name": "gpt-4o", "deployment": "vllm-code", "replaced_by": "Qwen3-Coder-30B-A3B"},
        {"name": "whisper"},
    ]
    text = LITELLM.replace("litellm_settings:", f"{SPEECH}litellm_settings:")
    text = text.replace("router_settings:\n", f"router_settings:\n{ALIASES}")
    return stack_config(values).with_adopted(adopted(litellm=text))


@pytest.mark.parametrize("phase", PHASES)
def test_both_documents_of_each_phase_are_as_recorded(phase: str, snapshot: SnapshotAssertion) -> None:
    config = adopting(phase)
    assert gateway_text(config) == snapshot(name="litellm")
    assert frontend_text(config) == snapshot(name="librechat")


def test_the_documents_of_a_stack_file_are_printed_as_the_gateway_and_librechat_read_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(legacy, "LEGACY", tmp_path)
    monkeypatch.setattr(commands, "load_lock", lambda: None)  # nothing is known of the models
    found = {**dict.fromkeys(legacy.TEXTS.values(), LITELLM), "librechat.yaml": LIBRECHAT}
    found |= {"gateway.yaml": yaml.safe_dump(GATEWAY), "frontend.yaml": yaml.safe_dump(FRONTEND)}
    (tmp_path / "prod").mkdir()
    for name, text in found.items():
        (tmp_path / "prod" / name).write_text(text)
    file = tmp_path / "Pulumi.prod.yaml"
    values = adopting_values("frontend")
    file.write_text(yaml.safe_dump({"config": {f"llama-chat:{name}": value for name, value in values.items()}}))
    printed = [CliRunner().invoke(commands.app, [name, str(file)]).stdout for name in ("litellm", "librechat")]
    assert printed == [gateway_text(adopting("frontend")), frontend_text(adopting("frontend"))]


def test_in_parallel_not_a_byte_of_what_was_adopted_changes() -> None:
    assert gateway_text(adopting()) == LITELLM
    assert [frontend_text(adopting(phase)) for phase in ("parallel", "test", "cutover")] == 3 * [LIBRECHAT]


@pytest.mark.parametrize("phase", PHASES[1:])
def test_every_key_that_is_not_ours_stays_as_it_was_and_where_it_was(phase: str) -> None:
    before, after = yaml.safe_load(LITELLM), document(adopting(phase))
    assert list(after) == list(before)
    settings = {key: value for key, value in after["router_settings"].items() if key != "model_group_alias"}
    assert {**after, "model_list": [], "router_settings": settings} == {**before, "model_list": []}


def test_each_phase_lists_what_its_users_may_pick() -> None:
    legacy = list(REPLACED)
    assert listed(adopting("parallel")) == legacy
    assert listed(adopting("test")) == [*legacy, *(f"{name}-test" for name in OURS)]
    assert listed(adopting("cutover")) == listed(adopting("frontend")) == [*OURS, *legacy]
    assert listed(adopting("done")) == list(OURS)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What LiteLLM makes of each phase's document: one start of it for all."""
    folder = tmp_path_factory.mktemp("phases")
    configs = {phase: with_more(phase) for phase in PHASES} | {"bare": with_more("done", keep_aliases=False)}
    for name, config in configs.items():
        (folder / f"{name}.yaml").write_text(gateway_text(config))
    asked = ",".join((*REPLACED, "gpt-4", "gpt-4o", *OURS, *(f"{name}-test" for name in OURS)))
    loaded = subprocess.run(
        with_litellm("python", "-c", LOADER, asked, *(str(folder / f"{name}.yaml") for name in configs)),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={
            **os.environ,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_MASTER_KEY": "sk-only-for-this-test",
            "LEGACY_KEY_1": "key-only-for-this-test",
            "OPENAI_API_KEY": "key-only-for-this-test",
        },
    )
    return dict(zip(configs, json.loads(loaded.stdout.splitlines()[-1]), strict=True))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("phase", [*PHASES, "bare"])
def test_the_real_litellm_lists_and_routes_as_the_smoke_test_expects(
    routed: dict[str, dict[str, Any]], phase: str
) -> None:
    config = with_more("done", keep_aliases=False) if phase == "bare" else with_more(phase)
    expected = gateway_routes(config)
    assert sorted(routed[phase]["listed"]) == sorted(listed(config))
    bases = {it.name: it.api_base for it in expected if it.api_base}
    assert {name: base for name, base in routed[phase]["asked"].items() if base} == bases


def test_the_smoke_test_asks_hidden_names_and_leaves_what_is_not_ours_alone() -> None:
    models: Any = gateway_expectation(with_more("done"), "http://127.0.0.1:4000", "0")["models"]
    asked = {it["name"]: (it["api_base"], it.get("hidden", False)) for it in models}
    assert asked["GLM-4.7-Flash"] == (A, False)
    assert asked["general-chat"] == asked["gpt-4"] == (A, True)
    assert asked["speech"] == asked["whisper"] == (None, False)


def test_a_legacy_name_is_asked_at_its_own_server_until_a_model_of_ours_answers() -> None:
    vllm = "http://vllm-general.ai.svc.cluster.local:8000/v1"
    bases = {phase: {it.name: it.api_base for it in gateway_routes(adopting(phase))} for phase in PHASES}
    assert [bases[phase]["general-chat"] for phase in PHASES] == [vllm, vllm, A, A, A]


def test_a_legacy_name_whose_deployment_had_no_pods_is_asked_once_a_model_of_ours_answers() -> None:
    values = {phase: adopting_values(phase) for phase in ("parallel", "cutover")}
    for each in values.values():
        each["legacy"]["routes"][0]["replicas"] = 0
    bases = {
        phase: {it.name: it.api_base for it in gateway_routes(stack_config(each).with_adopted(adopted()))}
        for phase, each in values.items()
    }
    assert (bases["parallel"]["general-chat"], bases["cutover"]["general-chat"]) == (None, A)
    assert bases["parallel"]["code-chat"] is not None


def test_a_name_with_two_servers_is_listed_and_whoever_answers_may() -> None:
    second = LITELLM.replace("- model_name: code-chat", "- model_name: general-chat")
    found = {it.name: it for it in gateway_routes(adopting("test", adopted(litellm=second)))}
    assert found["general-chat"].api_base is None
    assert len(found["general-chat"].entries) == 2


def test_a_legacy_name_keeps_who_may_use_it_when_a_model_of_ours_answers() -> None:
    entries = {entry["model_name"]: entry for entry in document(adopting("cutover"))["model_list"]}
    assert entries["code-chat"]["model_info"] == {"access_groups": ["developers"]}
    assert "model_info" not in entries["general-chat"]


def test_no_route_of_ours_is_tried_twice_whatever_the_adopted_router_says() -> None:
    entries = document(adopting("cutover"))["model_list"]
    assert {entry["litellm_params"]["num_retries"] for entry in entries} == {0}
    assert len(entries) == len(OURS) + len(REPLACED)


def test_legacy_names_without_aliases_are_gone_in_done() -> None:
    settings = document(adopting("done", keep_aliases=False, renamed=True))["router_settings"]
    assert "model_group_alias" not in settings
    kept = document(with_more("done", keep_aliases=False))["router_settings"]["model_group_alias"]
    assert kept == {"whisper": "speech"}


@pytest.mark.parametrize(
    ("old", "new", "seconds"),
    [
        ("timeout: 1200", "timeout: 3600", 3600),
        ("stream_timeout: 1200", "stream_timeout: 2400.5", 2401),
        ("      timeout: 600\n", "", LITELLM_SECONDS),
        ("      timeout: 600\n", "      timeout: os.environ/SECONDS\n", LITELLM_SECONDS),
        ("num_retries: 2", "timeout: 9000", 1200),
    ],
)
def test_the_drain_covers_the_longest_adopted_timeout(old: str, new: str, seconds: int) -> None:
    assert longest_request(adopting("done", adopted(litellm=LITELLM.replace(old, new, 1)))) == seconds


def test_a_route_without_a_timeout_has_the_routers_or_the_settings_own() -> None:
    bare = LITELLM.replace("      timeout: 600\n", "")
    router = bare.replace("num_retries: 2", "timeout: 2000")
    assert longest_request(adopting(found=adopted(litellm=router))) == 2000
    settings = bare.replace("drop_params: true", "request_timeout: 3000")
    assert longest_request(adopting(found=adopted(litellm=settings))) == 3000


def test_a_request_of_ours_may_be_the_longest(values: dict[str, Any]) -> None:
    config = stack_config(values)
    assert longest_request(config) == max(budget(backend).request for backend in config.backends)


def test_librechat_lists_our_names_and_the_legacy_ones_until_chats_are_renamed() -> None:
    assert endpoint(adopting("frontend"))["models"] == {"default": [*OURS, *REPLACED], "fetch": False}
    assert endpoint(adopting("done"))["models"]["default"] == [*OURS, *REPLACED]
    for phase in ("frontend", "done"):
        assert endpoint(adopting(phase, renamed=True))["models"]["default"] == list(OURS)


def test_librechat_goes_on_listing_what_nothing_replaces() -> None:
    listing = "[general-chat, {name: speech}, unheard-of]"
    text = LIBRECHAT.replace("[general-chat, code-chat, reasoning-chat]", listing)
    shown = endpoint(adopting("frontend", adopted(librechat=text), renamed=True))["models"]["default"]
    assert shown == [*OURS, {"name": "speech"}, "unheard-of"]


def test_names_that_are_added_get_a_context_where_the_endpoint_tells_any() -> None:
    tokens = endpoint(adopting("frontend"))["tokenConfig"]
    assert list(tokens) == ["general-chat", *OURS]
    # a model of ours answers the legacy name too
    assert tokens["GLM-4.7-Flash"]["context"] == tokens["general-chat"]["context"] == 32768 - 4096
    start, end = LIBRECHAT.index("      tokenConfig"), LIBRECHAT.index("      titleConvo")
    without = LIBRECHAT[:start] + LIBRECHAT[end:]
    assert "tokenConfig" not in endpoint(adopting("frontend", adopted(librechat=without)))


def test_of_librechats_document_only_that_endpoints_names_change() -> None:
    before, after = yaml.safe_load(LIBRECHAT), yaml.safe_load(frontend_text(adopting("frontend")))
    for text in (before, after):
        del text["endpoints"]["custom"][0]["models"]["default"], text["endpoints"]["custom"][0]["tokenConfig"]
    assert after == before
    assert list(after) == list(before)


def test_a_word_that_only_older_yaml_takes_for_a_switch_stays_a_word_to_librechat() -> None:
    text = LIBRECHAT.replace("cache: true", "cache: true\nwords: [on, No, 1:30, 0x10]")
    assert "words:\n- 'on'\n- 'No'\n- '1:30'\n- 16\n" in frontend_text(adopting("frontend", adopted(librechat=text)))


def test_whoever_may_use_a_name_may_use_the_one_that_replaces_it() -> None:
    for phase in ("cutover", "frontend", "done"):
        infos = {entry["model_name"]: entry.get("model_info") for entry in document(adopting(phase))["model_list"]}
        assert infos["Qwen3-Coder-30B-A3B"] == {"access_groups": ["developers"]}
        assert infos["GLM-4.7-Flash"] is None


def test_an_alias_that_stays_leads_to_what_replaced_its_target() -> None:
    text = LITELLM.replace("router_settings:\n", "router_settings:\n  model_group_alias: {gpt-4: general-chat}\n")
    values = adopting_values("done")
    values["legacy"]["routes"].append({"name": "gpt-4", "deployment": None})
    config = stack_config(values).with_adopted(adopted(litellm=text))
    aliases = document(config)["router_settings"]["model_group_alias"]
    assert aliases["gpt-4"] == {"model": "GLM-4.7-Flash", "hidden": False}
