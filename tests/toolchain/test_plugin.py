from pathlib import Path

import pytest

from local.toolchain import plugin
from local.toolchain.pieces import PROVIDER_VERSION
from local.toolchain.plugin import ask_pulumi, build_plugin, plugin_binary, plugin_stands
from tests.toolchain.conftest import Stub

NAME = f"resource-kubernetes-v{PROVIDER_VERSION}"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    built = tmp_path / "built"
    built.mkdir()
    (built / "pulumi-resource-kubernetes").write_text("provider")
    (built / "pulumi-resource-kubernetes").chmod(0o755)
    monkeypatch.setattr(plugin, "make", {plugin.PROVIDER: built}.__getitem__)
    return tmp_path / "pulumi"


def test_a_built_provider_stands_where_pulumi_looks(home: Path) -> None:
    assert not plugin_stands()
    build_plugin()
    assert plugin_stands()
    assert (home / "plugins" / NAME / "pulumi-resource-kubernetes").read_text() == "provider"
    assert [path.name for path in (home / "plugins").iterdir()] == [NAME]


def test_pulumis_own_unfinished_installation_is_replaced(home: Path) -> None:
    half = home / "plugins" / NAME
    half.mkdir(parents=True)
    (half / "pulumi-resource-kubernetes").write_text("half")
    (half / "pulumi-resource-kubernetes").chmod(0o755)
    (home / "plugins" / f"{NAME}.partial").touch()
    assert not plugin_stands()
    build_plugin()
    assert plugin_stands()
    assert (half / "pulumi-resource-kubernetes").read_text() == "provider"


def test_a_cache_on_another_disk_is_copied_from(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(18, "Invalid cross-device link", str(self), None, str(target))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    build_plugin()
    assert plugin_stands()


def test_an_installed_pulumi_is_asked_for_exactly_our_version(stub: Stub) -> None:
    binary = plugin_binary()
    pulumi = stub(
        "pulumi",
        f'[ "$*" = "plugin install resource kubernetes v{PROVIDER_VERSION}" ] || exit 1\n'
        f"mkdir -p {binary.parent}; echo x > {binary}; chmod +x {binary}",
    )
    assert ask_pulumi(pulumi)


def test_a_pulumi_that_cannot_download_it_is_not_waited_for(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "INSTALL_SECONDS", 0.5)
    assert not ask_pulumi(stub("pulumi", "sleep 30 & wait"))
    assert not ask_pulumi(stub("pulumi", "exit 255"))
