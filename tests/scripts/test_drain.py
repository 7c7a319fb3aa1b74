import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Reply = tuple[int, dict[str, str], bytes]
Serve = Callable[[Callable[[str, dict[str, str], bytes], Reply]], str]
SCRIPT = Path(__file__).parents[2] / "components" / "scripts" / "drain.sh"
pytestmark = pytest.mark.skipif(not shutil.which("curl"), reason="the server's image has curl, this machine has not")


class Metrics:
    """llama-server's /metrics, one look after the other; the last one stays."""

    def __init__(self, *looks: tuple[int, int]) -> None:
        self.looks = list(looks)
        self.seen = 0

    def __call__(self, path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        assert path == "/metrics"
        processing, deferred = self.looks[min(self.seen, len(self.looks) - 1)]
        self.seen += 1
        lines = [
            "# HELP llamacpp:requests_processing Number of requests processing",
            f"llamacpp:requests_processing {processing}",
            f"llamacpp:requests_deferred {deferred}",
        ]
        return 200, {}, "\n".join(lines).encode()


def drain(url: str, seconds: float = 20) -> int:
    return subprocess.run(["sh", str(SCRIPT), url.rsplit(":", 1)[-1], "0"], timeout=seconds, check=False).returncode


def test_an_idle_server_is_let_go_after_two_looks(serve: Serve) -> None:
    metrics = Metrics((0, 0))
    assert drain(serve(metrics)) == 0
    assert metrics.seen == 2


def test_running_and_waiting_requests_are_waited_for(serve: Serve) -> None:
    metrics = Metrics((1, 0), (0, 1), (0, 0))
    drain(serve(metrics))
    assert metrics.seen == 4


def test_a_request_that_comes_between_two_looks_is_waited_for(serve: Serve) -> None:
    metrics = Metrics((0, 0), (1, 0), (0, 0))
    drain(serve(metrics))
    assert metrics.seen == 4


@pytest.mark.parametrize("body", [b"", b"llamacpp:requests_processing 0\n", b"llamacpp:requests_processing 10\n"])
def test_metrics_that_do_not_tell_are_no_reason_to_stop(serve: Serve, body: bytes) -> None:
    def silent(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 200, {}, body

    with pytest.raises(subprocess.TimeoutExpired):
        drain(serve(silent), seconds=2.5)


def test_a_server_that_is_gone_or_never_loaded_is_not_waited_for(serve: Serve) -> None:
    def loading(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return 503, {}, b'{"error": {"message": "Loading model"}}'

    assert drain("http://127.0.0.1:1", seconds=5) == 0
    assert drain(serve(loading), seconds=5) == 0
