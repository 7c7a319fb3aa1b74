"""The layer that makes the base a LiteLLM image: the dependency group `gateway`, as the lock has it."""

import platform
import shutil
import sys
from pathlib import Path

from config.errors import UserError
from local.console import run_logged
from local.images.oci import Layer
from local.images.rootfs import PYTHON, base, base_key, compile_python, images_log, unpack
from local.images.store import cached_layer, write_file
from local.system import answer
from local.uv import uv_command

HOME = "/opt/litellm"
"""Where the packages lie; PYTHONPATH, which LiteLLM's own image leaves free, is not needed."""
ENTRYPOINT = "docker/prod_entrypoint.sh"
"""As in LiteLLM's own image, below its working directory `/app`."""

_RECIPE = 2
"""Raise it when the code below makes something else of the same packages."""
_PROJECT = Path(__file__).parents[2]
# 210 MB for exporters of spend data and for AWS; LiteLLM imports them only where a config asks for those.
_LEFT_OUT = ("boto3", "botocore", "s3transfer", "polars", "polars-runtime-32")
_GLIBC = "manylinux_2_36"
"""The newest wheels that the base's glibc loads."""
_FOUND = f"/usr/local/lib/python{PYTHON.rpartition('.')[0]}/dist-packages"
"""Where Debian's Python looks for packages."""
_COMMAND = b"#!/usr/bin/python3\nfrom litellm import run_server\n\nrun_server()\n"
_ENTRYPOINT_SCRIPT = b'#!/bin/sh\nexec litellm "$@"\n'


def gateway() -> Layer:
    """LiteLLM's packages, compiled, with its command and its image's entrypoint."""
    requirements = _requirements()

    def build(root: Path) -> None:
        rootfs = root.parent / "scratch"
        unpack(base(), rootfs)
        _install(requirements, rootfs)
        compile_python(rootfs, HOME)
        write_file(root, "/usr/local/bin/litellm", _COMMAND)
        write_file(root, f"/app/{ENTRYPOINT}", _ENTRYPOINT_SCRIPT)
        write_file(root, f"{_FOUND}/litellm.pth", f"{HOME}\n".encode())
        (root / "opt").mkdir()
        (rootfs / HOME[1:]).rename(root / HOME[1:])

    base()  # before ours: layers are made one at a time
    return cached_layer("gateway", f"{_RECIPE} {base_key()} {PYTHON}\n{requirements}", build)


def _requirements() -> str:
    """Every package with version and hashes, from the lock; nothing is resolved anew."""
    leave_out = [argument for name in _LEFT_OUT for argument in ("--no-emit-package", name)]
    export = ("export", "--frozen", "--only-group", "gateway", "--no-header", "--no-annotate", "--project")
    printed = answer([uv_command(), *export, str(_PROJECT), *leave_out], seconds=60)
    if not printed:
        raise UserError(f"uv cannot read the dependency group `gateway` from {_PROJECT / 'uv.lock'}: run `uv lock`.")
    return printed


def _install(requirements: str, rootfs: Path) -> None:
    listed, target = rootfs.parent / "requirements.txt", rootfs / HOME[1:]
    listed.write_text(requirements)
    platform_of_base = ("--python-version", PYTHON, "--python-platform", f"{platform.machine()}-{_GLIBC}")
    as_locked = ("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirements", str(listed))
    # Copies, not links: the files of uv's cache are for uv alone.
    install = (
        uv_command(),
        "pip",
        "install",
        "--python",
        sys.executable,
        "--target",
        str(target),
        "--link-mode",
        "copy",
    )
    # Away from the project: its settings are about its own environment.
    run_logged("gateway image: LiteLLM", [*install, *platform_of_base, *as_locked], log=images_log(), cwd=rootfs)
    # uv's own lock file, and commands that start this machine's Python.
    (target / ".lock").unlink(missing_ok=True)
    shutil.rmtree(target / "bin", ignore_errors=True)
