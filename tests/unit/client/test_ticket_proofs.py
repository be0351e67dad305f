"""Tickets read and judged where there is no cluster: files, codes, keys; what is wrong is said, and nothing is replaced."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pypdf import PdfReader, PdfWriter

from client.commands_tickets import judge, read
from client.ticket_files import write_pdf
from client.ticket_pages import pages
from datastore import messages
from datastore.errors import ConfigInvalid, InvalidRequest
from datastore.ticket_codes import signed
from tests.unit.client.test_ticket_pages import KEY, OTHER, facts


def pem_of(key: object) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    file = tmp_path / "AR.pem"
    file.write_bytes(pem_of(KEY))
    return file


def test_a_code_is_read_from_pages_from_a_file_and_as_it_is(tmp_path: Path, key: Path) -> None:
    """Each gives the same code, and nothing is wrong with it."""
    code = signed(facts(), KEY)
    (tmp_path / "ticket.pdf").write_bytes(pages([code]))
    (tmp_path / "scanned.txt").write_text(f"{code}\n", encoding="ascii")
    for what in (code, str(tmp_path / "ticket.pdf"), str(tmp_path / "scanned.txt")):
        assert ([code], []) == read(what)
    document = judge(code, tmp_path, key)
    assert [] == document["wrong"] and ("Díaz", "K7Q2MX", "AR") == tuple(document[name] for name in ("surname", "reference", "operator"))


def test_what_was_altered_or_forged_says_so(tmp_path: Path, key: Path) -> None:
    """Another signature, another's content under a signature, a part cut off."""
    code, other = signed(facts("Díaz"), KEY), signed(facts("Byron"), KEY)
    mixed = f"{code.rpartition('.')[0]}.{other.rpartition('.')[2]}"
    for text in (signed(facts(), OTHER), mixed):
        assert any("not signed with the key of AR" in reason for reason in judge(text, tmp_path, key)["wrong"]), text
    for text in (code[:-9], "HF1.AAAA.BBBB", f"HF1.{code[4:40]}"):
        assert judge(text, tmp_path, key)["wrong"], text


def test_pages_under_the_codes_of_others_say_so(tmp_path: Path) -> None:
    """What the eye reads is not what was signed; a code among them that is none is no crash."""
    code, other = signed(facts("Díaz"), KEY), signed(facts("Byron"), KEY)
    for words, expected in ((other, 'says "'), ("HF1.AAAA.BBBB", "code")):
        writer = PdfWriter(clone_from=PdfReader(_file(tmp_path / "ticket.pdf", pages([code]))))
        writer.add_metadata({"/Keywords": words})
        writer.write(tmp_path / "swapped.pdf")
        codes, wrong = read(str(tmp_path / "swapped.pdf"))
        assert [words] == codes and any(expected in reason for reason in wrong), wrong


def _file(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_input_that_is_no_ticket_names_what_it_is(tmp_path: Path, key: Path) -> None:
    """A missing file, another text, a PDF without a code, a key of another kind or none."""
    with pytest.raises(ConfigInvalid, match="no such file"):
        read(str(tmp_path / "missing.pdf"))
    blank = PdfWriter()
    blank.add_blank_page(100, 100)
    blank.write(tmp_path / "blank.pdf")
    with pytest.raises(InvalidRequest, match="no ticket's code"):
        read(str(tmp_path / "blank.pdf"))
    with pytest.raises(InvalidRequest, match="no ticket's code"):
        judge("Ada Byron, seat 12A", tmp_path, key)
    for content, said in ((b"no key", "PEM"), (pem_of(generate_private_key(SECP256R1())), "Ed25519")):
        with pytest.raises(ConfigInvalid, match=said):
            judge(signed(facts(), KEY), tmp_path, _file(tmp_path / "other.pem", content))
    with pytest.raises(ConfigInvalid, match="no such file"):
        judge(signed(facts(), KEY), tmp_path, tmp_path / "none.pem")


class Cashdesk:
    """Answers as the cluster does, with one ticket; the key may be another one tomorrow."""

    def __init__(self, public_key: str) -> None:
        self.public_key = public_key

    def tickets(self, reference: str, token: str) -> messages.TicketsAnswer:
        one = messages.SignedTicket("0440000000012", signed(facts(), KEY))
        return messages.TicketsAnswer(reference=reference, operator="AR", tickets=[one], public_key=self.public_key)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A wallet's folder, worked in."""
    folder = Path.cwd()
    os.chdir(tmp_path)
    yield tmp_path
    os.chdir(folder)


def test_no_file_and_no_key_is_replaced(home: Path) -> None:
    """Tickets made again get a name of their own; a key that differs from the kept one is refused, and the kept one stays."""
    desk = Cashdesk(pem_of(KEY).decode())
    assert ["K7Q2MX.pdf", "K7Q2MX-2.pdf"] == [write_pdf(desk, home, "K7Q2MX", "token")[0].name for _ in range(2)]
    assert 0 == (home / "K7Q2MX.pdf").stat().st_mode & 0o077, "it names people"
    (home / "mine.pdf").write_bytes(b"mine")
    with pytest.raises(ConfigInvalid, match="is there already"):
        write_pdf(desk, home, "K7Q2MX", "token", home / "mine.pdf")
    assert b"mine" == (home / "mine.pdf").read_bytes()
    assert [] == judge(signed(facts(), KEY), home)["wrong"], "by the key that was kept"
    desk.public_key = pem_of(OTHER).decode()
    with pytest.raises(ConfigInvalid, match="another key of AR"):
        write_pdf(desk, home, "K7Q2MX", "token")
    assert not (home / "K7Q2MX-3.pdf").exists() and [] == judge(signed(facts(), KEY), home)["wrong"]
