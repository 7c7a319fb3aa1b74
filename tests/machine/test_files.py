import json
import tomllib
from dataclasses import replace

import pytest
import yaml

from local.machine.daemons import Daemon, stages
from local.machine.files import corefile, node_file, render
from local.machine.layout import PAUSE_IMAGE, Layout
from local.machine.pki import ensure_pki


@pytest.fixture
def with_pki(layout: Layout) -> Layout:
    layout.state.mkdir()
    ensure_pki(layout.pki)
    return layout


def daemons(layout: Layout) -> dict[str, Daemon]:
    return {daemon.name: daemon for stage in stages(layout) for daemon in stage}


def test_every_file_lies_in_the_state_folder(with_pki: Layout) -> None:
    assert all(path.is_relative_to(with_pki.state) for path in render(with_pki))


def test_each_kubelet_has_an_address_a_socket_and_a_cgroup_of_its_own(with_pki: Layout) -> None:
    files = render(with_pki)
    kubelets = [json.loads(files[node_file(with_pki, node, "kubelet.yaml")]) for node in with_pki.nodes]
    for key in ("address", "containerRuntimeEndpoint", "cgroupRoot", "podLogsDir"):
        assert len({kubelet[key] for kubelet in kubelets}) == len(with_pki.nodes), key
    assert {kubelet["cgroupRoot"].split("/")[1] for kubelet in kubelets} == {"llama-chat-test"}


def test_pods_that_ask_for_no_gpu_prefer_the_node_without_one(with_pki: Layout) -> None:
    files = render(with_pki)
    taints = [
        json.loads(files[node_file(with_pki, node, "kubelet.yaml")])["registerWithTaints"] for node in with_pki.nodes
    ]
    assert [[taint["effect"] for taint in node] for node in taints] == [[], ["PreferNoSchedule"], ["PreferNoSchedule"]]


def test_containerd_takes_known_registries_images_from_ours(with_pki: Layout) -> None:
    files = render(with_pki)
    config = tomllib.loads(files[node_file(with_pki, with_pki.nodes[1], "containerd.toml")])
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["sandbox_image"] == PAUSE_IMAGE
    for host in ("ghcr.io", "docker.io"):
        hosts = tomllib.loads(files[with_pki.etc / "certs.d" / host / "hosts.toml"])
        assert list(hosts["host"]) == ["http://10.50.0.1:5000"]
    assert cri["registry"]["config_path"] == str(with_pki.etc / "certs.d")


def test_dns_answers_for_everything_and_asks_nobody_else(layout: Layout) -> None:
    text = corefile(layout)
    assert "10.50.0.1 hub.llama-chat.internal registry.llama-chat.internal" in text
    assert "forward" not in text
    assert text.count("{") == text.count("}")


def test_people_and_daemons_get_the_one_context_with_different_addresses(with_pki: Layout) -> None:
    files = render(with_pki)
    outer, inner = (yaml.safe_load(files[path]) for path in (with_pki.state / "kubeconfig", with_pki.kubeconfig))
    assert [context["name"] for context in outer["contexts"]] == ["llama-chat-local"]
    assert outer["clusters"][0]["cluster"]["server"] == "https://127.0.0.1:16443"
    assert inner["clusters"][0]["cluster"]["server"] == "https://10.50.0.1:6443"


def test_two_machines_differ_only_in_their_folders_and_names(layout: Layout) -> None:
    other = replace(layout, name="local", state=layout.state.with_name("other"))
    for name, daemon in daemons(layout).items():
        here = [word.replace(str(layout.state), "STATE") for word in daemon.argv]
        there = [word.replace(str(other.state), "STATE") for word in daemons(other)[name].argv]
        assert here == there


def test_gpu_nodes_daemons_run_in_their_nodes_network(layout: Layout) -> None:
    argvs = {name: daemon.argv for name, daemon in daemons(layout).items() if "@" in name}
    assert len(argvs) == 3 * len(layout.nodes)
    for name, argv in argvs.items():
        node = name.partition("@")[2]
        assert ("--net=/run/netns/" + node in argv) == (node != "control")
