"""What people type for a place: codes, cities, names, and slips of the finger."""

from __future__ import annotations

import pytest

from datastore.errors import InvalidRequest
from datastore.model import Place
from loadbalancer.places import PlaceBook

PLACES = [
    Place("EZE", "Ministro Pistarini International Airport", "Buenos Aires", "AR", "UTC"),
    Place("AEP", "Jorge Newbery Airfield", "Buenos Aires", "AR", "UTC"),
    Place("GRU", "Guarulhos International Airport", "São Paulo", "BR", "UTC"),
    Place("JFK", "John F Kennedy International Airport", "New York", "US", "UTC"),
    Place("EWR", "Newark Liberty International Airport", "Newark", "US", "UTC"),
    Place("MIA", "Miami International Airport", "Miami", "US", "UTC"),
    Place("COR", "Ambrosio Taravella Airport", "Córdoba", "AR", "UTC"),
    Place("DOH", "Hamad International Airport", "Doha", "QA", "UTC"),
]
BOOK = PlaceBook({place.code: place for place in PLACES})


@pytest.mark.parametrize(
    ("word", "codes"),
    [
        ("EZE", ("EZE",)),
        ("eze ", ("EZE",)),
        ("buenos aires", ("AEP", "EZE")),
        ("BUENOS  AIRES", ("AEP", "EZE")),
        ("Sao Paulo", ("GRU",)),
        ("São Paulo", ("GRU",)),
        ("cordoba", ("COR",)),
        ("jorge newbery airfield", ("AEP",)),
    ],
)
def test_a_word_means_its_places(word: str, codes: tuple[str, ...]) -> None:
    """Case, accents and blanks are forgiven; a city is all of its places."""
    assert BOOK.resolve(word, "origin") == codes


@pytest.mark.parametrize(
    ("word", "first"),
    [
        ("ezr", "EZE"),
        ("Buenos Airs", "AEP"),
        ("Sao Polo", "GRU"),
        ("newyork", "JFK"),
        ("mimai", "MIA"),
        ("cordova", "COR"),
        ("kenedy", "JFK"),
    ],
)
def test_a_slip_names_the_nearest(word: str, first: str) -> None:
    """Nothing is guessed: the refusal names what was perhaps meant, the likeliest among the first."""
    with pytest.raises(InvalidRequest) as refused:
        BOOK.resolve(word, "origin")
    assert first in refused.value.fields["nearest"]
    assert refused.value.fields["field"] == "origin"


def test_completion_goes_from_the_beginning_of_words() -> None:
    """A code first, then cities and names that begin so, then those that contain the word."""
    assert [place.code for place in BOOK.complete("new", 5)] == ["EWR", "JFK", "AEP"]
    assert [place.code for place in BOOK.complete("a", 2)] == ["AEP", "COR"]
    assert next(iter(BOOK.complete("mia", 3))).code == "MIA"
    assert len(BOOK.complete("", 5)) == 5


def test_nonsense_is_near_to_nothing() -> None:
    """A word like no place's is refused without a guess; odd characters and long texts do no harm."""
    for word in ("qqqqzzzz", "", "   ", "\x00", "x" * 200, "🛫"):
        with pytest.raises(InvalidRequest):
            BOOK.resolve(word, "origin")
        BOOK.complete(word, 3)
