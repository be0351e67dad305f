"""The [client] table: bounds, unknown keys, defaults."""

import pytest

from client import config
from datastore.errors import ConfigInvalid


def test_a_missing_table_gives_the_defaults() -> None:
    """A traveller's file names balancers only."""
    assert config.ClientConfig() == config.from_toml({})


def test_values_are_taken() -> None:
    """What is written counts."""
    table = {"timetables": ["a", "b"], "timetable_days": 10, "data": "/x", "colour": "never", "call_ms": 500}
    expected = config.ClientConfig(timetables=("a", "b"), timetable_days=10, data="/x", colour="never", call_ms=500)
    assert expected == config.from_toml({"client": table})


@pytest.mark.parametrize(
    ("table", "key", "word"),
    [
        ({"timetable": []}, "client.timetable", 'did you mean timetables'),
        ({"timetable_days": 0}, "client.timetable_days", "not within"),
        ({"timetable_days": True}, "client.timetable_days", "whole number"),
        ({"timetables": "data"}, "client.timetables", "list of folders"),
        ({"colour": "sometimes"}, "client.colour", "none of auto"),
        ({"data": ""}, "client.data", "must name a folder"),
        ({"call_ms": 10**9}, "client.call_ms", "not within"),
    ],
)
def test_what_cannot_be_used_is_named(table: dict[str, object], key: str, word: str) -> None:
    """File, key and reason stand in the message."""
    with pytest.raises(ConfigInvalid, match=word) as caught:
        config.from_toml({"client": table}, "my.toml")
    assert key == caught.value.fields["key"]
    assert caught.value.detail.startswith("my.toml: ")
