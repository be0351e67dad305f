"""The user's own keys: what is taken, and what is refused with the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.tui import keymap
from datastore.errors import ConfigInvalid

WRONG = [
    ('[keys]\n"seats.chose" = "x"', "seats.choose"),
    ('[keys]\n"seats.choose" = "spcae"', "space"),
    ('[keys]\n"seats.choose" = "ctl+h"', "ctrl"),
    ('[keys]\n"seats.choose" = 3', "must be a key"),
    ('[keys]\n"seats.choose" = "b"', "trip.best"),
    ('[keys]\n"trip.hold" = "f6,f1"', "app.help"),
    ('[keys]\n"seats.left" = "a"\n"seats.right" = "a"', "seats.left"),
    ('[key]\n"seats.choose" = "x"', "keys"),
    ('theme = "ansi-drak"', "ansi-dark"),
    ("keys = 1", "must be a table"),
    ("[keys", "keys.toml"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_a_wrong_word_is_refused_with_the_nearest_right_one(tmp_path: Path, text: str, told: str) -> None:
    """The message names the file and what was meant; nothing is shown with half of the keys."""
    file = tmp_path / "keys.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigInvalid) as caught:
        keymap.read(file)
    assert "keys.toml" in caught.value.detail and told in caught.value.detail


def test_right_words_are_taken_and_no_file_is_no_wish(tmp_path: Path) -> None:
    """Several keys for one binding, names and characters, modifiers, a theme."""
    file = tmp_path / "keys.toml"
    assert keymap.Wishes() == keymap.read(file)
    file.write_text(
        'theme = "ansi-dark"\n[keys]\n"seats.choose" = "space, x"\n"trip.hold" = "ctrl+h"\n"search.focus" = "slash,f24"', encoding="utf-8"
    )
    assert keymap.Wishes({"seats.choose": "space,x", "trip.hold": "ctrl+h", "search.focus": "slash,f24"}, "ansi-dark") == keymap.read(file)
    # Two that change places are no clash, nor is a key that does something on another page alone.
    file.write_text('[keys]\n"seats.prices" = "b"\n"trip.best" = "p"\n"trip.next" = "e"', encoding="utf-8")
    assert "b" == keymap.read(file).keys["seats.prices"]
    assert "nord" == keymap.read(file, "nord").theme


def test_every_binding_of_ours_has_an_id_and_no_two_share_one() -> None:
    """An id is the only handle of a binding in the file."""
    ids = [binding.id for owner in keymap.OWNERS for binding in owner.BINDINGS]
    assert all(ids) and len(ids) == len(set(ids))
