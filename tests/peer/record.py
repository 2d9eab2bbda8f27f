"""Records anew what the stock clients send, for the contract tests that replay it without them.

Run by the server's Python once `make test-peer` has made the environment: `python tests/peer/record.py [FOLDER]`. It
runs `peer_real_clients.py`, whose recordings go into `tests/contract/monailabel_golden`, or into the folder that is
named.
"""

import os
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
GOLDEN = HERE.parent / "contract/monailabel_golden"


def main(folder: Path) -> int:
    """Return 0 where everything was recorded."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["MONAILABEL_RECORDINGS"] = str(folder)
    sys.path[:0] = [str(HERE), str(HERE.parent)]
    how = ["-q", "-p", "peer_fixtures", "-o", "python_files=peer_*.py"]
    return int(pytest.main([*how, str(HERE / "peer_real_clients.py")]))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN))
