"""Downloads of what the lock names, checked against its SHA-256."""

import hashlib
import os
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx

from config.errors import UserError
from local.console import say
from local.paths import cache_dir

TIMEOUT_SECONDS = 60.0
LEFTOVER_SECONDS = 3600.0
_MIB = 1024 * 1024


def fetch(url: str, sha256: str) -> Path:
    """The file behind `url`, from the cache where it is there; proxies and authorities are those of the environment."""
    final = cache_dir() / "downloads" / sha256
    if final.is_file():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(final.parent)
    say(f"downloading {url.rpartition('/')[2]}")
    descriptor, name = tempfile.mkstemp(prefix=".fetching-", dir=final.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            digest = hashlib.sha256()
            for chunk in _chunks(url):
                digest.update(chunk)
                file.write(chunk)
        if digest.hexdigest() != sha256:
            raise UserError(
                f"{url} has SHA-256 {digest.hexdigest()}, uv.lock says {sha256}: something between here and there"
                " changes files; find out what before you go on."
            )
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)
    return final


def _remove_leftovers(downloads: Path) -> None:
    """What killed downloads left; a young one may still be at work."""
    for part in downloads.glob(".fetching-*"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > LEFTOVER_SECONDS:
                part.unlink()


def _chunks(url: str) -> Iterator[bytes]:
    try:
        with httpx.stream(
            "GET", url, verify=_authorities(), timeout=TIMEOUT_SECONDS, follow_redirects=True
        ) as response:
            response.raise_for_status()
            yield from response.iter_raw(_MIB)
    except (httpx.HTTPError, ImportError, ValueError) as error:  # the last two: a proxy that httpx cannot speak to
        raise UserError(f"{url} cannot be downloaded ({error}): check the network and the proxy settings.") from error


def _authorities() -> ssl.SSLContext:
    """What httpx trusts by itself (SSL_CERT_FILE with it), and what pip and requests are told to trust."""
    context = httpx.create_ssl_context()
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT"):
        bundle = Path(os.environ.get(variable, ""))
        if bundle.is_file():
            context.load_verify_locations(bundle)
    return context
