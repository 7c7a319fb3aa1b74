"""What one instance holds of the host while it changes: its lock and its loopback ports."""

import fcntl
import os
import socket
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from config.errors import UserError


@contextmanager
def locked(state: Path) -> Generator[None]:
    """Make the state folder and be the only one who changes it; a killed holder leaves no lock behind."""
    while True:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state / "lock"
        with path.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever had it may have removed the folder: then this lock is of a file that nobody else sees.
            if path.exists() and path.stat().st_ino == os.fstat(lock.fileno()).st_ino:
                yield
                return


def listen(port: int) -> socket.socket:
    """Take a port of 127.0.0.1; UserError where another program has it."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as error:
        raise UserError(
            f"Port {port} of 127.0.0.1 cannot be used ({error.strerror}): end the program that listens there"
            f" (`ss -ltnp 'sport = :{port}'` shows it), then run the command again."
        ) from error
