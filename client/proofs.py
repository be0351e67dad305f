"""Proving ledgers from the command line: the copies on this disk, by a process of the nodes' program; or a live cluster's, by pages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from client import auditing, keys
from client.api import Holdfast
from client.terminal import Session
from datastore import messages
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest, nearest
from datastore.ledger import LedgerDamaged
from datastore.proving import CopyProof, Prover, as_document, damaged, judge
from datastore.receipts import Receipt, from_file, parse

PROOF_S = 3_600


def receipt_named(session: Session, word: str) -> Receipt:
    """Return the receipt of a word: a file that has it, a booking kept here, or the receipt itself.

    Raises:
        InvalidRequest: It is none of these.
    """
    path = Path(word)
    if ":" in word and not path.exists():
        return parse(word)
    if path.is_file():
        try:
            return from_file(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"{path} is no text: {error}", field="receipt") from error
    kept = {order.reference: order.receipt for order in session.wallet.orders()}
    found = kept.get(word.upper(), "")
    if found:
        return parse(found)
    if word.upper() in kept:
        raise InvalidRequest(f"no receipt of {word.upper()} is kept here: get it with holdfast order {word.upper()}", field="receipt")
    near = nearest(word, kept)
    raise InvalidRequest(
        f"{word} is no file, and no booking {word.upper()} is kept here{f'; did you mean {near[0]}?' if near else ''}",
        field="receipt",
        nearest=near,
    )


def on_this_disk(session: Session, operators: Sequence[str], receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return what every copy in the data folder proves (`datastore.proving.as_document`).

    Raises:
        ConfigInvalid: The program could not look at all.
    """
    words = [word for operator in operators for word in ("--operator", operator)]
    words += [word for receipt in receipts for word in ("--receipt", str(receipt))]
    command = [sys.executable, "-m", "datastore", "verify", "--data", str(session.folders.data), *words]
    done = subprocess.run(command, capture_output=True, timeout=PROOF_S, check=False)
    try:
        return msgspec.json.decode(done.stdout, type=dict[str, Any])
    except msgspec.DecodeError as error:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no answer"]
        raise ConfigInvalid(f"{session.folders.data}: {reason[0]}", file=str(session.folders.data), key="-", reason=reason[0]) from error


def stores_here(session: Session) -> bool:
    """Return whether the data folder has copies at all."""
    return any(session.folders.data.glob("*/partitions/*.sqlite"))


def live(session: Session, client: Holdfast, operators: Sequence[str], receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return what the ledgers of a running cluster prove, read through its balancers; needs the administrator's key."""
    admin_key = keys.admin_key(session.folders)
    codes = list(operators) or sorted(operator.code for operator in client.operators())
    copies: list[CopyProof] = []
    missing: list[str] = []
    for code in codes:
        prover = Prover(code, [receipt for receipt in receipts if receipt.operator == code])
        found = []
        try:
            for page in auditing.ledger_pages(client.call, admin_key, code):
                prover.take(page)
        except LedgerDamaged as error:
            found.append(damaged(code, error, "its ledger"))
        except HoldfastError as error:
            missing.append(f"{code}: {error.detail}")
        proof = prover.proof()
        proof.applied_lsn, proof.damage = proof.last_lsn, found
        copies.append(proof)
    return as_document(judge(copies, [], receipts, missing), copies)


def receipts_live(client: Holdfast, receipts: Sequence[Receipt]) -> dict[str, Any]:
    """Return what the operators' primaries say of receipts: whoever has one may ask, no key is needed."""
    verdicts: dict[str, str] = {}
    for receipt in receipts:
        request = messages.CheckReceipt(receipt=str(receipt), deadline_ms=client.deadline_ms)
        answer = auditing.patiently(client.call, "receipt", request)
        assert isinstance(answer, messages.ReceiptAnswer)
        verdicts[str(receipt)] = "; ".join(answer.differences) or "proved"
    findings = [f"receipt {word}: {why}" for word, why in verdicts.items() if why != "proved"]
    state = "damaged" if findings else "proved"
    return {"state": state, "findings": findings, "missing": [], "receipts": verdicts, "copies": []}
