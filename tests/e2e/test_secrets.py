"""No secret value appears anywhere but in the Secret that holds it."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Line

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


def holders(folder: Path, canaries: list[bytes]) -> list[Path]:
    """The files below a folder that hold a canary, packed ones too."""
    found: list[Path] = []
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            text = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
            found += [path for canary in canaries if canary in text]
    return found


def test_canaries_stay_in_their_secrets(line: Line) -> None:
    hub_token = "hf_canary0123456789abcdefghijklm"  # noqa: S105 - a canary, to be searched for
    line.up()
    line.kubectl("create", "secret", "generic", "hf-token", f"--from-literal=token={hub_token}")

    def gated(config: dict[str, Any]) -> None:
        config["hub"]["token_secret"] = {"name": "hf-token", "key": "token"}
        config["statics"][0]["runtime"] = {"threads": 1}

    printed = line.up(line.variant(gated))
    master_key = (line.instance.state / "master-key").read_text()
    passphrase = (line.instance.state / "passphrase").read_text()
    canaries = [hub_token, master_key, passphrase]
    seen = printed + line.preview(line.variant(gated))
    seen += line.kubectl(
        "get", "configmaps,pods,jobs,deployments,replicasets,services,events,nodes", "-A", "-o", "json"
    )
    pods = json.loads(line.kubectl("get", "pods", "-o", "json"))["items"]
    logs = [
        line.kubectl("logs", pod["metadata"]["name"], "--all-containers", "--ignore-errors", "--tail=-1")
        for pod in pods
    ]
    assert any("/v1/chat/completions" in log for log in logs)
    for canary in canaries:
        assert canary not in seen
        assert not [log for log in logs if canary in log]
    state = line.instance.state
    encoded = [canary.encode() for canary in canaries]
    assert any((state / "pulumi").rglob("*.history.json*"))
    assert holders(state / "pulumi", encoded) == []
    assert holders(state / "log", encoded) == []
    arguments = b"".join(path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists())
    assert not [canary for canary in encoded if canary in arguments]
    allowed = {state / "master-key", state / "passphrase"}
    assert {path for path in state.glob("*") if path.is_file() and holders_one(path, encoded)} <= allowed
    line.kubectl("delete", "secret", "hf-token")


def holders_one(path: Path, canaries: list[bytes]) -> bool:
    data = path.read_bytes()
    return any(canary in data for canary in canaries)
