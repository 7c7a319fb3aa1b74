"""Where the previews run: a cluster that must stand, and an environment that ends with them."""

import os
from pathlib import Path

import pytest
import yaml

from bench import previews
from bench.previews import TITLES, environment, renamed, require_standing, write
from bench.stacks import Stack
from config.errors import UserError
from config.load import load_file
from local.paths import INSTANCES, Instance
from local.toolchain import Tools

KUBECONFIG = {
    "contexts": [{"name": "llama-chat-local", "context": {"cluster": "c", "user": "u"}}],
    "current-context": "llama-chat-local",
    "users": [{"name": "u"}],
}


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state-home"))
    return INSTANCES["test"]


def anybody() -> None:
    """Whoever runs the tests."""


def all_installed(*_: str) -> Tools:
    return Tools(paths={})


def test_a_cluster_that_does_not_stand_is_refused(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "require_linux_root", anybody)
    with pytest.raises(UserError, match=r"The cluster test does not stand \(init: does not run.*run `make up` first"):
        require_standing(instance)


def test_a_kubeconfig_has_its_one_context_under_another_name() -> None:
    document = yaml.safe_load(renamed(yaml.safe_dump(KUBECONFIG), "homelab-prod"))
    assert document["contexts"] == [{"name": "homelab-prod", "context": {"cluster": "c", "user": "u"}}]
    assert document["users"] == KUBECONFIG["users"]
    assert document["current-context"] == ""


def test_the_environment_ends_with_the_measurement(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(previews, "ensure", all_installed)
    monkeypatch.setenv("UV", "/opt/uv/uv")
    instance.state.mkdir(parents=True)
    instance.kubeconfig.write_text(yaml.safe_dump(KUBECONFIG))
    before = dict(os.environ)
    with environment(instance, tmp_path, "homelab-prod"):
        assert os.environ["PATH"].endswith(":/opt/uv")
        assert os.environ["PULUMI_BACKEND_URL"] == f"file://{tmp_path}/state"
        assert "homelab-prod" in Path(os.environ["KUBECONFIG"]).read_text()
    assert dict(os.environ) == before


def test_every_stack_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(renamed(yaml.safe_dump(KUBECONFIG), "homelab-prod"))
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    write({name: Stack(name=name, title="", folder=tmp_path / name) for name in TITLES})
    sizes = {name: len(load_file(tmp_path / name / f"Pulumi.{name}.yaml").pools[0].models) for name in ("few", "many")}
    assert sizes == {"few": 5, "many": 500}
    assert load_file(tmp_path / "prod" / "Pulumi.prod.yaml").cluster.namespace == "bench-prod"
    assert '"bench-bare"' in (tmp_path / "bare" / "registrations.json").read_text()
    assert (tmp_path / "empty" / "__main__.py").read_text() == ""
    runtimes = [yaml.safe_load((tmp_path / name / "Pulumi.yaml").read_text())["runtime"] for name in TITLES]
    assert all(runtime == runtimes[0] for runtime in runtimes)
    assert Path(runtimes[0]["options"]["virtualenv"]).is_absolute()
