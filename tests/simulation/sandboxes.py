"""The payment sandbox and the way to it: the production sandbox and the production adapter, over the simulated network.

`stripe` itself words the requests and reads the answers; only its HTTP is simulated. The sandbox's objects and answers are on its
disk before an answer leaves, so a kill loses none. What goes wrong is planned as `POST /v1/sandbox/faults` plans it: an answer
lost, late, refused with an error, or neither done nor answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import stripe

from loadbalancer.payments import StripeAdapter
from loadbalancer.sandbox import Answer, Sandbox
from loadbalancer.sandbox_faults import Faults
from loadbalancer.sandbox_intents import CARDS, ApiError, Card, Object, parse_form
from tests.simulation.world import Ask, Process, World

if TYPE_CHECKING:
    from tests.simulation.balancers import Balancer

NAME = "sandbox"
BASE = "http://sandbox.invalid"
PROVIDER_TIMEOUT_MS = 400


class Objects:
    """What `SandboxStore` is to the sandbox: everything is on the disk at once."""

    def __init__(self) -> None:
        from tests.simulation.threads import Guard

        self.mutex = Guard()
        self._objects: dict[str, tuple[str, str, str]] = {}  # id -> (kind, intent, body), in the order in which they were made
        self._answers: dict[str, tuple[bytes, int, str]] = {}

    def object(self, kind: str, object_id: str) -> Object | None:
        found = self._objects.get(object_id)
        return None if found is None or found[0] != kind else json.loads(found[2])

    def page(self, kind: str, intent: str, after: str, count: int) -> list[Object]:
        ids = list(reversed(self._objects))
        ids = ids[ids.index(after) + 1 :] if after in ids else ids
        wanted = [self._objects[one] for one in ids if self._objects[one][0] == kind and intent in ("", self._objects[one][1])]
        return [json.loads(body) for _, _, body in wanted[:count]]

    def answer(self, key: str) -> tuple[bytes, Answer] | None:
        found = self._answers.get(key)
        return None if found is None else (found[0], Answer(found[1], json.loads(found[2]), replayed=True))

    def keep(self, changed: dict[str, Object], key: str, digest: bytes, answer: Answer) -> None:
        for one in changed.values():
            intent = one["id"] if one["object"] == "payment_intent" else one["payment_intent"]
            self._objects[one["id"]] = (one["object"], intent, json.dumps(one))
        if key:
            self._answers[key] = (digest, answer.status, json.dumps(answer.body))


class SimulatedSandbox(Process, Sandbox):
    """The production sandbox without its HTTP server."""

    def __init__(self, world: World) -> None:
        Process.__init__(self, world, NAME)
        self._store = Objects()  # type: ignore[assignment]
        self.faults = Faults()
        self._in_progress = set()

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", 1

    def boot(self) -> None:
        self._in_progress = set()

    def start(self) -> None:
        Process.start(self)

    def intents(self) -> dict[str, Object]:
        """Return every intent with its charge, by id: for the checkers."""
        found = self._store.page("payment_intent", "", "", 1_000_000)
        return {one["id"]: self._expanded(one, True) for one in found}

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        if method == "consent":
            try:
                answer(self.consent(*payload)["status"])
            except ApiError as error:
                answer(str(error))
            return
        self.run(lambda: self._respond(method, *payload, answer))

    def _respond(self, method: str, url: str, key: str, body: str, answer: Callable[[Any], None]) -> None:
        """As the HTTP handler of `loadbalancer.sandbox` does it."""
        parts = urlsplit(url)
        path = [part for part in parts.path.split("/") if part]
        fault = self.faults.take(method, path)
        if fault is not None and fault.kind == "slow":
            self.sleep(fault.delay_ms)
        elif fault is not None and fault.kind == "error":
            answer((500, json.dumps({"error": {"type": "api_error", "message": "told to fail"}})))
            return
        elif fault is not None and fault.kind == "down":
            return
        try:
            found = self.get(path, parse_form(parts.query)) if method == "GET" else self.post(path, body, key)
        except ApiError as error:
            found = Answer(error.status, {"error": error.body})
        # By card, the first answer is lost and a repeat is told; a planned fault loses whatever it was planned for.
        card = CARDS.get(str(found.body.get("payment_method")), Card())
        if (fault is not None and fault.kind == "lost") or (card.answer_lost and path[-1] == "confirm" and not found.replayed):
            return
        answer((found.status, json.dumps(found.body)))


class SimulatedHttp(stripe.HTTPClient):
    """What `requests` is to the `stripe` library."""

    name = "simulated"

    def __init__(self, balancer: Balancer) -> None:
        super().__init__()
        self._balancer = balancer

    def request(self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None, **_: Any) -> tuple[str, int, Any]:
        key = (headers or {}).get("Idempotency-Key", "")
        ask = Ask(NAME, method.upper(), (url, key, post_data or ""), PROVIDER_TIMEOUT_MS)
        found = self._balancer.ask(ask)
        if found is None:
            raise stripe.APIConnectionError("no answer in time")
        status, body = found
        return body, status, {}

    def close(self) -> None:
        pass


class SimulatedAdapter(StripeAdapter):
    """The production adapter, one a balancer."""

    def __init__(self, balancer: Balancer) -> None:
        stripe.enable_telemetry = False
        self._stripe = stripe
        self._cluster = "holdfast"
        self._client = stripe.StripeClient(
            "sk_test_simulated", base_addresses={"api": BASE}, max_network_retries=0, http_client=SimulatedHttp(balancer)
        )
