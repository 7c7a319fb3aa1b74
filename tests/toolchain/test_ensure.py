import os
import sys
from pathlib import Path

import pytest

import local.toolchain
from config.errors import UserError
from local.toolchain import Tools, ensure
from local.toolchain.go import GoPiece
from local.toolchain.store import Recipe, folder
from tests.toolchain.conftest import Stub

KUBECTL_THAT_FITS = """echo '{"clientVersion": {"major": "1", "minor": "34"}}'"""


class Workshop:
    """What was built, instead of building it."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def make(self, recipe: Recipe) -> Path:
        self.made.append(recipe.name)
        return folder(recipe)

    def link(self, recipe: Recipe) -> None:
        assert recipe.name in self.made

    def build_plugin(self) -> None:
        self.made.append("provider")


@pytest.fixture
def workshop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Workshop:
    workshop = Workshop()
    monkeypatch.setattr(local.toolchain, "make", workshop.make)
    monkeypatch.setattr(local.toolchain, "link", workshop.link)
    monkeypatch.setattr(local.toolchain, "build_plugin", workshop.build_plugin)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi"))
    return workshop


def test_an_operator_with_a_cluster_builds_no_control_plane(workshop: Workshop, stub: Stub) -> None:
    stub("pulumi", "exit 1")
    stub("kubectl", "exit 1")
    ensure("pulumi", "kubectl")
    assert workshop.made == ["pulumi", "kubectl", "provider"]


def test_installed_commands_that_fit_build_nothing(workshop: Workshop, stub: Stub, tmp_path: Path) -> None:
    binary = tmp_path / "pulumi" / "plugins" / "resource-kubernetes-v4.25.0" / "pulumi-resource-kubernetes"
    pulumi = stub(
        "pulumi", f"[ $1 = version ] && echo v3.260.0 && exit; mkdir -p {binary.parent}; cp /bin/true {binary}"
    )
    stub("pulumi-language-python", "")
    kubectl = stub("kubectl", KUBECTL_THAT_FITS)
    tools = ensure("pulumi", "kubectl")
    assert workshop.made == []
    assert (tools.path("pulumi"), tools.path("kubectl")) == (pulumi, kubectl)
    assert tools.env()["PATH"] == os.environ["PATH"]


def test_a_provider_that_pulumi_cannot_install_is_built(workshop: Workshop, stub: Stub) -> None:
    stub("pulumi", "[ $1 = version ] && echo v3.259.0")
    stub("pulumi-language-python", "")
    ensure("pulumi")
    assert workshop.made == ["provider"]


def test_commands_of_one_piece_are_built_once_and_found_first(workshop: Workshop) -> None:
    tools = ensure("kubelet", "kube-proxy", "coredns")
    assert workshop.made == ["kubernetes", "coredns"]
    assert tools.path("kubelet").parent == tools.path("kube-proxy").parent
    first, second, *rest = tools.env()["PATH"].split(os.pathsep)
    assert [Path(first), Path(second)] == [tools.path("kubelet").parent, tools.path("coredns").parent]
    assert os.pathsep.join(rest) == os.environ["PATH"]


def test_what_is_missing_is_said_before_anything_is_built(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="apt-get install gcc"):
        ensure("coredns", "pause")
    assert workshop.made == []


def test_without_the_local_group_the_remedy_is_named(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UserError, match="uv sync --group local"):
        ensure("coredns")
    assert workshop.made == []


def test_go_is_the_projects_own() -> None:
    assert ensure("go").path("go") == Path(sys.executable).parent / "go"


def test_an_unknown_name_is_a_mistake_of_ours(workshop: Workshop) -> None:
    with pytest.raises(ValueError, match="kubeadm"):
        ensure("kubeadm")
    assert workshop.made == []


def test_every_command_comes_from_one_recipe() -> None:
    commands = [command for recipe in local.toolchain.RECIPES for command in recipe.commands]
    assert len(commands) == len(set(commands))
    assert {"pulumi", "kubectl", "kube-apiserver", "kubelet", "coredns", "llama-server", "pause"} <= set(commands)


def test_tools_never_empty_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    # An empty part would mean the current folder.
    assert Tools({}, (Path("/a"),)).env()["PATH"] == "/a"


def test_all_go_pieces_share_the_projects_go() -> None:
    assert sum(isinstance(recipe, GoPiece) for recipe in local.toolchain.RECIPES) == 7
