"""Published timetables as views: what a balancer has once an import has gone through."""

from __future__ import annotations

import os
import zlib
from datetime import date
from pathlib import Path

from client.importing import body_of, load_dataset
from datastore import wire
from datastore.engine import decide
from datastore.model import Epoch
from datastore.state import AppliedState
from loadbalancer.view import OperatorView
from tests.unit.loadbalancer.local_tiers import Rows

CHECKOUT = Path(__file__).resolve().parents[3]
SHARED = Path(os.environ.get("HOLDFAST_SHARED_DATA", CHECKOUT.parent / "shared" / "data"))
US_2008 = SHARED / "us-2008" / "us-2008-w02-timetable.csv.xz"
NOW_MS = 1_000


def views_of(path: Path, valid_from: date, days: int) -> dict[str, OperatorView]:
    """Return the views of a dataset's operators, through the very import of a partition."""
    dataset = load_dataset(path, valid_from=valid_from, days=days)
    views: dict[str, OperatorView] = {}
    for code, part in dataset.operators.items():
        command = wire.Import("request-1", b"i", dataset.name, body_of(dataset, part))
        assert zlib.decompress(command.body)
        decision = decide(AppliedState(code, Rows()), [command], NOW_MS, 1, Epoch(1, "m"), lambda _: None)
        assert not decision.outcomes[0].error, decision.outcomes[0].error
        view = views[code] = OperatorView(code)
        view.apply(decision.events)
    return views
