"""The payment sandbox: a small HTTP server that speaks the part of Stripe's API that Holdfast uses (docs/payments.md).

It lets a cluster take payments without an account anywhere, through the very adapter that talks to Stripe. What it has answered is
on disk before the answer leaves, and a repeat under the same idempotency key gets the same answer, also after a crash. For tests it
can lose answers, be slow or be down, by test cards or by `POST /v1/sandbox/faults`. No real money, no real cards: it takes only the
names of test cards.

Objects and their changes: `loadbalancer.sandbox_intents`. Source: Stripe API reference, "Idempotent requests", "Errors", "Pagination".
"""

from __future__ import annotations

import hmac
import html
import json
import logging
import secrets
import socket
import sqlite3
import threading
import time
from base64 import b64decode
from binascii import Error as Base64Error
from hashlib import blake2b
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from loadbalancer import sandbox_intents as intents
from loadbalancer.sandbox_faults import Faults
from loadbalancer.sandbox_intents import ApiError, Clock, Object, invalid, parse_form

BODY_BYTES_MAX = 65_536
IDLE_S = 60  # A caller that keeps its connection and is silent for this long is let go.
CONNECTIONS_MAX = 128
KEY_LENGTH_MAX = 255
PAGE_MAX = 100
SLOW_MS = 3_000
ID_BYTES = 12

_SCHEMA = """
CREATE TABLE IF NOT EXISTS object (place INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT UNIQUE NOT NULL, kind TEXT NOT NULL,
                                   intent TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS object_of_intent ON object (kind, intent);
CREATE TABLE IF NOT EXISTS answer (key TEXT PRIMARY KEY, digest BLOB NOT NULL, status INTEGER NOT NULL, body TEXT NOT NULL);
"""

log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """What goes back to the caller."""

    status: int
    body: Object
    replayed: bool = False


class SandboxStore:
    """Objects and answers in one SQLite file; what `keep` returned from is on the disk."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.mutex = threading.RLock()
        self._file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")
        self._file.executescript(_SCHEMA)

    def close(self) -> None:
        with self.mutex:
            self._file.close()

    def object(self, kind: str, object_id: str) -> Object | None:
        with self.mutex:
            row = self._file.execute("SELECT body FROM object WHERE id = ? AND kind = ?", (object_id, kind)).fetchone()
        return None if row is None else json.loads(row[0])

    def page(self, kind: str, intent: str, after: str, count: int) -> list[Object]:
        """Return up to `count` objects, the newest first; those older than `after` where it is given."""
        with self.mutex:
            rows = self._file.execute(
                "SELECT body FROM object WHERE kind = ?1 AND (?2 = '' OR intent = ?2)"
                " AND (?3 = '' OR place < (SELECT place FROM object WHERE id = ?3)) ORDER BY place DESC LIMIT ?4",
                (kind, intent, after, count),
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def answer(self, key: str) -> tuple[bytes, Answer] | None:
        with self.mutex:
            row = self._file.execute("SELECT digest, status, body FROM answer WHERE key = ?", (key,)).fetchone()
        return None if row is None else (row[0], Answer(row[1], json.loads(row[2]), replayed=True))

    def keep(self, changed: dict[str, Object], key: str, digest: bytes, answer: Answer) -> None:
        """Write what changed and the answer, all or nothing."""
        with self.mutex:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                for one in changed.values():
                    intent = one["id"] if one["object"] == "payment_intent" else one["payment_intent"]
                    self._file.execute(
                        "INSERT INTO object (id, kind, intent, body) VALUES (?, ?, ?, ?)"
                        " ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                        (one["id"], one["object"], intent, json.dumps(one)),
                    )
                if key:
                    self._file.execute("INSERT INTO answer VALUES (?, ?, ?, ?)", (key, digest, answer.status, json.dumps(answer.body)))
                self._file.execute("COMMIT")
            except BaseException:
                self._file.execute("ROLLBACK")
                raise


class Sandbox:
    """The sandbox behind its HTTP handlers."""

    def __init__(self, name: str, host: str, port: int, *, file: Path, api_key: str) -> None:
        """Prepare; `start` serves.

        Args:
            file: The SQLite file.
            api_key: What callers must show.
        Raises:
            OSError: The address cannot be bound.
        """
        self.name = name
        self._api_key = api_key
        self._store = SandboxStore(file)
        self.faults = Faults()
        self._in_progress: set[str] = set()
        self._server = _Server((host, port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, name="sandbox", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens: host and port."""
        host, port = self._server.server_address[:2]
        return str(host), int(port)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop serving; what was answered is on the disk."""
        self._server.shutdown()
        self._server.server_close()
        self._store.close()

    # --- requests -------------------------------------------------------------------------------------------------

    def is_authorised(self, header: str) -> bool:
        """Return whether an Authorization header shows the key: as a bearer, or as the user of basic authentication."""
        scheme, _, word = header.partition(" ")
        if scheme.lower() == "basic":
            try:
                word = b64decode(word, validate=True).decode().partition(":")[0]
            except (Base64Error, UnicodeDecodeError):
                return False
        return hmac.compare_digest(word.encode(), self._api_key.encode())

    def get(self, path: list[str], fields: Object) -> Answer:
        """Answer a question.

        Raises:
            ApiError: There is no such thing.
        """
        match path:
            case ["v1", "payment_intents"]:
                return Answer(200, self._list("payment_intent", "", "/v1/payment_intents", fields))
            case ["v1", "payment_intents", intent_id]:
                return Answer(200, self._expanded(self._intent(intent_id), _expands(fields, "latest_charge")))
            case ["v1", "refunds"]:
                return Answer(200, self._list("refund", str(fields.get("payment_intent", "")), "/v1/refunds", fields))
            case ["v1", "refunds", refund_id]:
                return Answer(200, self._found("refund", refund_id))
        raise _no_such_url("GET", path)

    def post(self, path: list[str], body: str, key: str) -> Answer:
        """Do what is asked, once for each idempotency key.

        Raises:
            ApiError: A refusal; whatever had to be kept of it is kept.
        """
        if len(key) > KEY_LENGTH_MAX:
            raise invalid(f"Idempotency-Key must be at most {KEY_LENGTH_MAX} characters long", param="Idempotency-Key")
        digest = blake2b("\0".join(["/".join(path), body]).encode(), digest_size=16).digest()
        with self._store.mutex:
            known = self._store.answer(key) if key else None
            if known is not None:
                if known[0] != digest:
                    message = f"Keys for idempotent requests can only be used with the same parameters they were first used with ({key})."
                    raise ApiError(400, "idempotency_error", message, kept=False)
                return known[1]
            if key and key in self._in_progress:
                message = f"There is currently another in-progress request using this Idempotent Key ({key})."
                raise ApiError(409, "idempotency_error", message, kept=False, code="idempotency_key_in_use")
            self._in_progress.add(key)
        try:
            return self._execute(path, body, key, digest)
        finally:
            self._in_progress.discard(key)

    def _execute(self, path: list[str], body: str, key: str, digest: bytes) -> Answer:
        fields = parse_form(body)
        if intents.CARDS.get(str(fields.get("payment_method")), intents.Card()).slow:
            time.sleep(SLOW_MS / 1000)
        clock = Clock(int(time.time()), lambda: secrets.token_hex(ID_BYTES))
        with self._store.mutex:
            try:
                changed = self._changed(path, fields, clock)
                shown = self._expanded(next(iter(changed.values())), _expands(fields, "latest_charge"))
                answer = Answer(200, shown)
            except ApiError as error:
                if not error.kept:
                    raise
                changed, answer = error.changed, Answer(error.status, {"error": error.body})
            self._store.keep(changed, key, digest, answer)
        return answer

    def _changed(self, path: list[str], fields: Object, clock: Clock) -> dict[str, Object]:
        match path:
            case ["v1", "payment_intents"]:
                made = intents.create(fields, clock)
                return {made["id"]: made}
            case ["v1", "payment_intents", intent_id, "confirm"]:
                intent = self._intent(intent_id)
                host, port = self.address
                where = f"http://{host}:{port}/sandbox/consent/{intent_id}?secret={intent['client_secret']}"
                return intents.confirm(intent, fields, clock, where)
            case ["v1", "payment_intents", intent_id, "capture"]:
                intent = self._intent(intent_id)
                return intents.capture(intent, self._charge(intent), fields)
            case ["v1", "payment_intents", intent_id, "cancel"]:
                return intents.cancel(self._intent(intent_id), fields, clock)
            case ["v1", "refunds"]:
                intent = self._intent(str(fields.get("payment_intent", "")))
                return intents.refund(intent, self._charge(intent), fields, clock)
        raise _no_such_url("POST", path)

    def consent(self, intent_id: str, secret: str, outcome: str) -> Object:
        """Note what the holder of the card said on the consent page.

        Raises:
            ApiError: No such intent, a wrong secret, or nothing to consent to.
        """
        with self._store.mutex:
            intent = self._intent(intent_id)
            if not hmac.compare_digest(intent["client_secret"].encode(), secret.encode()):
                raise invalid("That is not the secret of this payment.", status=404)
            if outcome:
                changed = intents.consent(intent, outcome == "succeed", Clock(int(time.time()), lambda: secrets.token_hex(ID_BYTES)))
                intent = changed[intent_id]
                self._store.keep(changed, "", b"", Answer(200, intent))
        return intent

    # --- objects --------------------------------------------------------------------------------------------------

    def _found(self, kind: str, object_id: str) -> Object:
        found = self._store.object(kind, object_id)
        if found is None:
            raise invalid(f"No such {kind}: '{object_id[:60]}'", status=404, code="resource_missing", param="id")
        return found

    def _intent(self, intent_id: str) -> Object:
        return self._found("payment_intent", intent_id)

    def _charge(self, intent: Object) -> Object | None:
        return self._store.object("charge", intent["latest_charge"]) if intent["latest_charge"] else None

    def _expanded(self, one: Object, wanted: bool) -> Object:
        return {**one, "latest_charge": self._charge(one)} if wanted and one["object"] == "payment_intent" else one

    def _list(self, kind: str, intent: str, url: str, fields: Object) -> Object:
        word, after = str(fields.get("limit", "10")), str(fields.get("starting_after", ""))
        if not word.isascii() or not word.isdigit() or not 1 <= int(word) <= PAGE_MAX:
            raise invalid(f"limit must be between 1 and {PAGE_MAX}", param="limit")
        if after:
            self._found(kind, after)
        found = self._store.page(kind, intent, after, int(word) + 1)
        wanted = _expands(fields, "data.latest_charge")
        data = [self._expanded(one, wanted) for one in found[: int(word)]]
        return {"object": "list", "data": data, "has_more": len(found) > int(word), "url": url}


def _expands(fields: Object, name: str) -> bool:
    wanted = fields.get("expand")
    return isinstance(wanted, dict) and name in wanted.values()


def _no_such_url(method: str, path: list[str]) -> ApiError:
    return invalid(f"Unrecognized request URL ({method}: /{'/'.join(path)[:80]}).", status=404)


# --- HTTP ---------------------------------------------------------------------------------------------------------


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self._room = threading.BoundedSemaphore(CONNECTIONS_MAX)

    def process_request(self, request: Any, client_address: Any) -> None:
        # One thread a connection: beyond this many a caller is turned away at once instead of taking the machine down.
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("connection ended in an error peer=%s", client_address, exc_info=False)


class _LostAnswer(Exception):
    """The connection is to be closed without an answer."""


def _handler(sandbox: Sandbox) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "holdfast-sandbox"
        sys_version = ""
        timeout = IDLE_S
        # Without TCP_NODELAY each small answer waits some 40 ms for the acknowledgement of the one before.
        disable_nagle_algorithm = True
        wbufsize = 65_536

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def _answer(self, method: str) -> None:
            try:
                answer = self._answered(method)
            except _LostAnswer:
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            except ApiError as error:
                answer = Answer(error.status, {"error": error.body})
            except (sqlite3.Error, OSError) as error:
                log.error("failed reason=%s", error)
                answer = Answer(500, {"error": {"type": "api_error", "message": "The sandbox cannot reach its store."}})
            page = answer.body.get("html")
            content = page.encode() if page else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", "text/html; charset=utf-8" if page else "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Request-Id", f"req_{secrets.token_hex(7)}")
            for name in ("Stripe-Version", "Idempotency-Key"):
                if self.headers.get(name):
                    self.send_header(name, self.headers[name])
            if answer.replayed:
                self.send_header("Idempotent-Replayed", "true")
            self.end_headers()
            self.wfile.write(content)

        def _answered(self, method: str) -> Answer:
            url = urlsplit(self.path)
            path = [part for part in url.path.split("/") if part]
            body = self._body()
            if path == ["healthz"]:
                return Answer(200, {"status": "ok", "name": sandbox.name})
            if path[:2] == ["sandbox", "consent"] and len(path) == 3:
                return self._consent(path[2], parse_form(url.query), parse_form(body))
            if not sandbox.is_authorised(self.headers.get("Authorization", "")):
                raise invalid("Invalid API Key provided", status=401)
            if path == ["v1", "sandbox", "faults"] and method == "POST":
                return Answer(200, sandbox.faults.plan(parse_form(body)))
            fault = sandbox.faults.take(method, path)
            if fault is not None and fault.kind == "slow":
                time.sleep(fault.delay_ms / 1000)
            elif fault is not None and fault.kind == "error":
                raise ApiError(500, "api_error", "The sandbox was told to fail.")
            elif fault is not None and fault.kind == "down":
                raise _LostAnswer
            key = self.headers.get("Idempotency-Key", "")
            answer = sandbox.get(path, parse_form(url.query)) if method == "GET" else sandbox.post(path, body, key)
            lost = intents.CARDS.get(str(answer.body.get("payment_method")), intents.Card()).answer_lost
            # By card, the first answer is lost and a repeat is told; a planned fault loses whatever it was planned for.
            if (fault is not None and fault.kind == "lost") or (lost and path[-1] == "confirm" and not answer.replayed):
                raise _LostAnswer
            return answer

        def _body(self) -> str:
            word = self.headers.get("Content-Length") or "0"
            if not word.isascii() or not word.isdigit() or int(word) > BODY_BYTES_MAX or self.headers.get("Transfer-Encoding"):
                self.close_connection = True
                raise invalid(f"The body must have a length of at most {BODY_BYTES_MAX} bytes", status=413)
            content = self.rfile.read(int(word))
            try:
                return content.decode("utf-8")
            except UnicodeDecodeError as error:
                raise invalid("The body is not UTF-8") from error

        def _consent(self, intent_id: str, query: Object, form: Object) -> Answer:
            outcome = str(form.get("outcome", ""))
            if outcome not in ("", "succeed", "fail"):
                raise invalid("outcome is succeed or fail", param="outcome")
            intent = sandbox.consent(intent_id, str(query.get("secret", "")), outcome)
            return Answer(200, {"html": _page(intent)})

        def log_message(self, format: str, *arguments: Any) -> None:
            """Say nothing for each request: secrets of payments stand in addresses."""

    return Handler


def _page(intent: Object) -> str:
    status = html.escape(intent["status"])
    form = ""
    if intent["status"] == "requires_action":
        words = (("succeed", "Consent"), ("fail", "Refuse"))
        buttons = "".join(f'<button name="outcome" value="{word}">{label}</button> ' for word, label in words)
        form = f'<form method="post">{buttons}</form>'
    amount = f"{intent['amount']} {html.escape(intent['currency'].upper())} (smallest unit)"
    return f"<!doctype html><title>Payment sandbox</title><h1>Payment of {amount}</h1><p>Status: {status}</p>{form}\n"
