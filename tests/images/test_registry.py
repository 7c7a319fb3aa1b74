import httpx
import pytest

from config.errors import UserError
from local.images.oci import Image, digest_of
from local.images.registry import mirror_name, publish
from tests.images.conftest import ImageMaker, Registry


@pytest.mark.parametrize(
    ("name", "repository", "reference"),
    [
        ("ghcr.io/berriai/litellm:v1", "berriai/litellm", "v1"),
        ("docker.io/library/python:3.11", "library/python", "3.11"),
        ("python:3.11", "library/python", "3.11"),
        ("python", "library/python", "latest"),
        ("bitnami/redis:7", "bitnami/redis", "7"),
        ("localhost:5000/a/b:c", "a/b", "c"),
        ("ghcr.io/a/b", "a/b", "latest"),
        ("ghcr.io/a/b@sha256:12", "a/b", "sha256:12"),
        ("ghcr.io/a/b:v1@sha256:12", "a/b", "sha256:12"),
    ],
)
def test_a_mirror_is_asked_without_the_host(name: str, repository: str, reference: str) -> None:
    assert mirror_name(name) == (repository, reference)


def _get(registry: Registry, image: Image, path: str) -> bytes:
    repository, _ = mirror_name(image.name)
    headers = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    answer = httpx.get(f"{registry.url}/v2/{repository}/{path}", headers=headers, trust_env=False)
    return answer.raise_for_status().content


def test_a_published_image_is_all_there_under_its_digest(registry: Registry, make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program", "/big": bytes(3 * 2**20 + 1)})
    assert publish(registry.url, [image]) == {"ghcr.io/some/server:v1": image.digest}
    assert _get(registry, image, "manifests/v1") == _get(registry, image, f"manifests/{image.digest}")
    assert digest_of(_get(registry, image, "manifests/v1")) == image.digest
    assert _get(registry, image, f"blobs/{digest_of(image.config)}") == image.config
    for layer in image.layers:
        assert _get(registry, image, f"blobs/{layer.digest}") == layer.path.read_bytes()


def test_what_is_there_is_not_sent_again(registry: Registry, make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program"})
    first = publish(registry.url, [image])
    sent = registry.requests("PUT"), registry.requests("POST")
    assert len(sent[0]) == 3  # layer, config, manifest
    assert publish(registry.url, [image]) == first
    assert (registry.requests("PUT"), registry.requests("POST")) == sent


def test_a_layer_that_two_images_share_is_sent_once(registry: Registry, make_image: ImageMaker) -> None:
    one = make_image("ghcr.io/some/one:v1", {"/base": b"base", "/run": b"one"})
    two = make_image("docker.io/library/two:v1", {"/base": b"base", "/run": b"two"})
    publish(registry.url, [one, two])
    uploads = [path for path in registry.requests("PUT") if "/blobs/uploads/" in path]
    assert len(uploads) == 5  # base, run and config of one; run and config of two
    assert _get(registry, two, f"blobs/{one.layers[0].digest}") == one.layers[0].path.read_bytes()


def test_new_content_under_an_old_tag_takes_its_place(registry: Registry, make_image: ImageMaker) -> None:
    old, new = (make_image("ghcr.io/some/server:v1", {"/run": content}) for content in (b"old", b"new"))
    publish(registry.url, [old])
    assert publish(registry.url, [new]) == {"ghcr.io/some/server:v1": new.digest}
    assert digest_of(_get(registry, new, "manifests/v1")) == new.digest


def test_an_upload_that_the_registry_refuses_says_so(registry: Registry, make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program"})
    path = image.layers[0].path
    path.write_bytes(path.read_bytes() + b"not what the digest says")
    with pytest.raises(UserError, match=r"ghcr\.io/some/server:v1 cannot be sent .* answered 400"):
        publish(registry.url, [image])


def test_a_registry_that_is_not_there_is_told_by_its_address(make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program"})
    with pytest.raises(UserError, match=r"registry http://127\.0\.0\.1:9 .*make status"):
        publish("http://127.0.0.1:9", [image])
