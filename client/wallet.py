"""What a traveller keeps: the owner's key, and the manage tokens of the orders made with it.

Everything lies in one folder (`$HOLDFAST_HOME`, else `~/.config/holdfast`), readable by its owner alone. Tokens are kept
apart for each cluster. The request id of a confirm is written down before it is sent: if the answer is lost, the same
command sent again gets the first answer, token included, and nothing is booked twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from client import keys
from datastore.errors import ConfigInvalid

HOME_VARIABLE = "HOLDFAST_HOME"
PENDING_MAX = 200
# A view lags by moments. What was written longer ago needs no waiting for, and a cluster begun anew counts from nothing again.
WRITTEN_KEPT_S = 30


@dataclass(frozen=True)
class KeptOrder:
    """An order whose manage token is kept here, with the receipt of its sale ("" for one kept before there were receipts)."""

    reference: str
    token: str
    operator: str
    service_id: str
    receipt: str = ""


@dataclass(frozen=True)
class KeptOffer:
    """An offer of the last search: its text, what it is of, and for how many."""

    offer: str
    services: list[str]
    passengers: int


def home(environment: Mapping[str, str]) -> Path:
    """Return the folder of the wallet."""
    if environment.get(HOME_VARIABLE):
        return Path(environment[HOME_VARIABLE])
    base = environment.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "holdfast"


def cluster_name(name: str, addresses: list[str]) -> str:
    """Return the name under which a cluster's tokens are kept: its own where it has one, else a digest of its addresses."""
    if name:
        return name
    return blake2b("\n".join(sorted(addresses)).encode(), digest_size=8).hexdigest()


class Wallet:
    """The wallet of one owner for one cluster; several processes may use it at once."""

    def __init__(self, folder: Path, cluster: str) -> None:
        self.folder = folder
        self._offers = folder / f"search-{cluster}.json"
        self._alternatives = folder / f"alternatives-{cluster}.json"
        self._hold = folder / f"hold-{cluster}.txt"
        self._written = folder / f"written-{cluster}.json"
        self._file = folder / f"orders-{cluster}.json"

    def owner_key(self) -> str:
        """Return the owner's key, made at the first use.

        Raises:
            ConfigInvalid: The file is open to others.
        """
        return keys.ensure_secret(self.folder / "owner.key")[0]

    def orders(self) -> list[KeptOrder]:
        """Return the kept orders, oldest first."""
        return [KeptOrder(**row) for row in self._read()["orders"]]

    def token(self, reference: str) -> str:
        """Return the manage token of a booking reference, or "" where none is kept."""
        return next((order.token for order in self.orders() if order.reference == reference.upper()), "")

    def receipt(self, reference: str) -> str:
        """Return the receipt of a booking, or "" where none is kept."""
        return next((order.receipt for order in self.orders() if order.reference == reference.upper()), "")

    def keep(self, order: KeptOrder, pending: str = "") -> None:
        """Keep an order's token; the confirm that made it is no longer pending."""
        with self._changed() as content:
            content["orders"] = [row for row in content["orders"] if row["reference"] != order.reference] + [asdict(order)]
            content["pending"].pop(pending, None)

    def keep_receipt(self, reference: str, receipt: str) -> None:
        """Keep the receipt of a booking that is kept without one; a receipt that is kept is never replaced by another."""
        if any(order.reference == reference and not order.receipt for order in self.orders()):
            with self._changed() as content:
                for row in content["orders"]:
                    if row["reference"] == reference and not row.get("receipt"):
                        row["receipt"] = receipt

    def pending(self, what: str, request_id: str) -> str:
        """Return the request id under which `what` was begun before, else note `request_id` for it and return that."""
        with self._changed() as content:
            noted: str = content["pending"].setdefault(what, request_id)
            for old in list(content["pending"])[:-PENDING_MAX]:
                del content["pending"][old]
        return noted

    def keep_offers(self, offers: list[KeptOffer]) -> None:
        """Keep the offers of the last search, so that they can be named by their numbers."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys.write_private(self._offers, json.dumps([asdict(one) for one in offers]) + "\n")

    def offers(self) -> list[KeptOffer]:
        """Return the offers of the last search; none where nothing was searched yet."""
        try:
            return [KeptOffer(**row) for row in json.loads(self._offers.read_text(encoding="utf-8"))]
        except (OSError, ValueError, TypeError):
            return []  # Nothing is lost with them: search anew.

    def keep_hold(self, hold_id: str) -> None:
        """Keep the id of the hold made last: once it has ended the cluster lists it no longer, and it can be renewed."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys.write_private(self._hold, f"{hold_id}\n")

    def last_hold(self) -> str:
        """Return the id of the hold made last, "" where none is known."""
        try:
            return self._hold.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def note_written(self, service_id: str, lsn: int) -> None:
        """Keep for a while how far a view of a service must be to show the owner's last write there.

        A wallet that cannot be written to must not make a failure of what was done; then a map may lag, as it says itself.
        """
        kept = {service: row for service, row in self._marks().items() if service != service_id}
        with contextlib.suppress(OSError):
            keys.write_private(self._written, json.dumps({**kept, service_id: [lsn, time.time()]}) + "\n")

    def written(self) -> dict[str, int]:
        """Return service -> lsn of the owner's writes of the last moments, by whichever command."""
        return {service_id: lsn for service_id, (lsn, _) in self._marks().items()}

    def _marks(self) -> dict[str, tuple[int, float]]:
        try:
            rows = json.loads(self._written.read_text(encoding="utf-8")).items()
            marks = {str(service_id): (int(lsn), float(at_s)) for service_id, (lsn, at_s) in rows}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # Nothing is lost with them.
        now_s = time.time()
        return {service_id: mark for service_id, mark in marks.items() if abs(now_s - mark[1]) < WRITTEN_KEPT_S}

    def keep_alternatives(self, reference: str, held: list[tuple[str, str]]) -> None:
        """Keep what is held for a booking whose service was taken away: (quote, hold) each, in the order shown."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys.write_private(self._alternatives, json.dumps({"reference": reference, "held": held}) + "\n")

    def alternatives(self, reference: str) -> list[tuple[str, str]]:
        """Return (quote, hold) of what was last held for a booking; [] where nothing is known."""
        try:
            content = json.loads(self._alternatives.read_text(encoding="utf-8"))
            held = [(str(quote), str(hold)) for quote, hold in content["held"]]
            return held if content["reference"] == reference else []
        except (OSError, ValueError, TypeError, KeyError):
            return []  # Nothing is lost with them: they are searched for anew.

    def settle(self, what: str) -> None:
        """Forget a noted request: its outcome is known."""
        with self._changed() as content:
            content["pending"].pop(what, None)

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self._file.read_text(encoding="utf-8"))
            return {"orders": list(content["orders"]), "pending": dict(content["pending"])}
        except FileNotFoundError:
            return {"orders": [], "pending": {}}
        except (OSError, ValueError, KeyError, TypeError) as error:
            # Never start anew over a damaged wallet: its tokens may still be read by a person.
            raise ConfigInvalid(f"{self._file}: cannot be read as a wallet: {error}", file=str(self._file)) from error

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, Any]]:
        """Read, let the caller change, write: under a lock, as two terminals may confirm at once."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        with os.fdopen(descriptor, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            content = self._read()
            yield content
            keys.write_private(self._file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
