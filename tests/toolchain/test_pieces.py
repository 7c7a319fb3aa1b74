import tomllib
from pathlib import Path

import pytest

from local.toolchain.go import SOURCES, GoPiece
from local.toolchain.pieces import ACTIONLINT, COREDNS, FERRETDB, KUBE_SCORE, KUBECTL, KUBERNETES, PROVIDER, PULUMI

PIECES = [PULUMI, PROVIDER, KUBERNETES, KUBECTL, COREDNS, ACTIONLINT, KUBE_SCORE, FERRETDB]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_every_module_of_a_piece_has_its_sums(piece: GoPiece) -> None:
    for module in piece.modules:
        assert (SOURCES / module.folder / "go.mod").is_file()
        assert (SOURCES / module.folder / "go.sum").stat().st_size > 0


@pytest.mark.parametrize(
    ("piece", "required"),
    [
        (PULUMI, "github.com/pulumi/pulumi/pkg/v3"),
        (PROVIDER, "github.com/pulumi/pulumi-kubernetes/sdk/v4"),
        (KUBERNETES, "k8s.io/kubernetes"),
        (KUBECTL, "k8s.io/kubernetes"),
        (COREDNS, "github.com/coredns/coredns"),
        (ACTIONLINT, "github.com/rhysd/actionlint"),
        (KUBE_SCORE, "github.com/zegl/kube-score"),
        (FERRETDB, "github.com/FerretDB/FerretDB"),
    ],
    ids=lambda value: value.name if isinstance(value, GoPiece) else "",
)
def test_the_version_that_a_piece_names_is_the_one_that_its_go_mod_pins(piece: GoPiece, required: str) -> None:
    assert f"{required} v{piece.version}" in (SOURCES / piece.modules[0].folder / "go.mod").read_text()


def test_the_provider_tells_pulumi_the_version_of_the_sdk_that_the_program_uses() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert f"pulumi-kubernetes=={PROVIDER.version}" in dependencies
    assert f'version = "{PROVIDER.version}"' in (SOURCES / "pulumi-resource-kubernetes" / "main.go").read_text()


def test_every_replaced_kubernetes_module_is_of_the_same_release() -> None:
    lines = (SOURCES / "kubernetes" / "go.mod").read_text().splitlines()
    staged = [line.split()[-1] for line in lines if "=> k8s.io/" in line]
    assert set(staged) == {f"v0{KUBERNETES.version[1:]}"}
