import tomllib
from pathlib import Path

import pytest
import yaml

from local.toolchain import installed
from local.toolchain.installed import PULUMI_RANGE, installed_kubectl, installed_pulumi
from local.toolchain.pieces import PULUMI_VERSION
from tests.toolchain.conftest import Stub

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "ANSWER_SECONDS", 1.0)


@pytest.mark.parametrize("version", ["v3.259.0", "v3.260.1", "3.999.0", "v3.259.0+dirty"])
def test_a_pulumi_that_fits_is_used(stub: Stub, version: str) -> None:
    pulumi = stub("pulumi", f"echo {version}")
    stub("pulumi-language-python", "")
    assert installed_pulumi() == pulumi


@pytest.mark.parametrize(
    "body",
    [
        "echo v3.258.9",
        "echo v4.0.0",
        "echo v3.260.0-alpha.1",
        "echo garbage",
        "",
        "echo v3.259.0; exit 1",
        "printf '\\377\\376'",
        "sleep 30 & wait",
    ],
)
def test_a_pulumi_that_does_not_fit_is_passed_over(stub: Stub, body: str) -> None:
    stub("pulumi", body)
    stub("pulumi-language-python", "")
    assert installed_pulumi() is None


def test_a_pulumi_without_its_python_language_host_is_passed_over(stub: Stub) -> None:
    stub("pulumi", "echo v3.259.0")
    assert installed_pulumi() is None


def test_a_pulumi_linked_onto_the_path_finds_the_language_host_beside_its_real_file(stub: Stub, tmp_path: Path) -> None:
    real = stub("real-pulumi", "echo v3.259.0")
    home = tmp_path / "pulumi" / "bin"
    home.mkdir(parents=True)
    real.rename(home / "pulumi")
    (home / "pulumi-language-python").touch()
    (tmp_path / "stubs" / "pulumi").symlink_to(home / "pulumi")
    assert installed_pulumi() == tmp_path / "stubs" / "pulumi"


def test_no_pulumi_on_path_is_no_error(stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    del stub
    monkeypatch.setenv("PATH", str(tmp_path / "stubs"))
    assert installed_pulumi() is None
    assert installed_kubectl() is None


def client(minor: str, major: str = "1") -> str:
    return f"""echo '{{"clientVersion": {{"major": "{major}", "minor": "{minor}"}}}}'"""


@pytest.mark.parametrize("minor", ["33", "34+", "36"])
def test_a_kubectl_within_the_range_is_used(stub: Stub, minor: str) -> None:
    kubectl = stub("kubectl", client(minor))
    assert installed_kubectl() == kubectl


@pytest.mark.parametrize(
    "body",
    [
        client("20"),
        client("32"),
        client("37"),
        client("34", major="2"),
        client("thirty"),
        "echo '{}'",
        "echo '[]'",
        """echo '{"clientVersion": {"major": "1", "minor": 34}}'""",
        "echo Client Version: v1.34.3",
        f"{client('34')}; exit 1",
        "sleep 30 & wait",
    ],
)
def test_a_kubectl_that_does_not_fit_is_passed_over(stub: Stub, body: str) -> None:
    stub("kubectl", body)
    assert installed_kubectl() is None


def test_a_command_that_cannot_even_start_is_passed_over(stub: Stub) -> None:
    stub("kubectl", "").write_bytes(b"\x00\x01 no program")
    assert installed_kubectl() is None


def test_the_program_asks_for_the_same_pulumi_as_we_do() -> None:
    assert yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["requiredPulumiVersion"] == PULUMI_RANGE


def test_the_pulumi_that_we_build_is_the_oldest_that_fits_and_the_one_whose_sdk_we_install() -> None:
    assert PULUMI_RANGE.startswith(f">={PULUMI_VERSION} ")
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"pulumi=={PULUMI_VERSION}" in dependencies
