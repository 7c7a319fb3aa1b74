"""Sends images to a Docker registry over plain HTTP, and only what it lacks."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx

from config.errors import UserError
from local.console import say
from local.images.oci import MANIFEST_TYPE, Image, digest_of

_CHUNK = 2**20
_DEFAULT_HOST = "docker.io"


def publish(registry: str, images: Iterable[Image]) -> dict[str, str]:
    """Send the images to `registry` (such as `http://127.0.0.1:5050`); each name's digest, whether sent or there."""
    digests: dict[str, str] = {}
    homes: dict[str, str] = {}  # layer -> a repository that has it
    # No proxy: the registry is on this machine.
    with httpx.Client(base_url=registry, timeout=60, trust_env=False) as client:
        for image in images:
            repository, _ = mirror_name(image.name)
            try:
                _publish(client, image, homes)
            except httpx.HTTPError as error:
                raise UserError(
                    f"Image {image.name} cannot be sent to the registry {registry} ({_reason(error)}):"
                    " see that the cluster is up with `make status`."
                ) from error
            homes |= dict.fromkeys((layer.digest for layer in image.layers), repository)
            digests[image.name] = image.digest
    return digests


def mirror_name(name: str) -> tuple[str, str]:
    """Repository and tag (or digest) that a mirror is asked for: `ghcr.io/a/b:v1` is `("a/b", "v1")` there."""
    host, slash, rest = name.partition("/")
    # By Docker's rule, what comes first is a host only if it looks like one.
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        host, rest = _DEFAULT_HOST, name
    tagged, at, digest = rest.partition("@")
    repository, _, tag = tagged.partition(":")
    if host == _DEFAULT_HOST and "/" not in repository:
        repository = f"library/{repository}"
    return repository, digest if at else tag or "latest"


def _publish(client: httpx.Client, image: Image, homes: dict[str, str]) -> None:
    repository, tag = mirror_name(image.name)
    manifest = f"/v2/{repository}/manifests/{tag}"
    there = client.head(manifest, headers={"Accept": MANIFEST_TYPE})
    if there.headers.get("Docker-Content-Digest") == image.digest:
        return
    for layer in image.layers:
        _send(client, repository, layer.digest, layer.path, homes.get(layer.digest))
    _send(client, repository, digest_of(image.config), image.config)
    # Last, as a registry refuses a manifest whose parts it lacks.
    client.put(manifest, content=image.manifest, headers={"Content-Type": MANIFEST_TYPE}).raise_for_status()
    say(f"image {image.name}: sent")


def _send(client: httpx.Client, repository: str, digest: str, blob: Path | bytes, home: str | None = None) -> None:
    if client.head(f"/v2/{repository}/blobs/{digest}").is_success:
        return
    # With a home, the registry links what another repository has, and nothing is sent.
    mount = {"mount": digest, "from": home} if home else {}
    started = client.post(f"/v2/{repository}/blobs/uploads/", params=mount).raise_for_status()
    if started.status_code == int(httpx.codes.CREATED):
        return
    upload = httpx.URL(started.headers["Location"]).copy_merge_params({"digest": digest})
    if isinstance(blob, bytes):
        client.put(upload, content=blob).raise_for_status()
    else:
        headers = {"Content-Length": str(blob.stat().st_size)}
        client.put(upload, content=_chunks(blob), headers=headers).raise_for_status()


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def _reason(error: httpx.HTTPError) -> str:
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answered {error.response.status_code}: {error.response.text.strip()[:200]}"
    return str(error) or type(error).__name__
