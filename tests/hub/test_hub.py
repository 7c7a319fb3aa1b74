import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from http.client import IncompleteRead
from pathlib import Path
from urllib.request import Request, urlopen

import httpx
import pytest

CONTENT = bytes(range(256)) * 40
TOKEN = "hf_right"  # noqa: S105 - a token that opens nothing but these tests


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    directory = tmp_path / "acme" / "tiny-GGUF"
    (directory / "BF16").mkdir(parents=True)
    (directory / "tiny-Q4_K_M.gguf").write_bytes(CONTENT)
    (directory / "BF16" / "tiny-BF16.gguf").write_bytes(b"bf16")
    (directory / "README.md").write_text("hello\n")
    return directory


def gate(repo: Path, **values: object) -> None:
    (repo / ".hub.json").write_text(json.dumps({"gated": True, **values}))


def suffer(repo: Path, **faults: object) -> None:
    (repo / ".hub.json").write_text(json.dumps({"faults": faults}))


def file_url(hub: str, name: str = "tiny-Q4_K_M.gguf", revision: str = "main") -> str:
    return f"{hub}/acme/tiny-GGUF/resolve/{revision}/{name}"


def commit(hub: str) -> str:
    return httpx.get(f"{hub}/api/models/acme/tiny-GGUF").json()["sha"]


@pytest.mark.usefixtures("repo")
def test_model_information_lists_all_files_and_the_commit(hub: str) -> None:
    info = httpx.get(f"{hub}/api/models/acme/tiny-GGUF").json()
    assert (info["id"], info["gated"], info["private"]) == ("acme/tiny-GGUF", False, False)
    assert re.fullmatch(r"[0-9a-f]{40}", info["sha"])
    assert info["siblings"] == [
        {"rfilename": "BF16/tiny-BF16.gguf"},
        {"rfilename": "README.md"},
        {"rfilename": "tiny-Q4_K_M.gguf"},
    ]


@pytest.mark.usefixtures("repo")
def test_with_blobs_each_file_has_its_size_and_sha256(hub: str) -> None:
    info = httpx.get(f"{hub}/api/models/acme/tiny-GGUF/revision/main?blobs=true").json()
    siblings = {entry["rfilename"]: entry for entry in info["siblings"]}
    model = siblings["tiny-Q4_K_M.gguf"]
    assert model["size"] == len(CONTENT)
    assert model["lfs"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert "lfs" not in siblings["README.md"]


@pytest.mark.usefixtures("repo")
def test_the_tree_names_the_digest_as_lfs_oid_and_gits_own_id_of_small_files(hub: str) -> None:
    tree = httpx.get(f"{hub}/api/models/acme/tiny-GGUF/tree/main?recursive=true").json()
    entries = {entry["path"]: entry for entry in tree}
    assert entries["tiny-Q4_K_M.gguf"]["lfs"]["oid"] == hashlib.sha256(CONTENT).hexdigest()
    assert entries["README.md"] == {  # printf 'hello\n' | git hash-object --stdin
        "type": "file",
        "path": "README.md",
        "size": 6,
        "oid": "ce013625030ba8dba906f756967f9e9ca394464a",
    }


def test_the_commit_changes_exactly_when_the_files_do(hub: str, repo: Path) -> None:
    before = commit(hub)
    gate(repo)
    assert commit(hub) == before
    (repo / "README.md").write_text("other\n")
    assert commit(hub) != before


@pytest.mark.usefixtures("repo")
def test_the_commit_is_a_revision_too(hub: str) -> None:
    answer = httpx.get(file_url(hub, revision=commit(hub)))
    assert answer.content == CONTENT
    assert answer.headers["X-Repo-Commit"] == commit(hub)


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_download_tells_size_digest_and_commit(hub: str, method: str) -> None:
    answer = httpx.request(method, file_url(hub))
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    assert answer.status_code == 200
    assert answer.content == (CONTENT if method == "GET" else b"")
    assert answer.headers["ETag"] == answer.headers["X-Linked-ETag"] == f'"{sha256}"'
    assert answer.headers["Content-Length"] == answer.headers["X-Linked-Size"] == str(len(CONTENT))
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("5-9", 5, 10), ("10000-", 10000, 10240), ("-3", 10237, 10240), ("10000-99999", 10000, 10240)],
)
def test_a_range_of_a_file_can_be_had(hub: str, asked: str, start: int, end: int) -> None:
    answer = httpx.get(file_url(hub), headers={"Range": f"bytes={asked}"})
    assert (answer.status_code, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/10240"


@pytest.mark.usefixtures("repo")
def test_a_range_past_the_end_is_refused_with_the_true_size(hub: str) -> None:
    answer = httpx.get(file_url(hub), headers={"Range": "bytes=10240-"})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10240")


@pytest.mark.usefixtures("repo")
@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/models/acme/none", "RepoNotFound"),
        ("/acme/none/resolve/main/README.md", "RepoNotFound"),
        ("/api/models/acme/tiny-GGUF/revision/v9", "RevisionNotFound"),
        ("/acme/tiny-GGUF/resolve/v9/README.md", "RevisionNotFound"),
        ("/acme/tiny-GGUF/resolve/main/none.gguf", "EntryNotFound"),
    ],
)
def test_what_does_not_exist_is_told_by_the_hubs_own_codes(hub: str, path: str, code: str) -> None:
    answer = httpx.get(hub + path)
    assert (answer.status_code, answer.headers["X-Error-Code"]) == (404, code)


@pytest.mark.parametrize(
    "path", [".hub.json", "../tiny-GGUF/README.md", "%2e%2e/tiny-GGUF/README.md", ".hub-digests.json"]
)
def test_hidden_files_and_paths_that_lead_out_are_not_served(hub: str, repo: Path, path: str) -> None:
    gate(repo, gated=False)
    commit(hub)
    assert (repo / ".hub-digests.json").exists()
    request = httpx.Request("GET", hub)
    request.url = request.url.copy_with(raw_path=f"/acme/tiny-GGUF/resolve/main/{path}".encode())
    with httpx.Client() as client:
        assert client.send(request).status_code == 404


@pytest.mark.parametrize(
    ("authorization", "status"), [(None, 401), ("Bearer wrong", 401), (TOKEN, 401), (f"Bearer {TOKEN}", 200)]
)
def test_a_gated_repository_opens_to_its_token_alone(
    hub: str, repo: Path, authorization: str | None, status: int
) -> None:
    gate(repo, token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    answer = httpx.get(file_url(hub), headers={"Authorization": authorization} if authorization else {})
    assert answer.status_code == status
    assert answer.headers.get("X-Error-Code") == (None if status == 200 else "GatedRepo")
    assert httpx.get(f"{hub}/api/models/acme/tiny-GGUF").json()["gated"] == "manual"


def test_a_gate_without_a_tokens_hash_opens_to_nobody(hub: str, repo: Path) -> None:
    gate(repo)
    assert httpx.get(file_url(hub), headers={"Authorization": "Bearer x"}).status_code == 401


def statuses(hub: str, count: int) -> list[int]:
    return [httpx.get(file_url(hub)).status_code for _ in range(count)]


def test_the_first_downloads_can_be_refused(hub: str, repo: Path) -> None:
    suffer(repo, status=429, times=2, retry_after="7")
    answer = httpx.get(file_url(hub))
    assert (answer.status_code, answer.headers["Retry-After"], answer.content) == (429, "7", b"")
    assert statuses(hub, 3) == [429, 200, 200]


def test_every_second_download_can_be_refused(hub: str, repo: Path) -> None:
    suffer(repo, status=503, every=2)
    assert statuses(hub, 4) == [503, 200, 503, 200]


def test_each_repository_suffers_alone_and_its_listing_does_not(hub: str, repo: Path) -> None:
    suffer(repo, status=503)
    other = repo.with_name("other-GGUF")
    other.mkdir()
    (other / "README.md").write_text("hello\n")
    assert httpx.get(f"{hub}/acme/other-GGUF/resolve/main/README.md").text == "hello\n"
    assert commit(hub)
    assert statuses(hub, 1) == [503]


def test_downloads_can_be_sent_to_another_host(hub: str, repo: Path) -> None:
    suffer(repo, redirect="http://127.0.0.1:1")
    answer = httpx.get(file_url(hub))
    assert answer.status_code == 302
    assert answer.headers["Location"] == "http://127.0.0.1:1/acme/tiny-GGUF/resolve/main/tiny-Q4_K_M.gguf"


@pytest.mark.parametrize(("asked", "begin"), [("bytes=0-", 0), ("bytes=5000-", 5000)])
def test_a_connection_can_be_cut_after_so_many_bytes(hub: str, repo: Path, asked: str, begin: int) -> None:
    suffer(repo, cut_bytes=100)
    request = Request(file_url(hub), headers={"Range": asked})  # noqa: S310 - the tests' own server
    with urlopen(request) as answer, pytest.raises(IncompleteRead) as cut:  # noqa: S310 - as above
        answer.read()
    assert cut.value.partial == CONTENT[begin : begin + 100]


@pytest.mark.parametrize("extra", [-1, 1])
def test_a_content_length_can_lie(hub: str, repo: Path, extra: int) -> None:
    suffer(repo, extra_length=extra)
    answer = httpx.head(file_url(hub))
    assert answer.headers["Content-Length"] == str(len(CONTENT) + extra)
    ranged = httpx.head(file_url(hub), headers={"Range": "bytes=5-"})
    assert ranged.headers["Content-Range"] == f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}"


def test_one_byte_of_a_file_can_be_wrong(hub: str, repo: Path) -> None:
    suffer(repo, wrong_byte=7000, times=2)
    spoiled = bytearray(CONTENT)
    spoiled[7000] ^= 0xFF
    assert httpx.get(file_url(hub)).content == spoiled
    assert httpx.get(file_url(hub), headers={"Range": "bytes=6999-7001"}).content == spoiled[6999:7002]
    assert httpx.get(file_url(hub)).content == CONTENT


def test_downloads_can_be_slow(hub: str, repo: Path) -> None:
    suffer(repo, bytes_per_second=5 * len(CONTENT))
    begun = time.monotonic()
    assert httpx.get(file_url(hub)).content == CONTENT
    assert time.monotonic() - begun > 0.1


def test_the_log_tells_each_range_how_much_of_it_was_sent_and_whether_a_token_came(
    hub: str, repo: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    repo.rename(repo.with_name("logged-GGUF"))  # the server of the test before may still have a line to write
    path = "/acme/logged-GGUF/resolve/main/tiny-Q4_K_M.gguf"
    with httpx.Client(base_url=hub) as client:  # over one connection, so that the lines come in order
        client.get(path, headers={"Range": "bytes=40-", "Authorization": f"Bearer {TOKEN}"})
        client.get(path)
        client.head(path)
    logged = [line.split("] ")[1] for line in capfd.readouterr().err.splitlines() if "logged-GGUF" in line]
    assert logged[:4] == [
        f'"GET {path} HTTP/1.1" 206 bytes=40- with a token',
        f"{path}: {len(CONTENT) - 40} of {len(CONTENT) - 40} bytes sent",
        f'"GET {path} HTTP/1.1" 200 - without a token',
        f"{path}: {len(CONTENT)} of {len(CONTENT)} bytes sent",
    ]


def test_digests_are_taken_again_only_when_size_or_time_change(hub: str, repo: Path) -> None:
    model = repo / "tiny-Q4_K_M.gguf"
    before, stat = commit(hub), model.stat()
    model.write_bytes(CONTENT[::-1])
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert commit(hub) == before
    os.utime(model, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert commit(hub) != before


def test_the_command_serves_until_sigterm_and_logs_no_token(tmp_path: Path, repo: Path) -> None:
    gate(repo, token_sha256=hashlib.sha256(TOKEN.encode()).hexdigest())
    command = [sys.executable, "-m", "local.hub", "--root", str(tmp_path), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        url = process.stdout.readline().split()[-1]
        assert httpx.get(file_url(url), headers={"Authorization": f"Bearer {TOKEN}"}).content == CONTENT
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "tiny-Q4_K_M.gguf" in log
    assert TOKEN not in log
