"""Which primaries to move so that they are where they are preferred, and evenly spread where nothing is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from datastore.administration import Move


def spread(leaders: Mapping[str, str], heirs: Mapping[str, Sequence[str]], preferred: Mapping[str, str]) -> list[Move]:
    """Return the moves, none where all is as it should be: asked again after they were made, it returns none.

    Args:
        leaders: Operator -> the node of its primary.
        heirs: Operator -> the other nodes that could lead it now.
        preferred: Operator -> the node that should lead it; those without one are spread evenly.
    """
    moves: list[Move] = []
    now = dict(leaders)
    free: list[str] = []
    for operator in sorted(leaders):
        wanted = preferred.get(operator, "")
        if wanted in heirs.get(operator, ()):
            moves.append(Move(operator, wanted))
            now[operator] = wanted
        elif wanted != leaders[operator]:
            free.append(operator)
    load = Counter(now.values())
    for operator in free:
        lightest = min(heirs.get(operator, ()), key=lambda node: (load[node], node), default="")
        # One more there and one less here must leave the two closer together, or moves would go on for ever.
        if lightest and load[now[operator]] - load[lightest] >= 2:
            load[now[operator]] -= 1
            load[lightest] += 1
            moves.append(Move(operator, lightest))
    return moves
