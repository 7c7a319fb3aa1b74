"""What a repository's downloads may suffer from, for tests; nothing, unless its `.hub.json` says so."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

_STEP = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class Faults:
    """The key `faults` of `.hub.json`."""

    times: int | None = None
    """How many downloads suffer; None for all of them."""
    every: int = 1
    """2 for each second download, beginning with the first."""
    status: int | None = None
    """Answered instead of the file, such as 429 or 503."""
    retry_after: str | None = None
    """What that answer's header says."""
    redirect: str | None = None
    """Scheme, host and port that have the file instead."""
    extra_length: int = 0
    """How much more than the truth Content-Length says."""
    cut_bytes: int | None = None
    """The connection ends after so many bytes of each answer."""
    wrong_byte: int | None = None
    """The place in the file of one byte that is served wrong."""
    bytes_per_second: int | None = None
    """No faster than this."""

    def at(self, number: int) -> "Faults":
        """What the download of that number, from 0 on, suffers from."""
        spared = number % self.every or (self.times is not None and number >= self.times)
        return NO_FAULTS if spared else self

    def body(self, content: BinaryIO, size: int) -> Iterator[bytes]:
        """So many bytes of a file from where it is at, as they are served."""
        end = size if self.cut_bytes is None else min(size, self.cut_bytes)
        step = min(_STEP, 1 + self.bytes_per_second // 20) if self.bytes_per_second else _STEP
        sent, begun = 0, time.monotonic()
        while sent < end:
            place = content.tell()
            chunk = bytearray(content.read(min(step, end - sent)))
            if self.wrong_byte is not None and place <= self.wrong_byte < place + len(chunk):
                chunk[self.wrong_byte - place] ^= 0xFF
            yield bytes(chunk)
            sent += len(chunk)
            if self.bytes_per_second:
                time.sleep(max(0.0, begun + sent / self.bytes_per_second - time.monotonic()))


NO_FAULTS = Faults()
