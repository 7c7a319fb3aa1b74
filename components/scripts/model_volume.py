"""Where one model lies on a volume: `files/<owner>/<name>/<commit>/<path>`, and the links that its server opens.

Lies beside fetch_model.py in pods: nothing but the standard library of Python 3.9 or newer.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import gguf_choice
from model_download import download
from model_files import PART, Part, digest_of, is_right, is_whole, mark, part_size, sync_folder, write_whole
from model_hub import Progress
from model_record import Failure, File, Wanted, amount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from model_hub import Hub
    from model_space import Space


class Volume:
    """One model's place on the volume, and how its files come there."""

    def __init__(self, root: Path, wanted: Wanted) -> None:
        self._root = root.resolve()
        self._files = self._root / "files" / wanted.repo
        self._folder = Path(wanted.model_path).parent.resolve()
        self._wanted = wanted
        key = hashlib.sha256(json.dumps(wanted.triple).encode()).hexdigest()[:16]
        self._resolved = self._files / f"resolved-{key}.json"

    def check(self) -> None:
        """Failure where the server would open something outside the weights."""
        weights = self._root / "weights"
        if weights not in {self._folder, *self._folder.parents}:
            raise Failure(f"model_path {self._wanted.model_path} does not lie below {weights}: deploy the stack again")

    def known(self) -> tuple[str, list[File]] | None:
        """The commit and files that the lock names, or else those that an earlier run found out."""
        if self._wanted.commit:
            return self._wanted.commit, self._wanted.files
        try:
            found = json.loads(self._resolved.read_text(encoding="utf-8"))
            return str(found["commit"]), [File(*entry) for entry in found["files"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None

    def named(self) -> Iterator[Path]:
        """What its catalog needs on the volume, as far as that is known: its files, and what has come of them."""
        commit, files = self.known() or ("", [])
        for file in files:
            yield self._path(commit, file)
            yield self._part(commit, file)

    def settled(self) -> tuple[str, list[File]] | None:
        """What is known, where no hub need be asked about it: by the lock, or because all of it is here."""
        known = self.known()
        if known is None or self._wanted.commit:
            return known
        return known if all(is_whole(self._path(known[0], file), file) for file in known[1]) else None

    def ask(self, hub: Hub) -> tuple[str, list[File]]:
        """The commit and files that the hub says the triple means."""
        wanted = self._wanted
        commit, listed = hub.listing()
        try:
            chosen = gguf_choice.choose([file.path for file in listed], wanted.quant, wanted.filename)
        except gguf_choice.Unclear as unclear:
            raise Failure(f"{wanted.repo} at {wanted.revision} {unclear}") from None
        if gguf_choice.is_shard(chosen[0]) and wanted.filename != chosen[0]:
            # the loader finds the other shards by the name that it is given, so the server must be given that name
            raise Failure(f"the model is split into {len(chosen)} shards: set filename to the first, {chosen[0]}")
        by_path = {file.path: file for file in listed}
        return commit, [by_path[path] for path in chosen]

    def bring(self, hub: Hub, space: Space, commit: str, files: list[File]) -> list[Path]:
        """Have all files in place; those that are right already cost neither a read nor a request."""
        paths = [self._path(commit, file) for file in files]
        space.add(paths)
        missing = [file for file, path in zip(files, paths) if not self._is_here(file, path)]  # noqa: B905 - Python 3.9
        if missing:
            parts = [self._part(commit, file) for file in missing]
            space.add(parts)
            space.make(sum(file.size for file in missing) - sum(map(part_size, parts)), self._wanted.name)
        for file in missing:
            self._download(hub, commit, file)
        where = f"{self._wanted.name}: {self._wanted.repo} at {commit}"
        print(f"{where}: {len(files)} file(s) in place, {len(missing)} downloaded")
        if not self._wanted.commit:
            found = {"triple": self._wanted.triple, "commit": commit, "files": files}
            write_whole(self._resolved, json.dumps(found))
        return paths

    def link(self, paths: list[Path]) -> list[Path]:
        """Point the path that the server opens, and for a split model each shard's own name, at the files."""
        self._folder.mkdir(parents=True, exist_ok=True)
        named = {"model.gguf": paths[0], **{path.name: path for path in paths if gguf_choice.is_shard(path.name)}}
        for name, path in named.items():
            target = os.path.relpath(path, self._folder)
            if (self._folder / name).is_symlink() and str((self._folder / name).readlink()) == target:
                continue
            temporary = self._folder / f".{name}.new"
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(target)
            temporary.replace(self._folder / name)
        sync_folder(self._folder)
        opened = Path(self._wanted.model_path)
        if not (opened.exists() and opened.samefile(paths[0])):
            raise Failure(f"the server opens {opened}, which is not {paths[0].name}: set filename to what it opens")
        print(f"{self._wanted.name}: {opened} is {paths[0]}")
        return [self._folder / name for name in named]

    def _path(self, commit: str, file: File) -> Path:
        return self._files / commit / file.path

    def _part(self, commit: str, file: File) -> Path:
        # named by what it will be: what comes of one content never mixes with another, whichever commits have it
        key = file.sha256 or hashlib.sha256(f"{self._wanted.repo}/{commit}/{file.path}".encode()).hexdigest()
        return self._root / "parts" / (key + PART)

    def _is_here(self, file: File, path: Path) -> bool:
        """Whether the file is in place, or can be: other commits may have the same one."""
        if is_right(path, file):
            return True
        if path.exists():
            print(f"{self._wanted.name}: {path} is not what it should be, and is thrown away")
            path.unlink()
        twin = next(self._twins(file), None)
        if twin is None:
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(twin, path)
        except OSError as error:  # file systems without links
            print(f"{self._wanted.name}: {path} cannot be linked to {twin} ({error.strerror}): it is downloaded")
            return False
        mark(path, path.stat(), digest_of(twin))
        print(f"{self._wanted.name}: {path} is the same file as {twin}: nothing to download")
        return True

    def _twins(self, file: File) -> Iterator[Path]:
        if file.sha256:
            for path in sorted((self._root / "files").rglob("*")):
                if path.name.casefold().endswith(".gguf") and not path.is_symlink() and is_right(path, file):
                    yield path

    def _download(self, hub: Hub, commit: str, file: File) -> None:
        target, part_path = self._path(commit, file), self._part(commit, file)
        hub.progress = Progress(self._wanted.name, file, part_size(part_path))
        with hub.patiently(lambda: Part(part_path, file)) as part:
            if is_right(target, file):  # while this pod waited for another one that was downloading it
                part.drop()
                return
            part.read()
            if part.size:
                print(f"{self._wanted.name}: {file.path} goes on from {amount(part.size)}")
            url = f"/{quote(self._wanted.repo)}/resolve/{commit}/{quote(file.path)}"
            download(hub, self._wanted.name, url, part)
            part.put(target)


def unlink_others(root: Path, links: set[Path]) -> None:
    """Drop the links of models that left: no server opens them any more, and their files may make room for others."""
    weights = root.resolve() / "weights"
    for path in sorted(weights.rglob("*"), reverse=True):
        if path.is_symlink() and path not in links:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
