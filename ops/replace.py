"""A file of the checkout put in its old one's place."""

import stat
import tempfile
from pathlib import Path

from config.errors import UserError

NEW_MODE = 0o644


def replace_file(file: Path, old: bytes, new: bytes, *, again: str) -> None:
    """Put the new content in the old one's place, whole or not at all; `old` is empty where there was no file.

    UserError where it cannot be written, and, with `again` as the remedy, where somebody else has changed it since.
    """
    target = file.resolve()  # a link stays one
    try:
        with tempfile.NamedTemporaryFile(prefix=f".{target.name}-", dir=target.parent, delete=False) as part:
            part.write(new)
        written = Path(part.name)
        try:
            written.chmod(stat.S_IMODE(target.stat().st_mode) if target.exists() else NEW_MODE)
            if (target.read_bytes() if target.exists() else b"") != old:
                raise UserError(f"{file}: was changed by somebody else meanwhile: {again}")
            written.replace(target)
        finally:
            written.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{file}: cannot be written ({error.strerror}): nothing is changed.") from None
