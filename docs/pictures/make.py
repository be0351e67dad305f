"""Draws the pictures of the README from a cluster that runs: python docs/pictures/make.py [NAME ...]

Without names it draws all. Runs the commands below as a person would and draws what they print, colours too, as SVG beside this file.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS = 110
PICTURES = {
    "status": ["cluster", "status"],
    "seats": ["seats", "AR1140-EZE-tomorrow"],
    "search": ["search", "Buenos Aires", "Doha", "tomorrow", "--pax", "2"],
}


def main() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(COLUMNS)}
    environment.pop("NO_COLOR", None)
    wanted = sys.argv[1:] or [*PICTURES, "routes"]
    if "routes" in wanted:
        subprocess.run([sys.executable, "-m", "client", "routes", "--png", str(HERE / "routes.png")], env=environment, check=True)
    for name, words in PICTURES.items():
        if name not in wanted:
            continue
        shown = subprocess.run([sys.executable, "-m", "client", *words], env=environment, capture_output=True, text=True, check=True)
        text = Text.from_ansi(shown.stdout.rstrip())
        lines = max((len(line) for line in text.plain.splitlines()), default=COLUMNS)
        console = Console(record=True, width=min(COLUMNS, lines + 2), file=io.StringIO(), force_terminal=True)
        console.print(text)
        console.save_svg(str(HERE / f"{name}.svg"), title="holdfast " + " ".join(words))
        print(HERE / f"{name}.svg")


if __name__ == "__main__":
    main()
