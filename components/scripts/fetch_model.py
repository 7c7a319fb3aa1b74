"""Puts the GGUFs of a backend's models onto its volume, each whole and verified or not at all.

`fetch_model.py fetch|link --config /catalog/models.json --models /models`: `fetch` downloads what is missing to
`/models/files/<owner>/<name>/<commit>/`; `link` does the same, without the hub where all is in place, and points each
model's `model_path`, below `/models/weights/`, at it. Which files those are, the lock says; for a model that it does
not know, the hub. One that fails does not keep the others from coming: each failure is one line of the log, and all of
them together are the pod's termination message.

Runs in pods, beside the model_*.py and gguf_choice.py: nothing but the standard library of Python 3.9 or newer.
The hub's token is HF_TOKEN in the environment.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from model_hub import MORE_TIME, Hub
from model_record import COMMIT, Failure, Record, Terminated, Wanted
from model_space import Space
from model_volume import Volume, unlink_others

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MESSAGE_BYTES = 4095  # a termination message holds 4096 bytes at most
_CUT = "…"


def run(action: str, record: Record, models: Path, token: str | None) -> Iterator[str]:
    """`fetch` or `link`, model by model; yields what is wrong with each that fails. Terminated on SIGTERM."""
    deadline = time.monotonic() + record.deadline_seconds
    volumes = [(wanted, Volume(models, wanted)) for wanted in record.models]
    space = Space(models, (path for _, volume in volumes for path in volume.named()))
    if action == "link":
        space.adopt()
    applied: list[Path] = []
    links: set[Path] = set()
    failed = False
    for wanted, volume in volumes:
        hub = Hub(record.endpoint, wanted, token, min(time.monotonic() + wanted.deadline_seconds, deadline))
        try:
            paths = _bring(action, wanted, volume, space, hub)
            if action == "link":
                applied += paths
                links.update(volume.link(paths))
            continue
        except Failure as failure:
            yield f"{wanted.name}: {failure}"
        except OSError as error:
            yield f"{wanted.name}: {_trouble(error, models)}"
        except Terminated:
            raise Terminated(f"{wanted.name}: Kubernetes ended this pod when {hub.state()}: {MORE_TIME}") from None
        failed = True
    if action == "link" and not failed:
        unlink_others(models, links)
        space.apply(applied)


def _bring(action: str, wanted: Wanted, volume: Volume, space: Space, hub: Hub) -> list[Path]:
    volume.check()
    # a branch may have moved, and `fetch` is there to find out; a restarting pod keeps what it had, hub or no hub
    stays = wanted.commit or action == "link" or COMMIT.fullmatch(wanted.revision)
    commit, files = (volume.settled() if stays else None) or volume.ask(hub)
    return volume.bring(hub, space, commit, files)


def _trouble(error: OSError, where: Path) -> str:
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    remedy = "raise storage.size_gib, or delete old models" if full else "check the volume and who owns it"
    return f"{error.filename or where}: {error.strerror or error}: {remedy}"


def message(failures: Sequence[str]) -> str:
    """All failures on one line that a termination message has room for: the first ones, cut short, where need be."""
    whole = "; ".join(failures)
    if len(whole.encode()) <= _MESSAGE_BYTES:
        return whole
    rest = f"; the log tells all {len(failures)}"
    room = _MESSAGE_BYTES - len(rest)
    share = max(room // len(failures), 120)  # enough for a name and what is wrong with it
    return "; ".join(_cut(failure, share - 2) for failure in failures[: room // share]) + rest


def _cut(text: str, size: int) -> str:
    data = text.encode()
    return text if len(data) <= size else data[: size - len(_CUT.encode())].decode(errors="ignore") + _CUT


def _told(failure: str) -> str:
    line = " ".join(failure.split())
    print(line)
    return line


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description="Puts GGUFs onto a backend's volume.")
    parser.add_argument("action", choices=["fetch", "link"])
    parser.add_argument("--config", type=Path, required=True, help="JSON record of the models and their hub")
    parser.add_argument("--models", type=Path, required=True, help="where the volume is mounted")
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    status = 1
    failures: list[str] = []
    try:
        for failure in run(args.action, _record(args.config), args.models, _token()):
            failures.append(_told(failure))  # noqa: PERF401 - those before a SIGTERM are told, too
    except Failure as failure:
        failures.append(_told(str(failure)))
    except OSError as error:
        failures.append(_told(_trouble(error, args.models)))
    except Terminated as ended:
        status = 128 + signal.SIGTERM
        failures.insert(0, _told(str(ended)))
    if not failures:
        return 0
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(message(failures), encoding="utf-8")
    return status


def _record(config: Path) -> Record:
    try:
        return Record.read(config)
    except OSError as error:
        raise Failure(_trouble(error, config)) from None
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(f"{config} is not the record of models ({error!r}): deploy the stack again") from None


def _token() -> str | None:
    """The hub's token, without the line end that `kubectl create secret --from-file` may have kept; never shown."""
    token = os.environ.get("HF_TOKEN", "").strip()
    if not re.fullmatch("[!-~]*", token):
        # http.client's own complaint would quote it
        raise Failure("the hub's token can be no HTTP header: write the Secret of hub.token_secret anew")
    return token or None


def terminate(*_: object) -> None:
    """What SIGTERM does: process 1 would ignore it otherwise."""
    raise Terminated("Kubernetes ended this pod between two steps: run it again")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
