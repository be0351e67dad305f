"""The small pure modules: references, fares, identities, names, limits, configuration."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import ConfigInvalid, RateLimited, UnknownHold, UnknownOrder
from datastore.model import DAY_MS, Layout, LayoutSpec, Schedule, Section
from loadbalancer.config import from_toml
from loadbalancer.fares import days_ahead, formula_minor, price_table
from loadbalancer.identity import (
    ask_digest,
    hold_id_of,
    is_key,
    key_digest,
    letters,
    manage_token,
    operator_of_hold,
    owner_of,
    request_id_of_attempt,
)
from loadbalancer.limits import Buckets
from loadbalancer.names import is_among, normalised
from loadbalancer.reference import ALPHABET, SERIALS, SLOTS, make_reference, slot_of, slot_of_operator
from loadbalancer.reference import normalised as normalised_reference

FLIGHT = Schedule("1", "EZE", "GRU", 600, 700, 0, "1234567", "2020-01-01", "2099-12-31", "L", 1_056)
LAYOUT = Layout(LayoutSpec("L", "L", (Section("J", "A", ("1",), ("A",)), Section("Y", "B", ("2",), ("A", "B")))))
ROOT = Path(__file__).parents[3]


@given(st.integers(0, SLOTS - 1), st.integers(0, SERIALS - 1))
def test_a_reference_leads_back_to_its_slot(slot: int, serial: int) -> None:
    """Six characters of the alphabet, and the slot again from them."""
    reference = make_reference(slot, serial)
    assert len(reference) == 6 and set(reference) <= set(ALPHABET)
    assert slot_of(reference) == slot
    assert normalised_reference(f" {reference[:3].lower()}-{reference[3:]} ") == reference


def test_references_are_unique_and_mixed() -> None:
    """Neighbouring serial numbers share no pattern: every place takes (nearly) every character, and none comes twice."""
    made = [make_reference(7, serial) for serial in range(5_000)]
    assert len(set(made)) == 5_000
    assert all(len({reference[place] for reference in made}) == len(ALPHABET) for place in range(6))
    assert not set("01OIL") & set(ALPHABET)
    assert len({slot_of_operator(f"A{letter}{digit}") for letter in "ABCDEFGHIJ" for digit in range(30)}) > 55


@pytest.mark.parametrize("word", ["", "ABCDE", "ABCDEFG", "ABCDE0", "ABCDEI", "ABCD\x00F", "Ä" * 6, "A" * 10_000])
def test_what_cannot_be_a_reference_is_unknown(word: str) -> None:
    """The same error as for one that nobody has."""
    with pytest.raises(UnknownOrder):
        normalised_reference(word)


def test_the_formula() -> None:
    """Figures worked out by hand from the documented formula; whole units, and dearer with less time left."""
    # 39.00 + 1,000 x 0.105 + 56 x 0.070 = 147.92; cabin and zone by their factors; rounded to whole units.
    assert formula_minor(FLIGHT, "Y", "B", 20) == 14_800
    assert formula_minor(FLIGHT, "Y", "B", 60) == 11_800
    assert formula_minor(FLIGHT, "J", "A", 20) == 53_300
    assert formula_minor(FLIGHT, "Y", "B", -1) == 26_600
    show = Schedule("1", "HALL", "", 1_200, 1_300, 0, "1234567", "2020-01-01", "2099-12-31", "L")
    assert formula_minor(show, "STALLS", "A", 0) == formula_minor(show, "STALLS", "A", 90) == 1_400
    prices = [formula_minor(FLIGHT, "Y", "B", days) for days in range(90, -1, -1)]
    assert prices == sorted(prices)


def test_stated_fares_come_before_the_formula() -> None:
    """(cabin, zone) before (cabin, ""), the formula for what is not stated, and the label says which it is."""
    stated = msgspec.structs.replace(FLIGHT, currency="ARS", fares=(("Y", "", 5_000), ("J", "A", 9_000)), refundable_percent=30)
    table = price_table(stated, LAYOUT, 10)
    assert table.minor == {("J", "A"): 9_000, ("Y", "B"): 5_000}
    assert (table.label, table.currency, table.refundable_percent) == ("stated by the operator", "ARS", {"J": 30, "Y": 30})
    plain = price_table(FLIGHT, LAYOUT, 10)
    assert (plain.label, plain.currency, plain.refundable_percent) == ("formula", "USD", {"J": 100, "Y": 80})
    assert days_ahead(3 * DAY_MS, 1) == 2 and days_ahead(0, 1) == -1


def test_identities_are_derived() -> None:
    """The same question gives the same names at every balancer, another one others; keys do not show."""
    owner = owner_of("owner-key-of-ana-0001")
    assert owner == owner_of("owner-key-of-ana-0001") != owner_of("owner-key-of-ana-0002")
    first = hold_id_of("AR", owner, "request-1")
    assert first == hold_id_of("AR", owner, "request-1", 0) != hold_id_of("AR", owner, "request-1", 1)
    assert operator_of_hold(first) == "AR" and len(first) == 23
    assert request_id_of_attempt("request-1", 0) == "request-1" and request_id_of_attempt("request-1", 2) == "request-1#2"
    token = manage_token("owner-key-of-ana-0001", first)
    assert len(token) == 32 and token != manage_token("owner-key-of-ana-0002", first)
    assert ask_digest("a", ["b"]) == ask_digest("a", ["b"]) != ask_digest("a", ["c"])
    assert is_key("operators-key-0001", key_digest("operators-key-0001"))
    assert not is_key("operators-key-0002", key_digest("operators-key-0001")) and not is_key("", b"")
    for wrong in ("", "AR", "AR.", ".x", "AR.short", "\x00" * 40):
        with pytest.raises(UnknownHold):
            operator_of_hold(wrong)


def test_letters_are_spread_evenly() -> None:
    """Each byte value gives one of 32 characters, each as often as any other."""
    text = letters(bytes(range(256)))
    assert len(set(text)) == 32 and all(text.count(character) == 8 for character in set(text))


def test_surnames_are_compared_without_their_dress() -> None:
    """Case, accents, hyphens and spaces do not matter; other letters do, and nothing matches nothing."""
    assert normalised("García-Núñez") == normalised("GARCIA NUNEZ") == "garcianunez"
    assert normalised("O’Brien") == normalised("o'brien") and normalised("Straße") == normalised("STRASSE")
    assert normalised("Ørsted") == "orsted" and normalised("Łukasz") == "lukasz"
    assert is_among("müller", ["Smith", "MULLER"]) and not is_among("Mueller", ["Smith", "Müller"])
    assert not is_among("", [""]) and not is_among("-", ["-"])


def test_buckets_fill_again() -> None:
    """Three at once, then one every twenty seconds; names do not share."""
    buckets = Buckets(3, "of this booking")
    for _ in range(3):
        buckets.take("a", 0)
    with pytest.raises(RateLimited) as refused:
        buckets.take("a", 1_000)
    assert 18_000 < refused.value.fields["retry_after_ms"] <= 19_001
    buckets.take("b", 1_000)
    buckets.take("a", 20_001)
    with pytest.raises(RateLimited):
        buckets.take("a", 20_002)


def settings(**changes: Any) -> dict[str, Any]:
    return {"loadbalancer": {"balancer": [{"name": "balancer-1", "port": 7401}], **changes}}


def test_the_shipped_configuration_is_valid() -> None:
    """cluster.toml's own table is read whole."""
    config = from_toml(tomllib.loads((ROOT / "cluster.toml").read_text(encoding="utf-8")))
    assert [balancer.name for balancer in config.balancers] == ["balancer-1", "balancer-2"]
    assert config.balancer("balancer-2").port == 7402
    with pytest.raises(ConfigInvalid, match="did you mean balancer-2"):
        config.balancer("balanser-2")


@pytest.mark.parametrize(
    ("mapping", "words"),
    [
        ({}, "table is missing"),
        ({"loadbalancer": {}}, "no load balancer is given"),
        (settings(hold_tll_ms=1), "did you mean hold_ttl_ms"),
        (settings(hold_ttl_ms=True), "not a whole number"),
        (settings(hold_ttl_ms="15m"), "not a whole number"),
        (settings(lanes=0), "not within 1..256"),
        (settings(hold_ttl_ms=2_000_000), "above hold_ttl_max_ms"),
        (settings(balancer=[{"name": "a", "port": 1}, {"name": "a", "port": 2}]), "used twice"),
        (settings(balancer=[{"name": "a", "port": 1}, {"name": "b", "port": 1}]), "also the address of a"),
        (settings(balancer=[{"name": "a"}]), "port: is missing"),
        (settings(balancer=[{"name": "a", "port": 70_000}]), "not within"),
        (settings(balancer=[{"name": "a", "prot": 7_000}]), "did you mean port"),
        (settings(balancer=[{"name": "../a", "port": 7_000}]), "not a plain name"),
    ],
)
def test_wrong_configurations_are_refused_by_name(mapping: dict[str, Any], words: str) -> None:
    """The file, the key and the reason are in the message."""
    with pytest.raises(ConfigInvalid, match=words) as refused:
        from_toml(mapping, "my.toml")
    assert refused.value.detail.startswith("my.toml: loadbalancer")
