import errno
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.scripts import fetch_model
from components.scripts.fetch_model import Failure, File, Wanted, has_quant, message, pick

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
Answer = Callable[[str, dict[str, str], bytes], Reply]
Serve = Callable[[Answer], str]
SCRIPT = Path(fetch_model.__file__)
REPO = "acme/tiny-GGUF"
CONTENT = bytes(range(256)) * 4000
TOKEN = "hf_right"  # noqa: S105 - a token that opens nothing but these tests
COMMIT = "0123456789" * 4
NOWHERE = "http://127.0.0.1:1"


class Pod:
    """A pod's view: its ConfigMap, its volume, its termination message."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self.models = directory / "models"
        self.models.mkdir(parents=True)
        self.weights = self.models / "weights"
        self.config = directory / "model.json"
        self.log = directory / "termination-log"
        self.record: dict[str, Any] = {"endpoint": endpoint, "deadline_seconds": 0.5}
        self.model: dict[str, Any] = {
            "name": "Tiny",
            "repo": REPO,
            "quant": "Q4_K_M",
            "filename": None,
            "revision": "main",
            "model_path": str(self.weights / "model.gguf"),
        }
        self.record["models"] = [self.model]

    def add(self, name: str, **changes: object) -> dict[str, Any]:
        """One more model, with a folder of its own; the first one makes the volume a pool's."""
        model = {**self.model, "name": name, "model_path": str(self.weights / name / "model.gguf"), **changes}
        before: list[dict[str, Any]] = self.record["models"]
        self.record["models"] = [*(other for other in before if other is not self.model), model]
        return model

    def command(self, action: str) -> list[str]:
        self.config.write_text(json.dumps(self.record))
        files = ["--config", str(self.config), "--models", str(self.models), "--termination-log", str(self.log)]
        return [action, *files]

    def run(self, action: str, **changes: object) -> str:
        """What the script leaves as its termination message: empty where all went well."""
        for key, value in changes.items():
            (self.record if key in self.record else self.model)[key] = value
        self.log.unlink(missing_ok=True)
        status = fetch_model.main(self.command(action))
        verdict = self.log.read_text() if self.log.exists() else ""
        assert status == (1 if verdict else 0)
        assert "\n" not in verdict
        return verdict

    @contextmanager
    def running(self, action: str) -> Generator[subprocess.Popen[bytes]]:
        """The script as a process, as in a pod."""
        command = [sys.executable, str(SCRIPT), *self.command(action)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            yield process

    def files(self) -> dict[str, bytes]:
        """Files of models on the volume, by their path in the repository."""
        root = self.models / "files" / REPO
        return {"/".join(path.relative_to(root).parts[1:]): path.read_bytes() for path in root.rglob("*.gguf*")}

    def links(self) -> dict[str, bytes]:
        """What a server would read, by its path below the weights."""
        return {str(path.relative_to(self.weights)): path.read_bytes() for path in self.weights.rglob("*.gguf")}


@pytest.fixture
def repo(hub_root: Path) -> Path:
    directory = hub_root / REPO
    directory.mkdir(parents=True)
    (directory / "tiny-Q4_K_M.gguf").write_bytes(CONTENT)
    (directory / "tiny-Q8_0.gguf").write_bytes(b"q8")
    return directory


@pytest.fixture
def pod(tmp_path: Path, hub: str, repo: Path) -> Pod:
    assert repo.is_dir()
    return Pod(tmp_path / "pod", hub)


def wanted(**changes: Any) -> Wanted:  # noqa: ANN401 - whatever the field takes
    return Wanted("Tiny", REPO, "Q4_K_M", None, "main", "/models/weights/model.gguf")._replace(**changes)


def split(repo: Path, shards: int = 3) -> list[str]:
    names = [f"big/big-Q4_K_M-0000{number}-of-00003.gguf" for number in range(1, shards + 1)]
    (repo / "big").mkdir()
    (repo / "tiny-Q4_K_M.gguf").unlink()
    for name in names:
        (repo / name).write_bytes(name.encode())
    return names


def always(body: bytes) -> Answer:
    def answer(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 200, {}, body

    return answer


# --- which file is meant


@pytest.mark.parametrize(
    ("name", "quant", "holds"),
    [
        ("tiny-Q4_K_M.gguf", "Q4_K_M", True),
        ("tiny-q4_k_m.gguf", "Q4_K_M", True),
        ("tiny.Q4_K_M.gguf", "q4_k_m", True),
        ("big-Q4_K_M-00001-of-00003.gguf", "Q4_K_M", True),
        ("tiny-UD-Q4_K_XL.gguf", "Q4_K_XL", True),
        ("tiny-Q4_K_M_L.gguf", "Q4_K_M", False),
        ("tiny-IQ4_K_M.gguf", "Q4_K_M", False),
        ("tiny-Q4_K_M.gguf", "Q4_K", False),
        ("Q4_K_M/tiny-Q8_0.gguf", "Q4_K_M", False),
    ],
)
def test_a_quant_is_a_whole_token_of_the_files_own_name(name: str, quant: str, holds: bool) -> None:  # noqa: FBT001 - a table's column
    assert has_quant(name, quant) is holds


tokens = st.from_regex(r"[A-Za-z0-9_]+", fullmatch=True).filter(lambda token: token.casefold() not in {"tiny", "gguf"})


@given(tokens, tokens, st.sampled_from("-."))
def test_a_file_of_one_quant_is_taken_for_no_other(its_own: str, asked: str, mark: str) -> None:
    assert has_quant(f"Q4_K_M/tiny{mark}{its_own}.gguf", asked) is (its_own.casefold() == asked.casefold())


def test_projectors_and_other_files_are_no_models() -> None:
    files = [File(name, 1) for name in ("mmproj-tiny-Q4_K_M.gguf", "tiny-Q4_K_M.gguf", "tiny-Q4_K_M.safetensors")]
    assert pick(files, wanted()) == [File("tiny-Q4_K_M.gguf", 1)]


@pytest.mark.parametrize(
    ("names", "changes", "told"),
    [
        (["a-Q4_K_M.gguf", "b-Q4_K_M.gguf", "c-Q8_0.gguf"], {}, ["several", "a-Q4_K_M.gguf, b-Q4_K_M.gguf"]),
        (["a-Q8_0.gguf", "b-Q5_0.gguf"], {}, ["no GGUF of quant Q4_K_M", "a-Q8_0.gguf, b-Q5_0.gguf"]),
        (["a-Q8_0.gguf"], {"filename": "b.gguf"}, ["no file b.gguf", "a-Q8_0.gguf"]),
        (["README.md"], {}, ["it has no GGUF"]),
    ],
)
def test_none_or_several_candidates_are_listed(names: list[str], changes: dict[str, str], told: list[str]) -> None:
    with pytest.raises(Failure) as failure:
        pick([File(name, 1) for name in names], wanted(**changes))
    assert all(part in str(failure.value) for part in [*told, "set filename"])
    assert "c-Q8_0" not in str(failure.value)


def test_a_filename_is_taken_whatever_its_quant() -> None:
    assert pick([File("a-Q4_K_M.gguf", 1), File("b-F16.gguf", 1)], wanted(filename="b-F16.gguf")) == [
        File("b-F16.gguf", 1)
    ]


# --- fetch


def test_a_model_is_fetched_once_and_linked(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    assert pod.run("fetch") == ""
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}
    assert "1 downloaded" in capsys.readouterr().out
    assert pod.run("fetch") == ""
    assert "0 downloaded" in capsys.readouterr().out
    assert pod.run("link") == ""
    link = pod.weights / "model.gguf"
    assert link.read_bytes() == CONTENT
    assert not link.readlink().is_absolute()


def test_link_fetches_what_is_missing(pod: Pod) -> None:
    assert pod.run("link") == ""
    assert (pod.weights / "model.gguf").read_bytes() == CONTENT


def test_another_model_moves_the_link_and_keeps_the_old_file(pod: Pod) -> None:
    pod.run("link")
    assert pod.run("link", quant="Q8_0") == ""
    assert (pod.weights / "model.gguf").read_bytes() == b"q8"
    assert set(pod.files()) == {"tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf"}


def test_a_restarted_pod_needs_no_hub(pod: Pod) -> None:
    pod.run("fetch")
    assert pod.run("link", endpoint=NOWHERE) == ""
    assert (pod.weights / "model.gguf").read_bytes() == CONTENT


def test_a_pinned_commit_that_is_in_place_needs_no_hub_at_all(pod: Pod, hub: str) -> None:
    pod.run("fetch")
    (commit,) = (path.name for path in (pod.models / "files" / REPO).iterdir() if path.is_dir())
    assert pod.run("fetch", revision=commit) == ""
    assert pod.run("fetch", endpoint=NOWHERE) == ""
    assert "127.0.0.1:1 " in pod.run("fetch", revision="main")
    assert hub != pod.record["endpoint"]


def test_a_truncated_file_is_fetched_again(pod: Pod) -> None:
    pod.run("fetch")
    (path,) = pod.models.rglob("tiny-Q4_K_M.gguf")
    path.write_bytes(CONTENT[:100])
    assert pod.run("link") == ""
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


def test_a_moved_branch_is_followed_by_fetch_and_not_by_a_restart(pod: Pod, repo: Path) -> None:
    pod.run("link")
    (repo / "tiny-Q4_K_M.gguf").write_bytes(b"newer")
    pod.run("link")
    assert (pod.weights / "model.gguf").read_bytes() == CONTENT
    pod.run("fetch")
    pod.run("link")
    assert (pod.weights / "model.gguf").read_bytes() == b"newer"


def test_all_shards_lie_beside_the_first_under_their_own_names(pod: Pod, repo: Path) -> None:
    names = split(repo)
    opened = str(pod.weights / "big-Q4_K_M-00001-of-00003.gguf")
    assert pod.run("link", filename=names[0], model_path=opened) == ""
    assert {path.name: path.read_bytes() for path in pod.weights.iterdir()} == {
        "model.gguf": names[0].encode(),
        **{name.split("/")[1]: name.encode() for name in names},
    }


@pytest.mark.parametrize("action", ["fetch", "link"])
def test_a_split_model_asks_for_its_first_shards_name_before_anything_is_downloaded(
    pod: Pod, repo: Path, action: str
) -> None:
    names = split(repo)
    assert f"set filename to the first, {names[0]}" in pod.run(action)
    assert f"set filename to the first, {names[0]}" in pod.run(action, filename=names[1])
    assert pod.files() == {}


def test_a_missing_shard_is_told(pod: Pod, repo: Path) -> None:
    names = split(repo, shards=2)
    assert "2 of 3 shards" in pod.run("fetch", filename=names[0])


def test_a_path_that_the_server_opens_in_vain_is_told(pod: Pod) -> None:
    opened = str(pod.weights / "other.gguf")
    assert f"the server opens {opened}" in pod.run("link", model_path=opened)


@pytest.mark.parametrize("action", ["fetch", "link"])
@pytest.mark.parametrize(
    "outside", ["weights/../model.gguf", "weights", "weights2/model.gguf", "/elsewhere/model.gguf", "model.gguf"]
)
def test_a_path_outside_the_weights_is_refused_before_anything_is_downloaded(
    pod: Pod, action: str, outside: str
) -> None:
    opened = outside if outside == "model.gguf" else str(pod.models / outside)
    told = f"Tiny: model_path {opened} does not lie below {pod.weights}"
    assert told in pod.run(action, model_path=opened)
    assert list(pod.models.iterdir()) == []


def test_a_folder_that_leads_out_of_the_weights_is_refused(pod: Pod, tmp_path: Path) -> None:
    pod.weights.mkdir()
    (pod.weights / "Tiny").symlink_to(tmp_path)
    assert "does not lie below" in pod.run("link", model_path=str(pod.weights / "Tiny" / "model.gguf"))
    assert not (tmp_path / "model.gguf").is_symlink()


# --- several models on one volume


def passed_on(hub: str) -> tuple[Answer, list[str]]:
    """A hub that sends everybody on to another one, and the paths that it was asked for."""
    seen: list[str] = []

    def redirect(path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        seen.append(urlsplit(path).path)
        return 307, {"Location": hub + path}, b""

    return redirect, seen


def test_two_quants_of_one_repo_lie_in_folders_of_their_own(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    pod.add("Large")
    pod.add("Small", quant="Q8_0")
    assert pod.run("link") == ""
    assert pod.links() == {"Large/model.gguf": CONTENT, "Small/model.gguf": b"q8"}
    assert not (pod.weights / "Small" / "model.gguf").readlink().is_absolute()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[0] for line in lines} == {"Large", "Small"}
    assert any(line.startswith("Small: tiny-Q8_0.gguf: 100 %") for line in lines)


def test_a_file_that_two_models_share_is_downloaded_once(pod: Pod, hub: str, serve: Serve) -> None:
    answer, seen = passed_on(hub)
    pod.add("One")
    pod.add("Other", filename="tiny-Q4_K_M.gguf")
    assert pod.run("link", endpoint=serve(answer), deadline_seconds=30) == ""
    assert pod.links() == {"One/model.gguf": CONTENT, "Other/model.gguf": CONTENT}
    assert len([path for path in seen if "/resolve/" in path]) == 1


def test_a_broken_model_is_named_and_the_others_come(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    broken = pod.add("Broken", quant="Q2_K")
    pod.add("Sound", quant="Q8_0")
    for action in ("fetch", "link"):
        verdict = pod.run(action)
        assert verdict.startswith(f"Broken: {REPO} at main has no GGUF of quant Q2_K: set filename")
        assert "Sound" not in verdict
        assert capsys.readouterr().out.startswith(f"{verdict}\nSound: ")
    assert pod.files() == {"tiny-Q8_0.gguf": b"q8"}
    broken["quant"] = "Q4_K_M"
    assert pod.run("link") == ""
    assert pod.links() == {"Broken/model.gguf": CONTENT, "Sound/model.gguf": b"q8"}


def test_every_broken_model_stands_in_the_verdict(pod: Pod) -> None:
    pod.add("One", repo="acme/none")
    pod.add("Sound")
    pod.add("Two", revision="v9")
    one, two = pod.run("fetch").split("; ")
    assert one == "One: the hub has no repository acme/none (HTTP 404): check repo and hub.endpoint"
    assert two.startswith(f"Two: the hub has no revision v9 of {REPO} (HTTP 404): set revision to")


def test_a_fetched_pool_is_linked_without_any_hub(pod: Pod, repo: Path) -> None:
    (repo / "tiny-Q2_K.gguf").write_bytes(b"q2")
    for quant in ("Q4_K_M", "Q8_0", "Q2_K"):
        pod.add(quant, quant=quant)
    assert pod.run("fetch") == ""
    assert pod.links() == {}
    assert pod.run("link", endpoint=NOWHERE) == ""
    assert pod.links() == {"Q4_K_M/model.gguf": CONTENT, "Q8_0/model.gguf": b"q8", "Q2_K/model.gguf": b"q2"}


def test_link_names_what_is_missing_while_the_hub_is_away_and_links_the_rest(pod: Pod) -> None:
    missing = pod.add("Missing", quant="Q8_0")
    pod.add("Here")
    pod.record["models"].remove(missing)
    pod.run("fetch")
    pod.record["models"].insert(0, missing)
    verdict = pod.run("link", endpoint=NOWHERE)
    assert verdict.startswith(f"Missing: nothing from the hub {NOWHERE} in 0.5 s")
    assert "Here" not in verdict
    assert pod.links() == {"Here/model.gguf": CONTENT}


def test_a_catalog_that_gains_a_model_downloads_only_that_one(pod: Pod, hub: str, serve: Serve) -> None:
    pod.add("Old")
    pod.run("fetch")
    answer, seen = passed_on(hub)
    pod.add("New", quant="Q8_0")
    assert pod.run("fetch", endpoint=serve(answer), deadline_seconds=30) == ""
    assert [path.rsplit("/", 1)[1] for path in seen if "/resolve/" in path] == ["tiny-Q8_0.gguf"]
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT, "tiny-Q8_0.gguf": b"q8"}


def test_the_links_of_a_model_that_left_stay(pod: Pod) -> None:
    left = pod.add("Left")
    pod.add("Stays", quant="Q8_0")
    pod.run("link")
    pod.record["models"].remove(left)
    assert pod.run("link") == ""
    assert pod.links() == {"Left/model.gguf": CONTENT, "Stays/model.gguf": b"q8"}


def test_a_split_model_lies_in_its_own_folder_of_a_pool(pod: Pod, repo: Path) -> None:
    names = split(repo)
    pod.add("Small", quant="Q8_0")
    first = pod.weights / "Big" / "big-Q4_K_M-00001-of-00003.gguf"
    pod.add("Big", filename=names[0], model_path=str(first))
    assert pod.run("link") == ""
    assert pod.links() == {
        "Small/model.gguf": b"q8",
        "Big/model.gguf": names[0].encode(),
        **{f"Big/{name.split('/')[1]}": name.encode() for name in names},
    }


# --- what goes wrong


def test_a_gated_model_needs_the_token(pod: Pod, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    (repo / ".hub.json").write_text(json.dumps({"gated": True, "token_sha256": digest}))
    assert "name a Secret with a token in hub.token_secret" in pod.run("fetch")
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = pod.run("fetch")
    assert "refuses the token" in refused
    assert "hf_wrong" not in refused
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pod.run("fetch") == ""
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"repo": "acme/none"}, "no repository acme/none (HTTP 404): check repo"),
        ({"revision": "v9"}, "no revision v9 of acme/tiny-GGUF"),
        ({"filename": "none.gguf"}, "no file none.gguf: set filename to one of: tiny-Q4_K_M.gguf"),
        ({"endpoint": NOWHERE}, "http://127.0.0.1:1 in 0.5 s ([Errno 111] Connection refused)"),
    ],
)
def test_a_misspelt_value_is_one_line_with_a_remedy(pod: Pod, changes: dict[str, str], told: str) -> None:
    assert told in pod.run("fetch", **changes)


def test_a_server_that_is_no_hub_is_told(pod: Pod, serve: Serve) -> None:
    url = serve(always(b"<html>Welcome</html>"))
    assert "does not answer as a Hugging Face hub does: check hub.endpoint" in pod.run("fetch", endpoint=url)


def test_a_hub_that_names_files_outside_the_repository_is_not_followed(pod: Pod, serve: Serve) -> None:
    listing = {"sha": COMMIT, "siblings": [{"rfilename": "../../x-Q4_K_M.gguf", "size": 1}]}
    url = serve(always(json.dumps(listing).encode()))
    assert "does not answer as a Hugging Face hub does" in pod.run("fetch", endpoint=url)


def test_an_overloaded_hub_is_asked_again(pod: Pod, hub: str, serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def overloaded(path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        seen.append(path)
        return (429, {}, b"") if len(seen) == 1 else (307, {"Location": hub + path}, b"")

    endpoint = serve(overloaded)
    assert pod.run("fetch", endpoint=endpoint, deadline_seconds=5) == ""
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}
    assert f"Tiny: {endpoint}: HTTP 429: again in 1 s\n" in capsys.readouterr().out


def test_the_token_stays_with_the_hubs_own_host(
    pod: Pod, serve: Serve, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: dict[str, str | None] = {}

    def storage(path: str, headers: dict[str, str], _body: bytes) -> Reply:
        seen[f"storage {path}"] = headers.get("authorization")
        return 200, {}, CONTENT

    elsewhere = serve(storage)

    def renamed(path: str, headers: dict[str, str], _body: bytes) -> Reply:
        seen[f"hub {urlsplit(path).path}"] = headers.get("authorization")
        if path.startswith("/api/models/acme/"):
            return 307, {"Location": path.replace("acme", "new")}, b""
        if path.startswith("/api/"):
            sibling = {"rfilename": "tiny-Q4_K_M.gguf", "size": len(CONTENT)}
            return 200, {}, json.dumps({"sha": COMMIT, "siblings": [sibling]}).encode()
        return 302, {"Location": f"{elsewhere}/blob"}, b""

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert pod.run("fetch", endpoint=serve(renamed)) == ""
    assert seen == {
        "hub /api/models/acme/tiny-GGUF/revision/main": f"Bearer {TOKEN}",
        "hub /api/models/new/tiny-GGUF/revision/main": f"Bearer {TOKEN}",
        f"hub /acme/tiny-GGUF/resolve/{COMMIT}/tiny-Q4_K_M.gguf": f"Bearer {TOKEN}",
        "storage /blob": None,
    }
    assert TOKEN not in capsys.readouterr().out


class Hub:
    """A hub of one file that serves something else than it lists, or not all of it at once."""

    def __init__(self, size: int = len(CONTENT), sha256: str | None = None, cut: int | None = None) -> None:
        self.lfs = {"sha256": sha256} if sha256 else None
        self.size = size
        self.cut = cut
        self.ranges: list[str | None] = []
        self.asked_again, self.go_on = threading.Event(), threading.Event()

    def __call__(self, path: str, headers: dict[str, str], _body: bytes) -> Reply:
        if path.startswith("/api/"):
            sibling = {"rfilename": "tiny-Q4_K_M.gguf", "size": self.size, "lfs": self.lfs}
            return 200, {}, json.dumps({"sha": COMMIT, "siblings": [sibling]}).encode()
        self.ranges.append(headers.get("range"))
        if len(self.ranges) == 1:
            return 200, {"Content-Length": str(len(CONTENT))}, CONTENT[: self.cut]
        self.asked_again.set()
        self.go_on.wait(10)
        start = int(str(self.ranges[-1]).removeprefix("bytes=").removesuffix("-"))
        return 206, {}, CONTENT[start:]


@pytest.mark.parametrize("size", [len(CONTENT) - 1, len(CONTENT) + 1])
def test_a_file_of_another_size_than_listed_is_thrown_away(pod: Pod, serve: Serve, size: int) -> None:
    told = f"lists tiny-Q4_K_M.gguf with {size} bytes and serves {len(CONTENT)}"
    assert told in pod.run("fetch", endpoint=serve(Hub(size)))
    assert pod.files() == {}


def test_a_file_of_another_content_than_listed_is_thrown_away(pod: Pod, serve: Serve) -> None:
    assert "wrong SHA-256" in pod.run("fetch", endpoint=serve(Hub(sha256="0" * 64)))
    assert pod.files() == {}


def test_a_cut_download_goes_on_where_it_ended(pod: Pod, serve: Serve) -> None:
    hub = Hub(sha256=hashlib.sha256(CONTENT).hexdigest(), cut=1000)
    hub.go_on.set()
    assert pod.run("fetch", endpoint=serve(hub), deadline_seconds=5) == ""
    assert hub.ranges == [None, "bytes=1000-"]
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


def test_a_kill_midway_leaves_no_file_under_the_models_name(pod: Pod, serve: Serve) -> None:
    hub = Hub(cut=1000)
    pod.record |= {"endpoint": serve(hub), "deadline_seconds": 30}
    with pod.running("fetch") as process:
        assert hub.asked_again.wait(10)
        process.kill()
    assert pod.files() == {"tiny-Q4_K_M.gguf.part": CONTENT[:1000]}
    hub.go_on.set()
    assert pod.run("fetch") == ""
    assert hub.ranges[-1] == "bytes=1000-"
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


def test_sigterm_ends_it_at_once_and_leaves_how_far_it_came(pod: Pod, serve: Serve) -> None:
    hub = Hub(cut=1000)
    pod.record |= {"endpoint": serve(hub), "deadline_seconds": 30}
    with pod.running("fetch") as process:
        assert hub.asked_again.wait(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
    hub.go_on.set()
    assert pod.log.read_text() == (
        "Tiny: Kubernetes ended this pod when 0.00 of 0.00 GB of tiny-Q4_K_M.gguf are here: "
        "raise startup_seconds; the next run goes on from there"
    )


def test_sigterm_in_mid_pool_names_its_model_and_those_that_failed_before(pod: Pod, serve: Serve) -> None:
    hub = Hub(cut=1000)
    pod.add("Broken", quant="Q2_K")
    pod.add("Begun")
    pod.add("Waiting")
    pod.record |= {"endpoint": serve(hub), "deadline_seconds": 30}
    with pod.running("fetch") as process:
        assert hub.asked_again.wait(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
    hub.go_on.set()
    begun, broken = pod.log.read_text().split("there; ")
    assert begun.startswith("Begun: Kubernetes ended this pod when 0.00 of 0.00 GB of tiny-Q4_K_M.gguf are here: raise")
    assert broken.startswith(f"Broken: {REPO} at main has no GGUF of quant Q2_K")


def test_sigterm_while_the_hub_is_silent_leaves_a_verdict_too(pod: Pod, serve: Serve) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def silent(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        asked.set()
        go_on.wait(10)
        return 500, {}, b""

    pod.record |= {"endpoint": serve(silent), "deadline_seconds": 30}
    with pod.running("link") as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
    go_on.set()
    assert (
        f"Tiny: Kubernetes ended this pod when the list of files of {REPO} is not here yet: raise startup_seconds"
        in pod.log.read_text()
    )


class SlowHub:
    """A hub whose bytes trickle, as long as `slow`."""

    def __init__(self) -> None:
        self.slow = True
        self.ranges: list[str | None] = []

    def __call__(self, path: str, headers: dict[str, str], _body: bytes) -> Reply:
        if path.startswith("/api/"):
            sibling = {"rfilename": "tiny-Q4_K_M.gguf", "size": len(CONTENT)}
            return 200, {}, json.dumps({"sha": COMMIT, "siblings": [sibling]}).encode()
        self.ranges.append(headers.get("range"))
        start = int((headers.get("range") or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
        return (206 if start else 200), {"Content-Length": str(len(CONTENT) - start)}, self.parts(CONTENT[start:])

    def parts(self, content: bytes) -> Iterator[bytes]:
        for start in range(0, len(content), 1000):
            yield content[start : start + 1000]
            time.sleep(0.01 * self.slow)


def test_a_slow_download_ends_at_its_deadline_and_goes_on_in_the_next_run(pod: Pod, serve: Serve) -> None:
    hub = SlowHub()
    begun = time.monotonic()
    verdict = pod.run("fetch", endpoint=serve(hub), deadline_seconds=0.5)
    assert time.monotonic() - begun < 3
    assert verdict == (
        "Tiny: 0.00 of 0.00 GB of tiny-Q4_K_M.gguf are here after 0.5 s (too slow): "
        "raise startup_seconds; the next run goes on from there"
    )
    (part,) = pod.files().values()
    assert CONTENT.startswith(part)
    assert 0 < len(part) < len(CONTENT)
    hub.slow = False
    assert pod.run("fetch", deadline_seconds=5) == ""
    assert hub.ranges == [None, f"bytes={len(part)}-"]
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


def test_when_the_deadline_is_past_the_rest_fails_at_once_and_what_is_here_is_linked(pod: Pod, serve: Serve) -> None:
    here = pod.add("Here", quant="Q8_0")
    pod.run("fetch")
    hub = SlowHub()
    pod.record |= {"endpoint": serve(hub), "models": [pod.add(name) for name in ("Slow", "Late", "Later")] + [here]}
    begun = time.monotonic()
    verdict = pod.run("link", deadline_seconds=0.5)
    assert time.monotonic() - begun < 3
    more_time = "raise startup_seconds; the next run goes on from there"
    assert verdict == (
        f"Slow: 0.00 of 0.00 GB of tiny-Q4_K_M.gguf are here after 0.5 s (too slow): {more_time}; "
        f"Late: no time was left for it: {more_time}; Later: no time was left for it: {more_time}"
    )
    assert hub.ranges == [None]
    assert pod.links() == {"Here/model.gguf": b"q8"}


def test_a_verdict_tells_the_time_that_the_models_before_left(pod: Pod, serve: Serve) -> None:
    def busy(path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        if "none" not in path:
            return 503, {}, b""
        time.sleep(0.3)
        return 404, {}, b""

    pod.add("Slow", repo="acme/none")
    pod.add("Late")
    verdict = pod.run("fetch", endpoint=serve(busy), deadline_seconds=0.9)
    assert re.search(r"; Late: nothing from the hub \S+ in 0\.[0-6] s \(HTTP 503\)", verdict)


def test_bytes_that_came_are_not_called_nothing(pod: Pod, serve: Serve) -> None:
    verdict = pod.run("fetch", endpoint=serve(Hub(cut=1000)), deadline_seconds=0.5)
    assert "0.00 of 0.00 GB of tiny-Q4_K_M.gguf are here after 0.5 s (hung up after 1000 of" in verdict


def test_a_listing_that_trickles_is_ended_by_the_deadline(pod: Pod, serve: Serve) -> None:
    def spaces() -> Iterator[bytes]:
        while True:
            yield b" "
            time.sleep(0.02)

    def trickling(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 200, {}, spaces()

    verdict = pod.run("fetch", endpoint=serve(trickling))
    assert f"the list of files of {REPO} is not here yet after 0.5 s (too slow)" in verdict


def test_two_pods_do_not_write_the_same_file(pod: Pod, tmp_path: Path, serve: Serve) -> None:
    hub = Hub(cut=1000)
    pod.record |= {"endpoint": serve(hub), "deadline_seconds": 30}
    with pod.running("fetch") as process:
        assert hub.asked_again.wait(10)
        other = Pod(tmp_path / "other", pod.record["endpoint"])
        other.models, other.model["model_path"] = pod.models, pod.model["model_path"]
        assert "nothing of tiny-Q4_K_M.gguf from the hub" in (verdict := other.run("fetch"))
        assert "another pod is downloading tiny-Q4_K_M.gguf" in verdict
        hub.go_on.set()
        assert process.wait(10) == 0
    assert pod.files() == {"tiny-Q4_K_M.gguf": CONTENT}


def test_a_volume_without_room_is_told_before_the_download(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=len(CONTENT) - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    assert "raise storage.size_gib" in pod.run("fetch")
    assert pod.files() == {}


def test_room_is_asked_for_each_model_alone(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def usage(_path: Path) -> SimpleNamespace:
        return SimpleNamespace(free=len(CONTENT) - 1)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    pod.add("Large")
    pod.add("Small", quant="Q8_0")
    verdict = pod.run("fetch")
    assert verdict.startswith("Large: 0.00 GB are to come and the volume has 0.00 GB free: raise storage.size_gib")
    assert "Small" not in verdict
    assert pod.files() == {"tiny-Q8_0.gguf": b"q8"}


def test_a_full_volume_is_told_of_each_model(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    pod.add("One")
    pod.add("Two", quant="Q8_0")
    told = f"{pod.models}: No space left on device: raise storage.size_gib, or delete old models"
    assert pod.run("fetch", deadline_seconds=60) == f"One: {told}; Two: {told}"


def test_a_volume_that_fills_up_is_told(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device: raise storage.size_gib" in pod.run("fetch", deadline_seconds=60)
    assert "tiny-Q4_K_M.gguf" not in pod.files()


def test_the_verdict_on_two_hundred_models_fits_a_termination_message_and_the_log_has_all(
    pod: Pod, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"Model-{number}" for number in range(200)]
    for name in names:
        pod.add(name, quant="Q2_K")
    verdict = pod.run("fetch", deadline_seconds=60)
    assert 3000 < len(verdict.encode()) < 4096
    first, second, *_, last = verdict.split("; ")
    assert first.startswith(f"Model-0: {REPO} at main has no GGUF of quant Q2_K: ")
    assert second.startswith("Model-1: ")
    assert last == "the log tells all 200"
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == names
    assert all(line.endswith("set filename to one of: tiny-Q4_K_M.gguf, tiny-Q8_0.gguf") for line in lines)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3000), min_size=1, max_size=60))
def test_a_message_is_whole_or_cut_to_its_room(failures: list[str]) -> None:
    told = message(failures)
    whole = "; ".join(failures)
    assert len(told.encode()) < 4096
    assert (told == whole) is (len(whole.encode()) < 4096)
    assert told == whole or told.endswith(f"; the log tells all {len(failures)}")
    assert told.startswith(failures[0][:20])


@pytest.mark.parametrize("size", [4095, 4096])
def test_one_long_failure_is_cut_only_where_it_must_be(size: int) -> None:
    failure = "é" + "x" * (size - 2)
    assert (message([failure]) == failure) is (size < 4096)


@pytest.mark.parametrize("count", [*range(2, 40), 200, 5000])
def test_many_long_failures_fit(count: int) -> None:
    told = message(["x" * 4000] * count)
    assert 3500 < len(told.encode()) < 4096
    assert told.count("…") == min(count, 33)


def test_a_broken_config_is_one_line(pod: Pod) -> None:
    del pod.model["repo"]
    assert "is not the record of models (KeyError('repo'))" in pod.run("fetch")
    pod.record["models"] = None
    assert "is not the record of models" in pod.run("fetch")
    command = pod.command("fetch")
    pod.config.unlink()
    assert fetch_model.main(command) == 1
    assert pod.log.read_text() == f"{pod.config}: No such file or directory: check the volume and who owns it"


def test_outside_a_pod_the_verdict_is_only_printed(pod: Pod, capsys: pytest.CaptureFixture[str]) -> None:
    pod.model["quant"] = "Q2_K"
    assert fetch_model.main([*pod.command("fetch")[:-1], "/proc/none/termination-log"]) == 1
    assert "no GGUF of quant Q2_K" in capsys.readouterr().out


def test_files_can_be_read_by_the_servers_group(pod: Pod) -> None:
    umask = os.umask(0o022)
    try:
        pod.run("link")
    finally:
        os.umask(umask)
    assert (pod.weights / "model.gguf").stat().st_mode & 0o044 == 0o044
