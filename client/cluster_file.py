"""Changes of cluster.toml by commands: comments, order and spacing of everything else stay as a person wrote them."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from client import profiles
from datastore.errors import ConfigInvalid


def source_of(resolved: str) -> tuple[Path | None, str]:
    """Return the file and the profile from which a running cluster's configuration was written; None where it is not here."""
    found = re.match(r"# Written at every start from (.+), profile (\S+): change that file, not this one\.", resolved)
    path = Path(found.group(1)) if found else None
    return (path if path is not None and path.is_file() else None), found.group(2) if found else profiles.DEFAULT


def with_node(text: str, profile: str, name: str, host: str, port: int) -> str:
    """Return the text of a cluster.toml with a [[datastore.node]] more, unchanged where it names that node already."""
    import tomlkit

    document = tomlkit.parse(text)
    table = _datastore(document, profile)
    nodes = table.setdefault("node", tomlkit.aot())
    if any(row.get("name") == name for row in nodes):
        return text
    row = tomlkit.table()
    row.update({"name": name, "host": host, "port": port})
    if nodes:
        # A blank line before the next table, as between those that a person wrote.
        row.add(tomlkit.nl())
    nodes.append(row)
    return tomlkit.dumps(document)


def without_node(text: str, profile: str, name: str, heirs: Mapping[str, str]) -> str:
    """Return the text of a cluster.toml without a node; operators that prefer it prefer their heir.

    Args:
        heirs: Operator -> the node that leads it now.
    """
    import tomlkit

    document = tomlkit.parse(text)
    for table in (_datastore(document, profile), document.get("datastore", {})):
        nodes = table.get("node", [])
        for index in reversed([index for index, row in enumerate(nodes) if row.get("name") == name]):
            del nodes[index]
        left = [str(row.get("name")) for row in nodes]
        for operator in table.get("operator", []):
            if operator.get("primary") == name:
                operator["primary"] = heirs.get(str(operator.get("code")), "") or (left[0] if left else name)
    return tomlkit.dumps(document)


def _datastore(document: Any, profile: str) -> Any:
    """Return the table whose nodes count under a profile: the profile's own where it lists nodes, else the file's."""
    overlay = document.get(profiles.TABLE, {}).get(profile, {}).get("datastore", {})
    return overlay if "node" in overlay else document.get("datastore", {})


def check(path: Path, text: str, profile: str) -> None:
    """See that a changed cluster.toml is still one, before it replaces the one that works.

    Raises:
        ConfigInvalid: It is not; the message names the key, the reason and the nearest known word.
    """
    from client.plan import plan_of

    plan_of(profiles.resolve(tomllib.loads(text), profile, str(path)), str(path))


def difference(path: Path, before: str, after: str) -> str:
    """Return what changes, as a unified difference."""
    lines = difflib.unified_diff(before.splitlines(True), after.splitlines(True), str(path), str(path))
    return "".join(lines)


def rewrite(path: Path, before: str, after: str) -> bool:
    """Replace the file, whole or not at all; return False where it cannot be written.

    Raises:
        ConfigInvalid: Somebody changed it meanwhile.
    """
    if after == before:
        return True
    if path.read_text(encoding="utf-8") != before:
        raise ConfigInvalid(f"{path} was changed by somebody else meanwhile; run the command again", file=str(path))
    draft = path.with_name(f".{path.name}.new")
    try:
        draft.write_text(after, encoding="utf-8")
        draft.replace(path)
    except OSError:
        return False
    return True
