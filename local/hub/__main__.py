"""`python -m local.hub --root DIR --host H --port P`: serves until SIGTERM."""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from local.hub.server import HubServer


def main() -> None:
    """Serve every repository `DIR/<owner>/<name>/`."""
    parser = argparse.ArgumentParser(prog="python -m local.hub", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="directory of repositories, <owner>/<name>/<files>")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, required=True, help="port to listen on; 0 picks a free one")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    with HubServer(args.root, args.host, args.port) as server:
        print(f"hub of {args.root} on {server.url}", flush=True)  # noqa: T201 - whoever started it reads this line
        server.serve_forever()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
