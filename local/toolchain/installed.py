"""Commands that the person already has: used where their version fits."""

import json
import os
import re
import shutil
from pathlib import Path

from local.system import answer

PULUMI_RANGE = ">=3.259.0 <4.0.0"
"""What Pulumi.yaml's `requiredPulumiVersion` says."""
KUBECTL_MINORS = range(33, 37)
"""Kubernetes' rule: kubectl may be one minor older or newer than the server, 1.33 to 1.35 for our 1.34; and 1.36, for
an operator whose own cluster is newer. Old ones (Debian's 1.20) lack `--subresource`."""
ANSWER_SECONDS = 10.0
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)(\+\S*)?$")


def installed_pulumi() -> Path | None:
    """A pulumi on PATH whose version fits and whose Python language host lies with it."""
    found = shutil.which("pulumi")
    if found is None:
        return None
    version = _VERSION.match(_asked(found, "version").strip())
    # A pre-release does not match: Pulumi itself sorts it before the release.
    if version is None or not _in_range(tuple(int(part) for part in version.groups()[:3])):
        return None
    host = Path(found).resolve().parent / "pulumi-language-python"
    return Path(found) if host.is_file() or shutil.which(host.name) else None


def installed_kubectl() -> Path | None:
    """A kubectl on PATH that is neither too old nor too new."""
    found = shutil.which("kubectl")
    if found is None:
        return None
    try:
        version = json.loads(_asked(found, "version", "--client", "--output=json"))["clientVersion"]
        # Some builds write their minor as `34+`.
        release = (int(version["major"]), int(version["minor"].rstrip("+")))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return Path(found) if release[0] == 1 and release[1] in KUBECTL_MINORS else None


def _in_range(version: tuple[int, ...]) -> bool:
    lowest, below = (tuple(map(int, bound.lstrip("<>=").split("."))) for bound in PULUMI_RANGE.split())
    return lowest <= version < below


def _asked(command: str, *arguments: str) -> str:
    env = {**os.environ, "PULUMI_SKIP_UPDATE_CHECK": "true"}
    return answer([command, *arguments], seconds=ANSWER_SECONDS, env=env) or ""
