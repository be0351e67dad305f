"""python -m datastore.snapshot_child take|check ...: one half of a snapshot, in a process of its own that a node starts.

It imports little: it is started for every copy, and starting is a good part of what a small one takes. Each line that it prints
is a JSON object: {"begun": ...} what is known of a copy that has begun, the last one the answer.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from datastore.snapshot_files import run_command

STDIN = 0
NICE = 10


def main(arguments: list[str]) -> int:
    """Do it; end at once when the node does."""

    def watch() -> None:
        # Not through sys.stdin: a thread that waits there holds its lock, and Python aborts over that when it ends.
        while os.read(STDIN, 1):
            pass
        os._exit(1)

    def say(found: dict[str, Any]) -> None:
        print(json.dumps(found), flush=True)

    os.nice(NICE)
    threading.Thread(target=watch, daemon=True).start()
    say(run_command(arguments[0], arguments[1:], lambda begun: say({"begun": begun._asdict()})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
