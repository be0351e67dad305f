"""Profiles: several shapes of one cluster in one file.

`[profile.NAME.TABLE]` overlays `[TABLE]`: tables merge key by key, everything else, lists too, replaces what stood
there. The profile "default" is the file without any overlay. What comes out has no `profile` table any more, so a
process that is given the resolved file needs no idea of profiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datastore.settings import refuse

DEFAULT = "default"
TABLE = "profile"


def resolve(mapping: Mapping[str, Any], profile: str = DEFAULT, file: str = "cluster.toml") -> dict[str, Any]:
    """Return the configuration under `profile`; the argument stays as it is.

    Raises:
        ConfigInvalid: There is no such profile, or a profile is not a table of tables.
    """
    overlays = mapping.get(TABLE, {})
    if not isinstance(overlays, Mapping):
        refuse(file, TABLE, "must be a table of profiles")
    base = {name: _copy(value) for name, value in mapping.items() if name != TABLE}
    if profile == DEFAULT and DEFAULT not in overlays:
        return base
    if profile not in overlays:
        known = [DEFAULT, *overlays]
        refuse(file, f"{TABLE}.{profile}", f"no such profile; there are {', '.join(known)}", profile, known)
    overlay = overlays[profile]
    if not isinstance(overlay, Mapping):
        refuse(file, f"{TABLE}.{profile}", "must be a table of tables")
    for name, value in overlay.items():
        if not isinstance(value, Mapping):
            refuse(file, f"{TABLE}.{profile}.{name}", "must be a table: a profile overlays tables, write e.g. [profile.NAME.client]")
    return merge(base, overlay)


def merge(base: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `overlay` laid over it: tables key by key, everything else replaced."""
    merged = {key: _copy(value) for key, value in base.items()}
    for key, value in overlay.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = _copy(value)
    return merged


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
