import fcntl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from config.errors import UserError
from local.toolchain import store
from local.toolchain.store import building_lock, folder, link, make


def nothing(out: Path) -> None:
    del out


@dataclass(frozen=True)
class Recipe:
    parts: tuple[bytes, ...] = (b"source",)
    makes: Callable[[Path], object] = lambda out: (out / "tool").write_text("whole")
    name: str = "thing"
    commands: tuple[str, ...] = ("tool",)

    def ingredients(self) -> Iterator[bytes]:
        yield from self.parts

    def require(self) -> None:
        pass

    def build(self, work: Path, out: Path, log: Path) -> None:
        assert work.is_dir()
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("built")
        self.makes(out)


def fail(out: Path) -> None:
    (out / "tool").write_text("half")
    raise UserError("no compiler")


def test_a_result_lies_in_a_folder_named_by_what_it_is_made_of(cache: Path) -> None:
    place = make(Recipe())
    assert place == folder(Recipe())
    assert place.parent == cache / "tools"
    assert place.name.startswith("thing-")
    assert len(place.name) == len("thing-") + 16
    assert (place / "tool").stat().st_mode & 0o777 == 0o755


def test_any_other_ingredient_gives_another_folder() -> None:
    places = {folder(Recipe(parts)) for parts in [(b"source",), (b"sourcf",), (b"sour", b"ce"), (b"s", b"ource"), ()]}
    assert len(places) == 5


def test_another_machine_gives_another_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    here = folder(Recipe())
    monkeypatch.setattr(store.platform, "machine", lambda: "other")
    assert folder(Recipe()) != here


def test_what_is_there_is_not_built_again() -> None:
    make(Recipe())
    make(Recipe(makes=fail))


def test_a_failed_build_leaves_nothing_that_is_taken_for_whole(cache: Path) -> None:
    with pytest.raises(UserError, match="no compiler"):
        make(Recipe(makes=fail))
    assert [path.name for path in (cache / "tools").iterdir()] == [".lock"]
    assert (make(Recipe()) / "tool").read_text() == "whole"


def test_a_build_that_makes_no_command_fails_and_says_where_the_log_is(cache: Path) -> None:
    with pytest.raises(UserError, match=rf"no tool: read {cache}/logs/thing\.log"):
        make(Recipe(makes=nothing))
    assert not folder(Recipe()).exists()


def test_what_a_killed_build_left_is_removed_by_the_next(cache: Path) -> None:
    leftover = cache / "tools" / ".building-killed" / "out"
    leftover.mkdir(parents=True)
    (leftover / "tool").write_text("half")
    make(Recipe())
    assert not leftover.parent.exists()


def test_the_newest_result_is_linked_where_people_find_it(cache: Path) -> None:
    for recipe in (Recipe(), Recipe((b"newer",)), Recipe((b"newer",))):
        make(recipe)
        link(recipe)
    newer = folder(Recipe((b"newer",)))
    assert (cache / "bin" / "tool").readlink() == newer / "tool"
    assert sorted(path.name for path in (cache / "bin").iterdir()) == ["tool"]


def test_two_runs_at_once_build_once() -> None:
    built: list[Path] = []

    def slow(out: Path) -> None:
        built.append(out)
        (out / "tool").write_text("whole")

    recipe = Recipe(makes=slow)
    with ThreadPoolExecutor(2) as runs:
        with building_lock():
            made = [runs.submit(make, recipe) for _ in range(2)]
        assert [run.result(10) for run in made] == [folder(recipe)] * 2
    assert len(built) == 1


def test_a_run_that_waits_for_another_says_so(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cache / "tools").mkdir(parents=True)
    with (cache / "tools" / ".lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        release = threading.Timer(0.3, lambda: fcntl.flock(held, fcntl.LOCK_UN))
        release.start()
        with building_lock():
            pass
        release.join()
    assert "waiting" in capsys.readouterr().err
