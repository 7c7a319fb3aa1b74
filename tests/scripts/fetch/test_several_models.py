"""The models of a pool share a volume: one that fails does not keep the others from coming."""

import signal
import threading

import pytest

from tests.scripts.fetch.conftest import CONTENT, MODEL, NOWHERE, REPO, SMALL, Pod, Reply, Shelf, locked


@pytest.fixture
def small(shelf: Shelf) -> dict[str, object]:
    return locked(shelf.files, SMALL)


def test_each_model_lies_in_a_folder_of_its_own(
    pod: Pod, small: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    pod.add("Large")
    pod.add("Small", **small)
    assert pod.run("link") == ""
    assert pod.links() == {"Large/model.gguf": CONTENT, "Small/model.gguf": b"q8"}
    assert not (pod.weights / "Small" / "model.gguf").readlink().is_absolute()
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(": ")[0] for line in lines} == {"Large", "Small"}
    assert any(line.startswith(f"Small: {SMALL}: 100 %") for line in lines)


def test_a_broken_model_is_named_and_the_others_come(
    pod: Pod, small: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    broken = pod.add("Broken", repo="acme/none", commit=None, files=[], quant="Q2_K")
    pod.add("Sound", **small)
    for action in ("fetch", "link"):
        verdict = pod.run(action)
        assert verdict.startswith("Broken: acme/none at main has no GGUF of quant Q2_K: set filename")
        assert "Sound" not in verdict
        assert capsys.readouterr().out.startswith(f"{verdict}\nSound: ")
    assert pod.files() == {SMALL: b"q8"}
    broken.update(pod.model, name="Broken", model_path=broken["model_path"])
    assert pod.run("link") == ""
    assert pod.links() == {"Broken/model.gguf": CONTENT, "Sound/model.gguf": b"q8"}


def test_every_broken_model_stands_in_the_verdict(pod: Pod) -> None:
    pod.add("One", commit="f" * 40)
    pod.add("Sound")
    pod.add("Two", commit="e" * 40, files=[{"path": "two.gguf", "bytes": 2, "sha256": "2" * 64}])
    one, two = pod.run("fetch").split("; ")
    assert one.startswith("One: the hub no longer has commit ffff")
    assert two.startswith("Two: the hub no longer has commit eeee")


def test_a_fetched_pool_is_linked_without_any_hub(pod: Pod, small: dict[str, object]) -> None:
    pod.add("Large")
    pod.add("Small", **small)
    assert pod.run("fetch") == ""
    assert pod.links() == {}
    assert pod.run("link", endpoint=NOWHERE) == ""
    assert pod.links() == {"Large/model.gguf": CONTENT, "Small/model.gguf": b"q8"}


def test_link_names_what_is_missing_while_the_hub_is_away_and_links_the_rest(
    pod: Pod, small: dict[str, object]
) -> None:
    missing = pod.add("Missing", **small)
    pod.add("Here")
    pod.record["models"].remove(missing)
    pod.run("fetch")
    pod.record["models"].insert(0, missing)
    verdict = pod.run("link", endpoint=NOWHERE, deadline_seconds=0.5)
    assert verdict.startswith(f"Missing: nothing of {SMALL} from the hub {NOWHERE} in 0.5 s")
    assert "Here" not in verdict
    assert pod.links() == {"Here/model.gguf": CONTENT}


def test_a_catalog_that_gains_a_model_downloads_only_that_one(pod: Pod, shelf: Shelf, small: dict[str, object]) -> None:
    pod.add("Old")
    pod.run("fetch")
    pod.add("New", **small)
    assert pod.run("fetch") == ""
    assert shelf.asked == [f"{MODEL} 0", f"{SMALL} 0"]


def test_fetch_leaves_the_links_alone_and_link_drops_those_of_a_model_that_left(
    pod: Pod, small: dict[str, object]
) -> None:
    left = pod.add("Left")
    pod.add("Stays", **small)
    pod.run("link")
    pod.record["models"].remove(left)
    assert pod.run("fetch") == ""
    assert pod.links() == {"Left/model.gguf": CONTENT, "Stays/model.gguf": b"q8"}
    assert pod.run("link") == ""
    assert pod.links() == {"Stays/model.gguf": b"q8"}
    assert [path.name for path in pod.weights.iterdir()] == ["Stays"]
    assert pod.files() == {MODEL: CONTENT, SMALL: b"q8"}


def test_while_a_model_fails_no_link_is_dropped(pod: Pod, small: dict[str, object]) -> None:
    left = pod.add("Left")
    pod.add("Stays", **small)
    pod.run("link")
    pod.record["models"].remove(left)
    pod.add("Broken", commit="f" * 40, files=[{"path": "b.gguf", "bytes": 2, "sha256": "2" * 64}])
    assert "Broken: " in pod.run("link")
    assert pod.links() == {"Left/model.gguf": CONTENT, "Stays/model.gguf": b"q8"}


def test_sigterm_in_mid_pool_names_its_model_and_those_that_failed_before(pod: Pod, shelf: Shelf) -> None:
    asked, go_on = threading.Event(), threading.Event()

    def held(status: int, headers: dict[str, str], body: bytes) -> Reply:
        asked.set()
        go_on.wait(10)
        return status, headers, body

    shelf.spoil = held
    pod.add("Broken", commit="f" * 40, files=[{"path": "b.gguf", "bytes": 2, "sha256": "2" * 64}])
    pod.add("Begun")
    pod.add("Waiting")
    with pod.running("fetch") as process:
        assert asked.wait(10)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 143
    go_on.set()
    begun, broken = pod.log.read_text().split("there; ")
    assert begun.startswith(f"Begun: Kubernetes ended this pod when 0.0 MB of 1.0 MB of {MODEL} are here: raise")
    assert broken.startswith(f"Broken: the hub no longer has commit {'f' * 40} of {REPO}")
