import socket
import threading
from pathlib import Path

import pytest

from config.errors import UserError
from local.machine.cgroups import make_cgroups, remove_cgroups
from local.machine.claims import listen, locked
from local.machine.layout import Layout


def test_a_busy_port_is_named_with_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"Port {port} .*end the program"):
            listen(port)


def test_a_port_is_free_again_right_after_its_listener_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as first:
        port = first.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        first.accept()[0].close()
        client.close()
    listen(port).close()


def test_one_who_waited_while_the_state_was_removed_gets_a_lock_that_others_see(tmp_path: Path) -> None:
    state, inside, ends = tmp_path / "state", threading.Event(), threading.Event()

    def waits() -> None:
        with locked(state):
            inside.set()
            ends.wait(5)

    with locked(state):
        waiter = threading.Thread(target=waits)
        waiter.start()
        assert not inside.wait(0.2)
        (state / "lock").unlink()
        state.rmdir()
    assert inside.wait(5)
    assert (state / "lock").exists()
    ends.set()
    waiter.join()


def test_on_cgroup_v2_each_level_gets_the_controllers_that_there_are(layout: Layout, tmp_path: Path) -> None:
    top = tmp_path / "llama-chat-test"
    top.mkdir()
    for folder in (tmp_path, top):
        (folder / "cgroup.controllers").write_text("cpu io memory pids\n")
    make_cgroups(layout, tmp_path)
    for folder in (tmp_path, top):
        assert (folder / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"
    assert {path.name for path in top.iterdir() if path.is_dir()} == {node.name for node in layout.nodes}


def test_on_cgroup_v1_each_controller_has_a_folder_for_each_node(layout: Layout, tmp_path: Path) -> None:
    for controller in ("memory", "pids"):
        (tmp_path / controller).mkdir()
    make_cgroups(layout, tmp_path)
    for controller in ("memory", "pids"):
        assert (tmp_path / controller / "llama-chat-test" / "gpu-swap").is_dir()


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_only_cgroups_of_this_machine_are_removed(tmp_path: Path, version: str) -> None:
    hierarchies = [tmp_path] if version == "v2" else [tmp_path / "memory", tmp_path / "pids"]
    for hierarchy in hierarchies:
        (hierarchy / "llama-chat-test" / "gpu-swap" / "kubepods" / "pod1").mkdir(parents=True)
        (hierarchy / "llama-chat-local").mkdir()
    if version == "v2":
        (tmp_path / "cgroup.controllers").touch()
    remove_cgroups("llama-chat-test", tmp_path)
    remove_cgroups("llama-chat-test", tmp_path)
    for hierarchy in hierarchies:
        assert (hierarchy / "llama-chat-local").is_dir()
        assert not (hierarchy / "llama-chat-test").exists()
