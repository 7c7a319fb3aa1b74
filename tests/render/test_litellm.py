"""LiteLLM's document, as text and as LiteLLM itself reads it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion

from config.model import StackConfig
from render.budget import budget
from render.document import to_yaml
from render.litellm import litellm
from tests.gateway_group import with_litellm

LOADER = """
import asyncio, json, sys
from litellm.proxy.proxy_server import ProxyConfig
from litellm import Router
config = asyncio.run(ProxyConfig().get_config(sys.argv[1]))
router = Router(model_list=config["model_list"])
print(json.dumps({
    "names": router.get_model_names(),
    "bases": {d["model_name"]: d["litellm_params"]["api_base"] for d in router.get_model_list()},
    "master_key": config["general_settings"]["master_key"],
}))
"""


def test_the_document_is_as_recorded(config: StackConfig, snapshot: SnapshotAssertion) -> None:
    assert to_yaml(litellm(config)) == snapshot


def test_no_request_outlives_the_drain_of_the_pod_that_answers_it(config: StackConfig) -> None:
    document = json.loads(json.dumps(litellm(config)))
    drains = [budget(backend).drain for backend in config.backends for _ in backend.models]
    for route, drain in zip(document["model_list"], drains, strict=True):
        assert route["litellm_params"]["timeout"] < drain


@pytest.mark.timeout(300)
def test_the_real_litellm_loads_it_and_routes_each_name_to_its_backend(config: StackConfig, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml(litellm(config)))
    loaded = subprocess.run(
        with_litellm("python", "-c", LOADER, str(path)),
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": "sk-only-for-this-test"},
    )
    seen = json.loads(loaded.stdout.splitlines()[-1])
    assert seen["names"] == list(config.exposed_names)
    assert seen["bases"] == {
        "GLM-4.7-Flash": "http://llama-static-a.ai.svc.cluster.local:8080/v1",
        "Qwen3-Coder-30B-A3B": "http://llama-static-b.ai.svc.cluster.local:8080/v1",
        "Llama-3.1-70B-Instruct": "http://llama-swap.ai.svc.cluster.local:8080/v1",
        "DeepSeek-R1-Distill": "http://llama-swap.ai.svc.cluster.local:8080/v1",
    }
    assert "sk-only-for-this-test" not in path.read_text()
