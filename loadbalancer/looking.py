"""Browsing: operators, places, services and seat maps, all from the views (a write never trusts what is said here)."""

from __future__ import annotations

from collections.abc import Sequence

from datastore import messages
from datastore.errors import InvalidRequest, UnknownPlace, nearest, shown
from datastore.model import Seat, SeatState, Service, is_date
from datastore.rows import SeatRow
from loadbalancer.answers import SEAT_WORDS, aisles, fixtures, seat_info, service_info
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.identity import owner_of
from loadbalancer.nearby import hint, no_such_seat
from loadbalancer.view import OperatorView, Sale
from loadbalancer.waiting import now_ms


class Looking:
    """The handlers of questions that need no decision."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    def operators(self, request: messages.Operators) -> messages.OperatorsAnswer:
        """List operators by code."""
        like = request.like.casefold()
        found = []
        views = self._views()
        for view in views:
            name = view.row.name if view.row is not None else view.code
            if like in view.code.casefold() or like in name.casefold():
                kind = view.row.kind if view.row is not None else ""
                retired = view.row is not None and view.row.retired_ms > 0
                found.append(messages.OperatorInfo(view.code, name, kind, len(view.timetable.schedules), sorted(view.datasets), retired))
        return messages.OperatorsAnswer(operators=found, partial=self._balancer.staleness(self._balancer.catalogue.codes()))

    def services(self, request: messages.ListServices) -> messages.ServicesAnswer:
        """List the services of a day, by local time of departure."""
        if not is_date(request.date):
            raise InvalidRequest(f"{shown(request.date)} is not a date: expected e.g. 2026-12-01", field="date")
        operator, origin, destination = request.operator.upper(), request.origin.upper(), request.destination.upper()
        views = [self._balancer.catalogue.operator(operator)] if operator else self._views()
        self._check_place(views, origin, "origin")
        self._check_place(views, destination, "destination")
        partial = self._balancer.staleness([operator] if operator else self._balancer.catalogue.codes())
        if operator and request.min_lsn and not self._wait(operator, request.min_lsn):
            partial[operator] = f"has not reached lsn {request.min_lsn} yet"
        found: list[tuple[OperatorView, Service]] = []
        for view in views:
            found += [(view, one) for one in self._balancer.catalogue.services(view, request.date, origin, destination)]
        # As people read a timetable: by the local time of departure, which is what stands there.
        found.sort(key=lambda pair: (pair[1].schedule.departs_min, pair[1].service_id))
        start = self._start([service.service_id for _, service in found], request.after)
        page = found[start : start + request.limit]
        wall = wall_ms()
        infos = [service_info(view, one, view.timetable.layouts[one.schedule.layout_id], wall) for view, one in page]
        more = start + len(page) < len(found)
        return messages.ServicesAnswer(
            services=infos,
            next=infos[-1].service_id if more else None,
            as_of_ms=self._balancer.as_of_ms([view.code for view in views]),
            partial=partial,
        )

    def seat_map(self, request: messages.SeatMap) -> messages.SeatMapAnswer:
        """Show every seat of a service."""
        sale, view, partial = self._service(request)
        lsn, rows = view.seats_now(request.service_id)
        owner = owner_of(request.owner_key) if request.owner_key else ""
        return messages.SeatMapAnswer(
            service=service_info(view, sale.service, sale.layout, wall_ms(), sale),
            seats=[seat_info(seat, rows.get(seat.seat_id), sale, owner) for seat in sale.layout.seats],
            aisles=aisles(sale.layout),
            lsn=lsn,
            as_of_ms=self._balancer.as_of_ms([view.code]),
            fixtures=fixtures(sale.layout),
            partial=partial,
        )

    def watch_seats(self, request: messages.WatchSeats) -> messages.SeatStatesAnswer:
        """Answer when a service's seats change: a live map costs a message a change, not a map every moment."""
        sale = self._balancer.sale(request.service_id, now_ms() + request.deadline_ms)
        service_id, operator = sale.service.service_id, sale.operator
        catalogue = self._balancer.catalogue

        def changed() -> bool:
            return catalogue.operators[operator].seats_seen(service_id) != request.seen

        # An answer must be there before the caller gives up.
        changed_now = self._balancer.follower.wait_for_news(changed, min(request.wait_ms, request.deadline_ms // 2))
        view = catalogue.operators[operator]
        with view.guard:
            seen = view.seats_seen(service_id)
            lsn, rows = view.seats_now(service_id)
        taken = None
        if changed_now:
            owner = owner_of(request.owner_key) if request.owner_key else ""
            taken = [
                (seat_id, _word(row), bool(owner) and row.owner == owner, row.reason if row.state == SeatState.BLOCKED else "")
                for seat_id, row in rows.items()
            ]
        return messages.SeatStatesAnswer(
            service_id=service_id,
            state=service_info(view, sale.service, sale.layout, wall_ms(), sale).state,
            seen=seen,
            taken=taken,
            lsn=lsn,
            as_of_ms=self._balancer.as_of_ms([operator]),
            partial=self._balancer.staleness([operator]),
        )

    def list_seats(self, request: messages.ListSeats) -> messages.SeatsAnswer:
        """List a service's seats page by page, front to back."""
        sale, view, partial = self._service(request)
        if request.cabin and request.cabin not in sale.layout.cabins:
            raise InvalidRequest(f"no cabin {shown(request.cabin)}; there are {', '.join(sale.layout.cabins)}", field="cabin")
        if request.state and request.state not in SEAT_WORDS.values():
            raise InvalidRequest(f"no state {shown(request.state)}; there are {', '.join(SEAT_WORDS.values())}", field="state")
        lsn, rows = view.seats_now(request.service_id)
        wanted = [
            seat
            for seat in sale.layout.seats
            if (not request.cabin or seat.cabin == request.cabin) and (not request.state or _word(rows.get(seat.seat_id)) == request.state)
        ]
        # By position, not by membership: the last seat of a page may have changed its state since.
        last = self._seat(sale, request.after).position if request.after else -1
        rest = [seat for seat in wanted if seat.position > last]
        owner = owner_of(request.owner_key) if request.owner_key else ""
        page = [seat_info(seat, rows.get(seat.seat_id), sale, owner) for seat in rest[: request.limit]]
        return messages.SeatsAnswer(
            seats=page,
            next=page[-1].seat_id if len(rest) > len(page) else None,
            free=sale.layout.capacity - len(rows),
            lsn=lsn,
            as_of_ms=self._balancer.as_of_ms([view.code]),
            partial=partial,
        )

    def query_seat(self, request: messages.QuerySeat) -> messages.SeatAnswer:
        """Show one seat."""
        sale, view, partial = self._service(request)
        seat = self._seat(sale, request.seat)
        lsn, rows = view.seats_now(request.service_id)
        row = rows.get(seat.seat_id)
        owner = owner_of(request.owner_key) if request.owner_key else ""
        return messages.SeatAnswer(
            service=service_info(view, sale.service, sale.layout, wall_ms(), sale),
            seat=seat_info(seat, row, sale, owner),
            lsn=lsn,
            as_of_ms=self._balancer.as_of_ms([view.code]),
            partial=partial,
        )

    def _views(self) -> list[OperatorView]:
        codes = self._balancer.catalogue.codes()
        views = self._balancer.catalogue.operators.copy()
        return [views[code] for code in codes if code in views]

    def _wait(self, operator: str, lsn: int) -> bool:
        """Return whether the view has what the caller wrote, after waiting for it a moment (Z14)."""
        return self._balancer.follower.wait_for(operator, lsn, self._balancer.config.view_wait_ms)

    def _service(self, request: messages.SeatMap | messages.ListSeats | messages.QuerySeat) -> tuple[Sale, OperatorView, dict[str, str]]:
        sale = self._balancer.sale(request.service_id, now_ms() + request.deadline_ms)
        partial = self._balancer.staleness([sale.operator])
        if request.min_lsn and not self._wait(sale.operator, request.min_lsn):
            partial[sale.operator] = f"has not reached lsn {request.min_lsn} yet"
        return sale, self._balancer.catalogue.operators[sale.operator], partial

    def _seat(self, sale: Sale, word: str) -> Seat:
        offer = sale.offers.get(word) or sale.offers.get(word.strip().lower())
        if offer is None:
            raise no_such_seat(sale.service.service_id, sale.layout, word)
        return sale.layout.by_id[offer.seat_id]

    def _check_place(self, views: Sequence[OperatorView], code: str, field: str) -> None:
        if not code or any(code in view.timetable.places for view in views):
            return
        known: dict[str, str] = {}
        for view in views:
            with view.guard:
                for place in view.timetable.places.values():
                    known.update({place.code: place.code, place.city: place.code, place.name: place.code})
        near = list(dict.fromkeys(known[word] for word in nearest(code, known)))
        raise UnknownPlace(f"nobody serves {shown(code)}{hint(near)}", field=field, nearest=near)

    def _start(self, ids: Sequence[str], after: str) -> int:
        if not after:
            return 0
        try:
            return ids.index(after) + 1
        except ValueError:
            raise InvalidRequest(f"{shown(after)} is not in this list; begin again", field="after") from None


def _word(row: SeatRow | None) -> str:
    return SEAT_WORDS[row.state] if row is not None else "available"
