"""No secret value appears anywhere but in the Secret that holds it."""

import base64
import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.line import ROOT, Line

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def spellings(canary: str) -> list[bytes]:
    """A secret as it is, and in base64 as a Secret's data has it."""
    return [canary.encode(), base64.b64encode(canary.encode())]


def holders(state: Path, canaries: list[bytes]) -> set[Path]:
    """The files of the local state that hold a canary, packed ones too; the cluster's own stores are left out."""
    found: set[Path] = set()
    for entry in state.iterdir():
        stores = entry.name in {"etcd", "nodes", "volumes"}
        for path in [] if stores else [entry, *entry.rglob("*")]:
            if path.is_file():
                data = path.read_bytes()
                text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
                found |= {path for canary in canaries if canary in text}
    return found


def encrypted(line: Line, value: str) -> str:
    """A value as `pulumi config set --secret` writes it into the stack file."""
    file = line.scratch / "secret.yaml"
    file.write_bytes((line.instance.state / "Pulumi.local.yaml").read_bytes())
    subprocess.run(
        ["pulumi", "config", "set", "--secret", "llama-chat:master_key", "--stack", "local", "--config-file", file],
        input=value,
        env=line.pulumi_env(),
        cwd=ROOT,
        text=True,
        check=True,
    )
    return yaml.safe_load(file.read_text())["config"]["llama-chat:master_key"]["secure"]


def test_canaries_stay_in_their_secrets(line: Line) -> None:
    line.up()
    state = line.instance.state
    hub_token = "hf_canary0123456789abcdefghijklm"  # noqa: S105 - a canary, to be searched for
    master_key, passphrase = ((state / name).read_text() for name in ("master-key", "passphrase"))
    line.kubectl("create", "secret", "generic", "hf-token", f"--from-literal=token={hub_token}")
    secure = encrypted(line, master_key)

    def with_secrets(config: dict[str, Any]) -> None:
        config["hub"]["token_secret"] = {"name": "hf-token", "key": "token"}
        config["gateway"]["master_key_secret"]["name"] = "own-key"

    changed = line.variant(with_secrets)
    document = yaml.safe_load(changed.read_text())
    document["config"]["llama-chat:master_key"] = {"secure": secure}
    changed.write_text(yaml.safe_dump(document))
    arguments: set[bytes] = set()
    with watching(arguments):
        seen = line.up(changed) + line.preview(changed)
    assert "own-key" in line.kubectl("get", "secrets", "-o", "name")
    rendered = [sys.executable, "-m", "render", "litellm", str(changed)]
    seen += subprocess.run(rendered, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    seen += line.kubectl("get", "configmaps,pods,jobs,deployments,replicasets,services,events", "-A", "-o", "json")
    pods = json.loads(line.kubectl("get", "pods", "-o", "json"))["items"]
    names = [pod["metadata"]["name"] for pod in pods]
    logs = [line.kubectl("logs", name, "--all-containers", "--ignore-errors", "--tail=-1") for name in names]
    assert any("/v1/chat/completions" in log for log in logs)
    canaries = [spelling for secret in (hub_token, master_key, passphrase) for spelling in spellings(secret)]
    everything = "\n".join([seen, *logs]).encode()
    assert not [canary for canary in canaries if canary in everything]
    assert len(arguments) > 10
    assert not [canary for canary in canaries if any(canary in argument for argument in arguments)]
    assert any((state / "pulumi").rglob("*.history.json*"))
    kept = {state / "master-key", state / "passphrase"}
    assert holders(state, canaries) == kept


@contextmanager
def watching(arguments: set[bytes]) -> Generator[None]:
    """Collect the command line of every process that runs meanwhile."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    arguments.add(path.read_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
