"""Writes into a stack file what its registries report: each image's digest behind its tag."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import yaml
from pydantic import JsonValue

from config.errors import ConfigError, Problem, UserError
from config.model import NAMESPACE
from config.naming import Where
from config.secrecy import key_path, problem
from config.stack_file import read
from ops.registry import digest, open_client
from ops.replace import replace_file
from ops.stack_edit import node_at


@dataclass(frozen=True, kw_only=True)
class Pinned:
    """One image of a stack file, changed or not."""

    key: str
    """Where it stands, as an operator writes it: `llama-chat:images.python`."""
    before: str
    after: str
    """With its digest: `registry/name:tag@sha256:…`."""


def pin(file: Path, *, update: bool = False) -> list[Pinned]:
    """Add to every image in the stack file the digest of its tag, and return all images, those of `images` first.

    A digest that is there stays and must still exist at its registry; with `update` each is taken anew from its tag.
    Nothing else in the file changes. Raises ConfigError with every image that fails, UserError where the file cannot
    be read or written; the file is then as it was.
    """
    images = _texts(dict(_images(read(file))))
    content = file.read_bytes()
    if not images:
        raise UserError(f"{file}: {NAMESPACE}:images names no image: add the images that the stack runs.")
    after = _resolved(images, update=update)
    if after != images:
        edits = {where: (images[where], after[where]) for where in images if images[where] != after[where]}
        replace_file(file, content, _edited(content.decode(), edits).encode(), again="pin it again.")
    return [Pinned(key=key_path(where), before=images[where], after=after[where]) for where in images]


def _images(values: Mapping[str, JsonValue]) -> Iterator[tuple[Where, JsonValue]]:
    """Every image in a stack file's values; null is none."""
    images = values.get("images")
    for name, image in images.items() if isinstance(images, dict) else ():
        if image is not None:
            yield ("images", name), image
    for kind in ("statics", "pools"):
        backends = values.get(kind)
        for i, backend in enumerate(backends if isinstance(backends, list) else ()):
            if isinstance(backend, dict) and backend.get("image") is not None:
                yield (kind, i, "image"), backend["image"]


def _texts(images: Mapping[Where, JsonValue]) -> dict[Where, str]:
    wrong = [(where, image) for where, image in images.items() if not isinstance(image, str)]
    if wrong:
        raise ConfigError(tuple(problem(*fault, "is no text: write registry/name:tag") for fault in wrong))
    return {where: str(image) for where, image in images.items()}


def _resolved(images: Mapping[Where, str], *, update: bool) -> dict[Where, str]:
    """Each image with its digest; one that stands twice is asked for once."""
    with open_client() as client:
        answers = {image: _answer(client, image, update=update) for image in dict.fromkeys(images.values())}
    after = {where: answer for where, image in images.items() if isinstance(answer := answers[image], str)}
    if len(after) < len(images):
        failed = {where: image for where, image in images.items() if where not in after}
        raise ConfigError(tuple(problem(where, image, str(answers[image])) for where, image in failed.items()))
    return after


def _answer(client: httpx.Client, image: str, *, update: bool) -> str | UserError:
    name = image.partition("@")[0] if update else image
    try:
        found = digest(client, name)
    except UserError as error:
        return error
    return image if "@" in name else f"{name}@{found}"


def _edited(text: str, edits: Mapping[Where, tuple[str, str]]) -> str:
    """The YAML text with images (before, after) replaced where they stand, and no other character changed."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    replaced: dict[tuple[int, int], str] = {}
    problems: list[Problem] = []
    for where, (before, after) in edits.items():
        node = node_at(root, where)
        start, end = (node.start_mark.index, node.end_mark.index) if node else (0, 0)
        # A scalar's text has its quotes, its tag and its anchor with it.
        if text[start:end].count(before) == 1:
            replaced[start, end] = text[start:end].replace(before, after)
        else:
            remedy = "stands in a form that cannot be edited: write it as plain text at its own key"
            problems.append(problem(where, before, remedy))
    if problems:
        raise ConfigError(tuple(problems))
    for (start, end), new in sorted(replaced.items(), reverse=True):
        text = text[:start] + new + text[end:]
    return text
