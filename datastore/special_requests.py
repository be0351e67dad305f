"""Special service requests by their codes (SSR). Pure data.

Source: IATA/A4A Reservations Interline Message Procedures (AIRIMP), "Special Service Requirement codes", as airlines print them in
their booking guides; the subset that concerns a passenger's seat, assistance, meals, animals and baggage. Four letters each.
"""

from __future__ import annotations

from typing import Final

SEATED_AWAY_FROM_EXITS: Final = frozenset(
    {"WCHR", "WCHS", "WCHC", "BLND", "DEAF", "DPNA", "MAAS", "MEDA", "STCR", "LEGL", "LEGR", "UMNR", "EXST", "BSCT", "PETC", "SVAN", "ESAN"}
)
"""Whoever asks for one of these cannot be asked to open an exit (EASA CAT.OP.MPA.165, 14 CFR 121.585), or has something in the way."""

SPECIAL_REQUESTS: Final[dict[str, str]] = {
    # Assistance
    "WCHR": "wheelchair to the aircraft; can manage steps",
    "WCHS": "wheelchair; cannot manage steps",
    "WCHC": "wheelchair to the seat; cannot walk",
    "WCMP": "travels with a wheelchair without a motor",
    "WCBD": "travels with a wheelchair with a dry battery",
    "WCBW": "travels with a wheelchair with a wet battery",
    "WCLB": "travels with a wheelchair with a lithium battery",
    "WCOB": "wheelchair on board",
    "BLND": "blind or of low vision",
    "DEAF": "deaf or hard of hearing",
    "DPNA": "disability of the mind that needs assistance",
    "MAAS": "meet and assist",
    "MEDA": "medical case",
    "OXYG": "oxygen",
    "STCR": "stretcher",
    "LEGL": "left leg in a cast",
    "LEGR": "right leg in a cast",
    "LANG": "speaks only the language stated",
    "UMNR": "minor who travels alone",
    # Seats
    "BSCT": "bassinet",
    "EXST": "extra seat",
    "CBBG": "cabin baggage in a seat",
    # Animals
    "PETC": "animal in the cabin",
    "AVIH": "animal in the hold",
    "SVAN": "assistance dog",
    "ESAN": "animal for emotional support",
    # Baggage
    "XBAG": "more baggage",
    "BIKE": "bicycle",
    "SPEQ": "sports equipment",
    "FRAG": "fragile baggage",
    # Meals
    "AVML": "meal: vegetarian, Hindu",
    "BBML": "meal: baby",
    "BLML": "meal: bland",
    "CHML": "meal: child",
    "DBML": "meal: diabetic",
    "FPML": "meal: fruit",
    "GFML": "meal: no gluten",
    "HNML": "meal: Hindu, not vegetarian",
    "KSML": "meal: kosher",
    "LCML": "meal: few calories",
    "LFML": "meal: little fat",
    "LSML": "meal: little salt",
    "MOML": "meal: Muslim",
    "NLML": "meal: no lactose",
    "RVML": "meal: vegetarian, raw",
    "SFML": "meal: seafood",
    "SPML": "meal: as stated",
    "VGML": "meal: vegan",
    "VJML": "meal: Jain",
    "VLML": "meal: vegetarian with milk and eggs",
    "VOML": "meal: vegetarian, oriental",
}
