"""The traveller's commands: hold, extend, release, confirm, order, cancel, and what is mine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import completion, inputs
from client.commands_looking import Json, Watch
from client.terminal import Session, tell
from client.watching import watch
from datastore.errors import InvalidRequest, OperatorUnavailable, PriceChanged, UnknownHold, UnknownOrder

if TYPE_CHECKING:
    from client import api
    from datastore.messages import HoldAnswer, HoldsAnswer
    from datastore.model import Passenger

HoldId = Annotated[
    str, typer.Argument(metavar="HOLD", help="A hold, as `holdfast hold` named it, or: last.", autocompletion=completion.holds)
]
Reference = Annotated[
    str, typer.Argument(metavar="REF", help="A booking reference, e.g. K7Q2MX, or: last.", autocompletion=completion.references)
]
RequestId = Annotated[str, typer.Option("--request-id", help="Ask again for the outcome of a write whose answer was lost.")]
LAST = "last"
ON_ITS_WAY_MS = 5_000  # What an answer may have lost of the time asked for: the log's clock, rounding, the way back.
PassengersFile = Annotated[
    Path | None, typer.Option("--passengers", metavar="FILE", help="All passengers in a JSON file; docs/passengers.md has its form.")
]
Duration = Annotated[str, typer.Option("--for", help="How long: 15m, 90s, 1h.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    panel = "Travel"
    for command in (hold, holds, extend, renew, release, confirm, order, orders):
        app.command(rich_help_panel=panel)(command)


def hold_id_of(session: Session, client: api.Holdfast, word: str) -> str:
    """Return a hold's id; "last" is the newest of my open ones, or where none is open the one made last: its end is told then."""
    if word.lower() != LAST:
        return word
    mine = client.my_holds()
    kept = "" if mine.holds or mine.partial else session.wallet.last_hold()
    return kept or newest(mine)


def newest(mine: HoldsAnswer) -> str:
    """Return the id of the newest hold.

    Raises:
        UnknownHold: There is none.
        OperatorUnavailable: Some operators did not answer. The newest may be theirs, and an older one must not be taken for it.
    """
    if mine.partial:
        silent = sorted(mine.partial)
        reason = f"which hold is the last cannot be said: no answer from {', '.join(silent)}; name the hold itself"
        raise OperatorUnavailable(reason, operators=silent)
    if not mine.holds:
        raise UnknownHold("you have no open hold")
    return max(mine.holds, key=lambda one: one.created_ms).hold_id


def reference_of(session: Session, word: str) -> str:
    """Return a booking reference; "last" is the newest of those kept here, which no operator need answer for.

    Raises:
        InvalidRequest: It is empty.
        UnknownOrder: No booking is kept here.
    """
    if not word.strip():
        raise InvalidRequest("name a booking by its reference, or the newest one: last", field="reference")
    if word.lower() != LAST:
        return word.upper()
    kept = session.wallet.orders()
    if not kept:
        raise UnknownOrder("no bookings are kept here")
    return kept[-1].reference


def hold(
    context: typer.Context,
    service: Annotated[
        str,
        typer.Argument(
            metavar="[SERVICE]",
            help="A service, e.g. AR1140-EZE-2026-12-01; of a trip each leg as SERVICE:12A,12B or SERVICE:any2.",
            autocompletion=completion.services,
        ),
    ] = "",
    seats: Annotated[list[str] | None, typer.Argument(metavar="[SEAT|LEG]...", help="The seats, e.g. 12A 12B; or more legs.")] = None,
    any_count: Annotated[
        int | None,
        typer.Option("--any", min=1, help="So many of the best: in economy, or in another cabin if they are side by side only there."),
    ] = None,
    cabin: Annotated[str, typer.Option("--cabin", help="With --any: never another cabin; Y keeps to economy.")] = "",
    together: Annotated[bool, typer.Option("--together", help="With --any: side by side or not at all.")] = False,
    each: Annotated[bool, typer.Option("--each", help="A hold of its own for each seat named: each stands or falls alone.")] = False,
    offer: Annotated[str, typer.Option("--offer", help="A trip of the last search by its number, or an offer's text.")] = "",
    lasting: Duration = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Take seats out of sale for a while: all of them or none, on one service or on every leg of a trip."""
    session: Session = context.obj
    ttl_ms = inputs.hold_ms(lasting) if lasting else 0
    if ":" in service:
        if any_count is not None or offer:
            raise InvalidRequest("of a trip every leg says how many: SERVICE:any2", field="any")
        if each:
            raise InvalidRequest("--each goes with seats of one service; a trip is one hold", field="each")
        legs = [inputs.trip_leg(word, date.today()) for word in (service, *(seats or []))]
        with session.connect() as client:
            answer = client.hold_trip(legs, together=together, cabin=cabin.upper(), ttl_ms=ttl_ms, request_id=request_id)
        return _show_hold(session, answer, json)
    named = inputs.seats(seats or [])
    if each and (offer or not named):
        raise InvalidRequest("--each goes with the names of seats: holdfast hold SERVICE 12A 12B --each", field="each")
    if offer:
        services, any_count, offer = _offered(session, service, named, any_count, offer)
        if len(services) > 1:
            return _hold_offered_trip(session, services, named, any_count, together, lasting, request_id, offer, json)
        service = services[0]
    if not service:
        raise InvalidRequest("name a service and seats (AR1140-EZE-tomorrow 12A), or a trip of a search (--offer 1)", field="service")
    if named and any_count is not None:
        raise InvalidRequest("name the seats (12A 12B) or say how many (--any 3), not both", field="seats")
    if not named and any_count is None:
        raise InvalidRequest("name seats (12A 12B), or say how many with --any", field="seats")
    if any_count is None and (cabin or together):
        raise InvalidRequest("--cabin and --together go with --any", field="cabin" if cabin else "together")
    service = inputs.service_id(service, date.today())
    if each:
        from client.commands_bulk import hold_each

        return hold_each(session, service, named, ttl_ms, request_id, json=json)
    with session.connect() as client, _keeping_new_offer(session, offer):
        if any_count is None:
            answer = client.hold(service, named, ttl_ms=ttl_ms, request_id=request_id, offer=offer)
        else:
            answer = client.hold_any(
                service, any_count, cabin=cabin.upper(), together=together, ttl_ms=ttl_ms, request_id=request_id, offer=offer
            )
    return _show_hold(session, answer, json)


def _hold_offered_trip(
    session: Session,
    services: list[str],
    named: list[str],
    any_count: int | None,
    together: bool,
    lasting: str,
    request_id: str,
    offer: str,
    json: bool,
) -> int:
    if named or any_count is None:
        raise InvalidRequest("a trip of several services is held with the best seats: name none", field="seats")
    with session.connect() as client, _keeping_new_offer(session, offer):
        answer = client.hold_trip(
            [(service, any_count) for service in services],
            together=together,
            ttl_ms=inputs.hold_ms(lasting) if lasting else 0,
            request_id=request_id,
            offer=offer,
        )
    return _show_hold(session, answer, json)


def renew(context: typer.Context, hold_id: HoldId, lasting: Duration = "", request_id: RequestId = "", json: Json = False) -> int:
    """Take the seats of a hold that has ended again, if they are free: a new hold, of one service or of a whole trip."""
    session: Session = context.obj
    if hold_id.lower() == LAST:
        # Not the newest that is open: what has ended is listed no longer.
        hold_id = session.wallet.last_hold()
        if not hold_id:
            raise UnknownHold("no hold was made here yet")
    with session.connect() as client:
        answer = client.renew(hold_id, ttl_ms=inputs.hold_ms(lasting) if lasting else 0, request_id=request_id)
    return _show_hold(session, answer, json)


def _show_hold(session: Session, answer: HoldAnswer, json: bool) -> int:
    session.wallet.keep_hold(answer.hold_id)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.hold(session.console(), answer)
    people = " ".join('--passenger "Given Surname"' for _ in answer.seats)
    tell(f"next: holdfast confirm {answer.hold_id} {people}")
    tell(f"      holdfast extend {answer.hold_id} --for 20m")
    tell(f"      holdfast release {answer.hold_id}")
    return session.done(answer)


@contextmanager
def _keeping_new_offer(session: Session, offer: str) -> Iterator[None]:
    """Where an offer of the last search is refused for what has changed, keep the new one under its number."""
    try:
        yield
    except PriceChanged as error:
        kept, new = session.wallet.offers(), str(error.fields.get("offer", ""))
        numbers = [number for number, one in enumerate(kept, 1) if one.offer == offer]
        if new and numbers:
            session.wallet.keep_offers([replace(one, offer=new) if one.offer == offer else one for one in kept])
            error.fields["kept_as"] = numbers[0]
        raise


def _offered(session: Session, service: str, named: list[str], any_count: int | None, word: str) -> tuple[list[str], int | None, str]:
    """Return the services, how many of the best (None where seats are named), and the text of an offer.

    Raises:
        InvalidRequest: The last search has no such trip; or an offer's own text was given without its service.
    """
    kept = session.wallet.offers()
    if word.isascii() and word.isdigit() and len(word) < 5:
        if not 1 <= int(word) <= len(kept):
            known = f"the last search has 1 to {len(kept)}" if kept else "search first: holdfast search FROM TO DATE"
            raise InvalidRequest(f"there is no trip {word}; {known}", field="offer")
        chosen = kept[int(word) - 1]
    else:
        found = [one for one in kept if one.offer == word.strip()]
        if not found:
            return [service], any_count, word.strip()
        chosen = found[0]
    return [service] if service else chosen.services, None if named else any_count or chosen.passengers, chosen.offer


def holds(context: typer.Context, again: Watch = False, json: Json = False) -> int:
    """List my open holds."""
    if again:
        watch(context.obj, lambda: holds(context, json=json), json=json)
    session: Session = context.obj
    with session.connect() as client:
        answer = client.my_holds()
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    if answer.holds:
        show.holds(session.console(), answer.holds)
    else:
        tell("no open holds" + (" at the operators that answered" if answer.partial else ""))
    return session.done(answer)


def extend(context: typer.Context, hold_id: HoldId, lasting: Duration = "15m", request_id: RequestId = "", json: Json = False) -> int:
    """Let a hold last longer, counted from now; never beyond the limit from its creation, and never shorter."""
    session: Session = context.obj
    asked_ms = inputs.hold_ms(lasting)
    with session.connect() as client:
        answer = client.extend(hold_id_of(session, client, hold_id), asked_ms, request_id=request_id)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.hold(session.console(), answer)
    if said := _not_as_asked(answer, asked_ms):
        tell(said)
    return session.done(answer)


def _not_as_asked(answer: HoldAnswer, asked_ms: int) -> str:
    """Return why a hold's time is not what was asked for, "" where it is."""
    left = inputs.duration_text(answer.remaining_ms)
    if answer.state != "active" or abs(answer.remaining_ms - asked_ms) <= ON_ITS_WAY_MS:
        return ""
    if answer.remaining_ms > asked_ms:
        return f"the hold lasts longer than that already and is not shortened: {left} are left"
    most = inputs.duration_text(answer.expires_ms - answer.created_ms)
    return f"a hold ends {most} after it was made at the latest: {left} are left, not {inputs.duration_text(asked_ms)}"


def release(context: typer.Context, hold_id: HoldId, request_id: RequestId = "", json: Json = False) -> int:
    """Give the seats of a hold back."""
    session: Session = context.obj
    with session.connect() as client:
        answer = client.release(hold_id_of(session, client, hold_id), request_id=request_id)
    if json:
        session.print_json(answer)
        return session.done(answer)
    legs = [(leg.service_id, leg.seats) for leg in answer.legs] or [(answer.service_id, answer.seats)]
    for service_id, seats in legs:
        session.console().print(f"released {', '.join(seats)} on {service_id}")
    return session.done(answer)


def confirm(
    context: typer.Context,
    hold_id: HoldId,
    passenger: Annotated[
        list[str] | None,
        typer.Option(
            "--passenger",
            "-p",
            help='Who sits there, in the order of the seats: "Given Surname" or "Surname/Given", with a type in front and fields behind'
            ' where they are needed: "CHD Tom Diaz, born=2019-05-01, doc=ARG:AB123456, ffp=AR1234567, ssr=VGML".',
        ),
    ] = None,
    passengers: PassengersFile = None,
    quote: Annotated[bool, typer.Option("--quote", help="Only say what these passengers pay for these seats.")] = False,
    card: Annotated[str, typer.Option("--pay", help="The card that pays, where the cluster takes payments, e.g. pm_card_visa.")] = "",
    request_id: RequestId = "",
    json: Json = False,
) -> int:
    """Turn a hold into a booking; its manage token and its receipt are kept here."""
    people = people_of(passenger, passengers)
    if quote:
        return _quote(context.obj, hold_id, people, json=json)
    return confirm_hold(context.obj, hold_id, people, request_id, card, json=json)


def people_of(words: list[str] | None, file: Path | None) -> list[Passenger]:
    """Return the passengers named one by one or in a file.

    Raises:
        InvalidRequest: None is named, or one is wrong.
    """
    from client import travellers

    if words and file is not None:
        raise InvalidRequest("name the passengers one by one or in a file, not both", field="passengers")
    if file is not None:
        try:
            return travellers.passengers_of_file(file.read_text(encoding="utf-8"), file.name)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{file}: is no text in UTF-8: {error}", field="passengers") from error
    people = [travellers.passenger(word, number) for number, word in enumerate(words or [], 1)]
    if not people:
        raise InvalidRequest('a booking names its passengers: add --passenger "Given Surname" for each seat', field="passenger")
    return people


def _quote(session: Session, hold_id: str, people: list[Passenger], *, json: bool) -> int:
    with session.connect() as client:
        answer = client.price_party(hold_id_of(session, client, hold_id), people)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.party(session.console(), answer)
    return session.done(answer)


def confirm_hold(session: Session, hold_id: str, people: list[Passenger], request_id: str, card: str, *, json: bool) -> int:
    """Confirm a hold, paid by `card` ("" for none), and show the booking; returns the exit code."""
    from client import bookings

    with session.connect() as client:
        answer = bookings.confirm(client, session.wallet, hold_id_of(session, client, hold_id), people, request_id, card)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.order(session.console(), answer)
    tell(f"next: holdfast order {answer.reference} --surname {shlex.quote(people[0].surname)}")
    tell(f"      holdfast cancel {answer.reference}")
    return session.done(answer)


def order(
    context: typer.Context,
    reference: Reference,
    surname: Annotated[str, typer.Option("--surname", help="A passenger's surname: shows a reduced record.")] = "",
    token: Annotated[str, typer.Option("--token", help="The manage token, where it is not kept here.")] = "",
    json: Json = False,
) -> int:
    """Look a booking up: by its token where it is kept here, else by a surname."""
    session: Session = context.obj
    reference = reference_of(session, reference)
    kept = "" if surname or token else session.wallet.token(reference)
    if not (surname or token or kept):
        raise InvalidRequest("this booking is not kept here: add --surname NAME or --token TOKEN", field="surname")
    with session.connect() as client:
        answer = client.order(reference, surname=surname, token=token or kept)
    if kept and answer.receipt:
        session.wallet.keep_receipt(answer.reference, answer.receipt)
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    show.order(session.console(), answer)
    if answer.action_required and answer.available_actions:
        tell(f"next: holdfast alternatives {answer.reference}, or: holdfast refund {answer.reference}")
    return session.done(answer)


def orders(context: typer.Context, json: Json = False) -> int:
    """List my bookings: those whose tokens are kept here."""
    session: Session = context.obj
    kept = session.wallet.orders()
    if not kept:
        if json:
            session.print_json({"partial": {}, "orders": []})
        else:
            tell("no bookings are kept here")
        return 0
    from datastore.messages import OrdersAnswer

    pages: list[OrdersAnswer] = []
    with session.connect() as client:
        for first in range(0, len(kept), 200):  # Of one question, see messages.GetOrders.
            pages.append(client.orders([(one.reference, one.token) for one in kept[first : first + 200]]))
    answer = OrdersAnswer(
        orders=[found for page in pages for found in page.orders],
        partial={key: why for page in pages for key, why in page.partial.items()},
    )
    if json:
        session.print_json(answer)
        return session.done(answer)
    from client import show

    if answer.orders:
        show.orders(session.console(), answer.orders)
    return session.done(answer)
