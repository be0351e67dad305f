"""What a hold or an order consists of, leg by leg, whether it is of one service or of a trip. Pure."""

from __future__ import annotations

from datastore.messages import HoldAnswer, LegInfo, OrderAnswer


def legs_of(answer: HoldAnswer | OrderAnswer) -> list[LegInfo]:
    """Return the legs in the order of travel; what is of one service is one leg."""
    if answer.legs:
        return answer.legs
    return [
        LegInfo(
            operator=answer.operator,
            service_id=answer.service_id,
            seats=answer.seats,
            prices=answer.prices,
            total=answer.total,
            refundable_percent=answer.refundable_percent,
            service=answer.service if isinstance(answer, OrderAnswer) else None,
        )
    ]


def seats_line(answer: HoldAnswer | OrderAnswer) -> str:
    """Return "12A, 12B" or of a trip "12A, 12B + 3C, 3D"."""
    return " + ".join(", ".join(leg.seats) for leg in legs_of(answer))


def services_line(answer: HoldAnswer | OrderAnswer) -> str:
    """Return the services, in the order of travel."""
    return " + ".join(leg.service_id for leg in legs_of(answer))


def flights_line(answer: HoldAnswer | OrderAnswer) -> str:
    """Return the services by what people call them, "AR1244 + QR774": where and when stand beside."""
    return " + ".join(leg.service_id.split("-")[0] for leg in legs_of(answer))


def seats_on(answer: HoldAnswer | OrderAnswer) -> str:
    """Return "12A, 12B on AR1140-EZE-2026-12-01", leg by leg."""
    return "; ".join(f"{', '.join(leg.seats)} on {leg.service_id}" for leg in legs_of(answer))
