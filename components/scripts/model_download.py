"""Downloads one file of a model: on from what is here, and again where what came was wrong.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.error import HTTPError

from model_hub import Progress
from model_record import Failure

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from model_files import Part
    from model_hub import Hub

_PARTIAL, _PAST_ITS_END = 206, 416  # HTTP's own numbers
_UNKNOWN = "*"
_SPAN = re.compile(r"bytes (?P<start>\d+)-(?P<last>\d+)/(?P<size>\d+|\*)")


class _Wrong(Exception):  # noqa: N818 - a first one is no failure yet
    """What comes is not the file that is meant."""


def download(hub: Hub, name: str, url: str, part: Part) -> None:
    """Make the part whole and right; Failure where the hub serves something else twice."""
    hub.progress = progress = Progress(name, part.file, part.size)
    wrong = _wrong(hub, url, part, progress)
    if wrong:
        print(f"{name}: {wrong}: once more")
        wrong = _wrong(hub, url, part, progress)
    if wrong:
        raise Failure(f"{wrong}, twice: check hub.endpoint and what lies on the way to it, then run it again")


def _wrong(hub: Hub, url: str, part: Part, progress: Progress) -> str | None:
    """What is wrong with the file that the hub serves; None where the part is whole and right now."""
    file = part.file
    try:
        hub.patiently(lambda: _go_on(hub, url, part, progress))
    except _Wrong as wrong:
        return str(wrong)
    if file.sha256 in {None, part.sha256}:
        return None
    came = part.sha256
    part.empty()
    return f"{file.path} came with the SHA-256 {came} instead of {file.sha256} and was thrown away"


def _go_on(hub: Hub, url: str, part: Part, progress: Progress) -> None:
    """Append what one answer brings; ConnectionError where it was not all."""
    file = part.file
    if part.size < file.size:
        with _answer(hub, url, part) as response:
            end = _end(response, part)
            response.length = None  # how much is to come is known: a Content-Length that lies changes nothing
            progress.at(part.size)
            for chunk in hub.chunks(response, end - part.size):
                part.write(chunk)
                progress.at(part.size)
    if part.size < file.size:
        raise ConnectionError(f"hung up after {part.size} of {file.size} bytes of {file.path}")


def _answer(hub: Hub, url: str, part: Part) -> HTTPResponse:
    try:
        return hub.open(url, part.size)
    except HTTPError as error:
        if error.code == _PAST_ITS_END:
            error.close()
            told = f"the hub serves {part.size} bytes or fewer as {part.file.path} instead of {part.file.size}"
            raise _Wrong(told) from None
        raise


def _end(response: HTTPResponse, part: Part) -> int:
    """Where an answer ends that goes on where the part does, of a file of the right size."""
    file, end = part.file, part.file.size
    size = response.headers.get("Content-Length", _UNKNOWN)
    if response.status == _PARTIAL:
        span = _SPAN.fullmatch(response.headers.get("Content-Range", ""))
        if span is None or int(span["start"]) != part.size:
            raise ConnectionError(f"the hub does not go on with {file.path} where it was asked to")
        end, size = min(end, int(span["last"]) + 1), span["size"]
    if size not in {_UNKNOWN, str(file.size)}:
        raise _Wrong(f"the hub serves {size} bytes as {file.path} instead of {file.size}")
    if response.status != _PARTIAL and part.size and size == _UNKNOWN:
        raise ConnectionError(f"something else than {file.path} came")  # a portal's page: what is here is kept
    if response.status != _PARTIAL and part.size:
        print(f"the hub knows no ranges: {file.path} begins anew")
        part.empty()
    return end
