"""Tickets as pages: what they say is what was signed, in whatever letters; a page that was altered is found."""

from __future__ import annotations

import io
from dataclasses import replace

import pypdfium2
import pytest
import zxingcpp
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from pypdf import PdfReader, PdfWriter
from pypdf.annotations import FreeText

from client.ticket_pages import differences, has_glyph, pages, read_pages
from client.ticket_text import all_lines, printable_text
from datastore.errors import HoldfastError, InvalidRequest
from datastore.ticket_codes import Segment, TicketFacts, facts_of, is_genuine, signed

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))


def segment(number: int) -> Segment:
    ends = ("EZE", "Ministro Pistarini International", "GRU", "Guarulhos – Governador André Franco Montoro")
    times = ("2026-12-01T10:05-03:00", "2026-12-01T12:40-03:00")
    return Segment(number, "AR", "Aerolíneas Argentinas", f"AR114{number}-EZE-2026-12-01", *ends, *times, "12A")


def facts(surname: str = "Díaz", given: str = "Ana", segments: int = 2) -> TicketFacts:
    receipt = f"AR:1:41:K7Q2MX:{'9f' * 32}"
    named = ("AR", "Aerolíneas Argentinas", "K7Q2MX", "0440000000012", 6, surname, given, "ADT", 1_790_000_000_000, receipt)
    return TicketFacts(*named, tuple(segment(number + 1) for number in range(segments)))


@settings(deadline=None)
@given(st.text(max_size=80), st.text(max_size=80), st.integers(0, 12))
def test_a_code_says_what_was_signed(surname: str, given_name: str, segments: int) -> None:
    """And is genuine by its operator's key alone; read in lines it is the same."""
    made = facts(surname, given_name, segments)
    code = signed(made, KEY)
    assert made == facts_of(code) and is_genuine(code, KEY.public_key()) and not is_genuine(code, OTHER.public_key())
    assert is_genuine(f" {code[:40]}\n{code[40:]}\n", KEY.public_key())


@settings(deadline=None)
@given(st.data())
def test_an_altered_code_is_never_genuine(data: st.DataObject) -> None:
    """Any one character: either it is no code any more, or its signature does not hold."""
    code = signed(facts(), KEY)
    at = data.draw(st.integers(0, len(code) - 1))
    letter = data.draw(st.sampled_from("ABCabc019-_."))
    if letter == code[at]:
        return
    try:
        assert not is_genuine(code[:at] + letter + code[at + 1 :], KEY.public_key())
    except InvalidRequest as error:
        assert "code" in error.detail


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_code_or_a_named_error(text: str) -> None:
    """Of what a scanner may read, or a person type."""
    for word in (text, f"HF1.{text}", f"HF1.{text}.{text}"):
        try:
            facts_of(word)
            is_genuine(word, KEY.public_key())
        except HoldfastError as error:
            assert error.detail


def test_a_bomb_is_no_code() -> None:
    """What unpacks to more than any ticket is refused before it does."""
    import base64
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(bytes(100_000_000), 9)).decode().rstrip("=")
    for word in (f"HF1.{bomb[:6_000]}.AAAA", f"HF1.{bomb}.AAAA"):
        with pytest.raises(InvalidRequest):
            facts_of(word)


@pytest.mark.parametrize("name", ["Díaz", "Nguyễn", "Достоевский", "Παπαδόπουλος", "ღვინო", "Հակոբյան", "כהן"])
def test_letters_that_the_font_has_are_printed(name: str) -> None:
    """As they are: the page's text has them."""
    assert name == printable_text(name, has_glyph)
    lines = read_pages(pages([signed(facts(name), KEY)])).lines
    assert any(name in line or name[::-1] in line for line in lines), lines


@pytest.mark.parametrize(("name", "printed"), [("山田", "ShanTian"), ("محمد", "mhmd"), ("김", "Gim"), ("A山", "AShan")])
def test_other_letters_are_printed_in_latin_ones(name: str, printed: str) -> None:
    """And stand as they are in the code."""
    code = signed(facts(name), KEY)
    lines = read_pages(pages([code])).lines
    assert any(printed in line for line in lines), lines
    assert name == facts_of(code).surname


def test_pages_hold_their_codes_and_say_what_they_say() -> None:
    """Of a party of three over twelve segments: every line is there, on as many pages as it takes."""
    codes = [signed(facts(f"Díaz {letter}", "Ana", 12), KEY) for letter in "ABC"]
    found = read_pages(pages(codes))
    assert codes == found.codes and [] == differences(found)
    said = "\n".join(found.lines)
    assert all(line.text in said for line in all_lines(facts("Díaz C", "Ana", 12), has_glyph))
    assert [] == differences(read_pages(saved_again(pages(codes)))), "saved by another program"


def saved_again(data: bytes) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    for page in writer.pages:
        page.compress_content_streams()
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_an_altered_page_is_found_line_by_line() -> None:
    """The codes of one ticket under the pages of another: each line that differs is named, with what was signed."""
    code, other = signed(facts("Díaz"), KEY), signed(facts("Byron"), KEY)
    page, others = read_pages(pages([code])), read_pages(pages([other]))
    wrong = differences(replace(others, codes=[code]))
    assert any("Byron/Ana" in line and "does not" in line for line in wrong) and any("Díaz/Ana" in line for line in wrong)
    assert differences(replace(read_pages(pages([code, other])), codes=[code])), "a page too many"
    assert differences(replace(page, codes=[code, other])), "a page too few"


def test_another_qr_code_on_the_page_is_found() -> None:
    """The text is right, and a scanner would read another ticket; or something was drawn or laid over the page."""
    code, other = signed(facts("Díaz"), KEY), signed(facts("Byron"), KEY)
    page = read_pages(pages([code]))
    assert ["page 1: the QR code or another drawing is not the one that its code makes"] == differences(
        replace(page, drawings=read_pages(pages([other])).drawings)
    )
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pages([code]))))
    writer.add_annotation(0, FreeText(text="Seat 1A", rect=(50, 550, 200, 650)))
    out = io.BytesIO()
    writer.write(out)
    assert ["page 1: something was laid over it, a note or a form field"] == differences(read_pages(out.getvalue()))


@pytest.mark.parametrize("segments", [1, 12])
def test_a_scanner_reads_the_code_from_the_page(segments: int) -> None:
    """From the page as it is printed, by another program than drew it: exactly the code."""
    code = signed(facts("Díaz Достоевский", "山田", segments), KEY)
    page = pypdfium2.PdfDocument(pages([code]))[0].render(scale=2).to_pil()
    assert [code] == [found.text for found in zxingcpp.read_barcodes(page)]


@settings(max_examples=20, deadline=None)
@given(st.data())
def test_damaged_files_are_named_errors_or_differ(data: st.DataObject) -> None:
    """No byte of a file makes the reader fail in another way."""
    content = bytearray(pages([signed(facts(), KEY)]))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        differences(read_pages(bytes(content)))
    except HoldfastError as error:
        assert error.detail
