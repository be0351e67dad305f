"""A console for people who want to watch the cluster work: hold seats by typing them, ask who leads, and with `dev` look
into the log, depose a primary by a promise, kill, freeze and continue processes.

One line in, some lines out; nothing here knows more than any other client, but the dev commands, which speak to the data
nodes as a manager would and send signals to processes of this machine.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from rich.text import Text

from client import api, bookings, inputs, keys, processes, seatmap, show
from client.certificates import ADMIN
from client.plan import NODE, plan_of
from client.tables import Rows
from client.terminal import Session, hints
from datastore import config as datastore_config
from datastore import wire, wire_ledger
from datastore.edge import Address, tls_of
from datastore.errors import HoldfastError, InvalidRequest, nearest, shown
from datastore.rows import Kind
from datastore.stub import NodeStub

if TYPE_CHECKING:
    from rich.console import Console

NODE_MS = 2_000
DEFAULT_OPERATOR = "AR"
LOG_LINES = 10
LOG_LINES_MAX = 500
SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "continue": signal.SIGCONT}
Words = Sequence[str]


class ClusterConsole:
    """What one typed line does. `closed` once the person wants to leave."""

    def __init__(self, session: Session, client: api.Holdfast, out: Console, *, dev: bool) -> None:
        self._session = session
        self._client = client
        self._out = out
        self.closed = False
        self.service = ""
        self._operator = ""
        self._seats: dict[str, str] = {}  # what may be typed, in lower case -> seat id
        self._hold = ""
        self._commands: dict[str, tuple[str, Callable[[Words], None]]] = {
            "help": ("what can be typed", self._help),
            "services": ("[OPERATOR] [DATE]: what is on sale", self._services),
            "use": ("SERVICE: look at one service; then a seat typed (a1, or 12a 12b) is held", self._use),
            "map": ("the seat map of the service in use", self._map),
            "release": ("give the last hold back", self._release),
            "book": ("GIVEN SURNAME: book the last hold", self._book),
            "is-primary": ("[OPERATOR]: which node may write", self._is_primary),
            "status": ("how every process is", self._status),
            "quit": ("leave", self._quit),
        }
        if dev:
            self._commands |= {
                "log": ("OPERATOR [ENTRIES]: the newest entries of the ledger, as a node has them", self._log),
                "partitions": ("[OPERATOR]: every copy on every node, with epochs and positions", self._partitions),
                "promise": ("OPERATOR: promise every copy to a higher epoch, which deposes its primary", self._promise),
                "counter": ("add N [OPERATOR]: append the smallest command there is", self._counter),
                **{word: (f"PROCESS: send {number.name} to it", self._signalling(word)) for word, number in SIGNALS.items()},
            }

    @cached_property
    def _nodes(self) -> dict[str, NodeStub]:
        session, file = self._session, str(self._session.config_file)
        # What only managers may ask of a node a person may as the administrator (`ROLES` of the nodes).
        tls = tls_of(datastore_config.link_security(session.mapping, file), session.folders.data, ADMIN)
        return {one.name: NodeStub(Address(one.host, one.port), name=one.name, tls=tls) for one in plan_of(session.mapping, file).of(NODE)}

    def close(self) -> None:
        if "_nodes" in self.__dict__:
            for stub in self._nodes.values():
                stub.close()

    def words(self) -> list[str]:
        """Return what a first word may be, for completion."""
        return [*self._commands, *self._seats]

    def do(self, line: str) -> None:
        """Carry one line out; errors are shown and change nothing."""
        try:
            words = shlex.split(line)
        except ValueError as error:
            self._say(f"{error}: quotes come in pairs", "#D55E00")
            return
        if not words:
            return
        try:
            known = self._commands.get(words[0].lower())
            if known is not None:
                known[1](words[1:])
            elif all(word.lower() in self._seats for word in words):
                self._take([self._seats[word.lower()] for word in words])
            else:
                self._unknown(words)
        except HoldfastError as error:
            self._say(error.detail, "#D55E00")
            for hint in hints(error):
                self._say(f"  {hint}")

    def _unknown(self, words: Words) -> None:
        near = nearest(words[0].lower(), self.words())
        hint = f"; did you mean {near[0]}?" if near else ""
        without = "" if self.service else " (choose a service with: use SERVICE, before seats can be typed)"
        raise InvalidRequest(f"{shown(words[0])} is neither a command nor a seat here{hint}{without}", field="line")

    def _say(self, text: str, style: str = "") -> None:
        self._out.print(Text(text, style), soft_wrap=True)

    # --- looking and selling -------------------------------------------------------------------------------------------

    def _help(self, _words: Words) -> None:
        rows = Rows("TYPE", "FOR", fold=("FOR",))
        for word, (what, _) in self._commands.items():
            rows.add_row(word, what)
        rows.print(self._out)

    def _services(self, words: Words) -> None:
        operator = words[0].upper() if words else ""
        day = inputs.day(words[1] if len(words) > 1 else "tomorrow", date.today())
        answer = self._client.services(day, operator=operator, limit=20)
        show.services(self._out, answer)

    def _use(self, words: Words) -> None:
        if len(words) != 1:
            raise InvalidRequest("use takes one service, e.g.: use AR1140-EZE-tomorrow", field="service")
        answer = self._client.seat_map(inputs.service_id(words[0], date.today()))
        self.service, self._operator = answer.service.service_id, answer.service.operator
        self._seats = {}
        for seat in answer.seats:
            # A seat may be typed either way round: 12A as it is printed, or a12.
            for word in (seat.seat_id, seat.designator, seat.column + seat.row):
                self._seats.setdefault(word.lower(), seat.seat_id)
        show.seat_map(self._out, answer)

    def _map(self, _words: Words) -> None:
        self._need_service()
        answer = self._client.seat_map(self.service)
        for line in seatmap.draw(answer, self._out.width):
            self._out.print(Text.assemble(*((span.text, seatmap.COLOURS[span.role]) for span in line)), soft_wrap=True)

    def _need_service(self) -> None:
        if not self.service:
            raise InvalidRequest("no service is in use; choose one with: use SERVICE", field="service")

    def _take(self, seats: list[str]) -> None:
        answer = self._client.hold(self.service, seats)
        self._hold = answer.hold_id
        left = inputs.duration_text(answer.remaining_ms)
        self._say(f"held {', '.join(answer.seats)} for {left}, {answer.total}; hold {answer.hold_id}, entry {answer.lsn}", "#009E73")
        self._say("book it with: book GIVEN SURNAME, give it back with: release")

    def _release(self, words: Words) -> None:
        answer = self._client.release(words[0] if words else self._last_hold())
        self._say(f"{', '.join(answer.seats)} free again, entry {answer.lsn}")

    def _book(self, words: Words) -> None:
        person = inputs.passenger(" ".join(words))
        hold = self._client.get_hold(self._last_hold())
        order = bookings.confirm(self._client, self._session.wallet, hold.hold_id, [person] * len(hold.seats))
        self._say(f"booked {', '.join(order.seats)}: {order.reference}, receipt {order.receipt}", "#009E73")

    def _last_hold(self) -> str:
        if not self._hold:
            raise InvalidRequest("nothing was held in this console", field="hold")
        return self._hold

    def _is_primary(self, words: Words) -> None:
        wanted = words[0].upper() if words else ""
        rows = Rows("OPERATOR", "PRIMARY", "EPOCH", "ENTRIES", "REPLICAS (LAG)", right=("EPOCH", "ENTRIES"))
        known = self._client.status().partitions
        lines = [line for line in known if wanted in ("", line.operator)]
        if not lines:
            near = nearest(wanted, {line.operator for line in known})
            hint = f"; did you mean {' or '.join(near)}?" if near else f"; there are {', '.join(sorted(line.operator for line in known))}"
            raise InvalidRequest(f"no operator {shown(wanted)}{hint}", field="operator", nearest=near)
        for line in lines:
            replicas = ", ".join(f"{node} ({lag})" for node, lag in sorted(line.replicas.items()))
            rows.add_row(line.operator, line.primary or "nobody", str(line.epoch), str(line.lsn), replicas)
        rows.print(self._out)

    def _status(self, _words: Words) -> None:
        plan = plan_of(self._session.mapping, str(self._session.config_file))
        show.status(self._out, self._client.status(), {one.name: one.address for one in plan.processes})

    def _quit(self, _words: Words) -> None:
        self.closed = True

    # --- for those who want to see the protocol ---------------------------------------------------------------------------

    def _log(self, words: Words) -> None:
        operator, most = _operator(words), _number(words, 1, LOG_LINES)
        if not 1 <= most <= LOG_LINES_MAX:
            raise InvalidRequest(f"{most} entries are not within 1..{LOG_LINES_MAX}", field="entries")
        node, position = max(self._copies(operator), key=lambda copy: copy[1].commit_lsn)
        first = max(1, position.commit_lsn - most + 1)
        self._say(f"{operator} at {node}, entries {first} to {position.commit_lsn}")
        rows = Rows("LSN", "EPOCH", "STAMP", "KIND", "REQUESTS", "EVENTS", "HASH", right=("LSN", "REQUESTS", "EVENTS"), fold=("EVENTS",))
        for sealed in self._nodes[node].log(wire_ledger.EntriesRequest(operator, first, most), NODE_MS):
            entry = sealed.entry
            counted = len([request for request, _ in entry.requests if request])
            kinds = Counter(_kind_name(kind) for kind, _, _ in entry.events)
            events = ", ".join(f"{count} {name}" for name, count in kinds.items())
            epoch = f"{entry.epoch[0]}/{entry.epoch[1][:8]}"
            rows.add_row(str(entry.lsn), epoch, show.clock(entry.stamp_ms), entry.kind, str(counted), events, sealed.hash.hex()[:12])
        rows.print(self._out)

    def _copies(self, operator: str) -> list[tuple[str, wire.PartitionStatus]]:
        """Return the copies of an operator that answer: (node, what it says).

        Raises:
            InvalidRequest: No node that answers has one.
        """
        found = []
        for name, stub in self._nodes.items():
            try:
                status = stub.status(NODE_MS)
            except HoldfastError as error:
                self._say(f"{name}: {error.detail}", "#E69F00")
                continue
            found += [(name, one) for one in status.partitions if operator in ("", one.operator)]
        if not found:
            raise InvalidRequest(f"no node that answers has a copy of {shown(operator)}", field="operator")
        return found

    def _partitions(self, words: Words) -> None:
        headings = ("OPERATOR", "NODE", "ROLE", "PROMISED", "EPOCH", "LAST", "COMMITTED", "APPLIED", "STORE")
        rows = Rows(*headings, right=("LAST", "COMMITTED", "APPLIED"))
        for node, one in sorted(self._copies(words[0].upper() if words else ""), key=lambda copy: (copy[1].operator, copy[0])):
            positions = (str(one.last_lsn), str(one.commit_lsn), str(one.applied_lsn))
            rows.add_row(one.operator, node, one.role, str(one.promised[0]), str(one.epoch[0]), *positions, one.store_uuid[:8])
        rows.print(self._out)

    def _promise(self, words: Words) -> None:
        operator = _operator(words)
        copies = self._copies(operator)
        epoch = (max(one.promised[0] for _, one in copies) + 1, "console")
        for node, _ in copies:
            for reply in self._nodes[node].promise([wire.PromiseItem(operator, epoch)], NODE_MS):
                word = "promised" if reply.granted else f"refused: {reply.promised[0]} is promised"
                self._say(f"{node}: {word}; last entry {reply.last_lsn} of epoch {reply.last_epoch[0]}")
        self._say(f"nobody leads {operator} in epoch {epoch[0]}: a manager will draw the next one (see: is-primary {operator})")

    def _counter(self, words: Words) -> None:
        rest = [word for word in words if word != "add"]
        number = _number(rest, 0, 1)
        operator = rest[1].upper() if len(rest) > 1 else self._operator or DEFAULT_OPERATOR
        key = keys.operator_key(self._session.folders, operator)
        answer = self._client.count(key, operator, "console", number)
        self._say(f"{answer.counter} = {answer.value}, entry {answer.lsn} of {operator}")

    def _signalling(self, word: str) -> Callable[[Words], None]:
        def send(words: Words) -> None:
            plan = plan_of(self._session.mapping, str(self._session.config_file))
            names = [one.name for one in plan.processes]
            if len(words) != 1 or words[0] not in names:
                near = nearest(words[0], names) if words else []
                hint = f"; did you mean {near[0]}?" if near else ""
                raise InvalidRequest(f"{word} takes one of: {', '.join(names)}{hint}", field="process")
            running = processes.running(self._session.folders.pid(words[0]))
            if running is None:
                raise InvalidRequest(f"{words[0]} does not run on this machine under {self._session.folders.data}", field="process")
            os.kill(running.pid, SIGNALS[word])
            after = {"kill": "the supervisor starts it again", "freeze": "it answers nobody until: continue", "continue": "it goes on"}
            self._say(f"{SIGNALS[word].name} sent to {words[0]} (process {running.pid}); {after[word]}")

        return send


def _kind_name(kind: int) -> str:
    return Kind(kind).name.lower().replace("_", " ") if kind in set(Kind) else f"kind {kind}"


def _operator(words: Words) -> str:
    if not words:
        raise InvalidRequest("name an operator, e.g. AR", field="operator")
    return words[0].upper()


def _number(words: Words, place: int, default: int) -> int:
    if len(words) <= place:
        return default
    try:
        return int(words[place])
    except ValueError:
        raise InvalidRequest(f"{shown(words[place])} is not a whole number", field="number") from None


def read_lines(prompt: Callable[[], str], words: Callable[[], list[str]]) -> Iterator[str]:
    """Yield typed lines until the end of input; Tab completes, Ctrl+C only gives the line up."""
    try:
        import readline
    except ImportError:  # A Python built without it: no completion, all else works.
        readline = None  # type: ignore[assignment]
    if readline is not None:
        readline.set_completer(lambda text, state: [*(word for word in words() if word.startswith(text.lower())), None][state])
        readline.parse_and_bind("tab: complete")
        readline.set_completer_delims(" ")
    while True:
        try:
            yield input(prompt())
        except KeyboardInterrupt:
            print("  (quit leaves)")
        except EOFError:
            return
