"""Debian's commands that tests run: a test must not be left out because the machine is new."""

import shutil

from local.system import require_packages


def installed(package: str) -> str:
    """The command of this package, which is installed as `make up` does it where it is not on PATH."""
    if shutil.which(package) is None:
        require_packages(package)
    return package
