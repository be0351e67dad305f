"""Sections of the documentation that measurements write."""

from __future__ import annotations

import os
import platform
import re
from datetime import date
from pathlib import Path


def machine() -> str:
    """Return what was measured on, and when, in words."""
    return f"{date.today().isoformat()} ({os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()})"


def put_section(page: Path, heading: str, text: str) -> None:
    """Put a section in the place of the one with this heading, or at the end.

    Args:
        heading: Without the marks.
        text: With the heading, ending in a line feed.
    """
    written = page.read_text(encoding="utf-8") if page.exists() else ""
    section = re.compile(rf"## {re.escape(heading)}\n.*?(?=\n## |\Z)", re.S)
    found = section.search(written)
    if found is None:
        page.write_text(f"{written.rstrip()}\n\n{text}", encoding="utf-8")
    else:
        page.write_text(written[: found.start()] + text + written[found.end() :], encoding="utf-8")
