"""`holdfast ticket`: a booking's tickets as PDF, the keys that prove them, and the proof, which needs no cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from client import completion, exit_codes, wallet
from client.commands_looking import Json
from client.commands_selling import Reference, reference_of
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, InvalidRequest

CODE_PREFIX = "HF1."  # `datastore.ticket_codes`
CODE_FILE_BYTES_MAX = 100_000
ticket = typer.Typer(name="ticket", help="Tickets as PDF, and the proof that they are genuine.", no_args_is_help=True)
OperatorCode = Annotated[
    str, typer.Argument(metavar="OPERATOR", help="Whose tickets are to be proved.", autocompletion=completion.operators)
]


def register(app: typer.Typer) -> None:
    """Add the group to the application."""
    app.add_typer(ticket, rich_help_panel="Travel")


@ticket.command("pdf")
def pdf(
    context: typer.Context,
    reference: Reference,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; REF.pdf by default. None is replaced.")] = None,
    token: Annotated[str, typer.Option("--token", help="The manage token, where it is not kept here.")] = "",
    json: Json = False,
) -> int:
    """Write a booking's tickets to a PDF, a page for each passenger, with a code that proves them."""
    from client import ticket_files

    session: Session = context.obj
    reference = reference_of(session, reference)
    used = token or session.wallet.token(reference)
    if not used:
        raise InvalidRequest(f"the manage token of {reference} is not kept here: add --token TOKEN", field="token")
    with session.connect() as client:
        file, answer = ticket_files.write_pdf(client, session.wallet.folder, reference, used, out)
    numbers = [one.number for one in answer.tickets]
    if json:
        codes = [one.code for one in answer.tickets]
        session.print_json({"reference": reference, "operator": answer.operator, "file": str(file), "tickets": numbers, "codes": codes})
    else:
        session.console().print(f"{file}: {', '.join(numbers)}", soft_wrap=True)
        tell(f"prove it, with no cluster, with: holdfast ticket verify {file}")
    return session.done(answer)


@ticket.command("key")
def key(
    context: typer.Context,
    operator: OperatorCode,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="A file for it; else it is printed.")] = None,
    json: Json = False,
) -> int:
    """Export an operator's public key: with it tickets are proved where there is no cluster. It is kept here too."""
    from client import ticket_files

    session: Session = context.obj
    code = operator.upper()
    with session.connect() as client:
        pem = client.ticket_key(code)
    kept = ticket_files.keep_key(session.wallet.folder, code, pem)
    if out is not None:
        out.write_text(pem, encoding="ascii")
    if json:
        session.print_json({"operator": code, "public_key": pem, "file": str(out or kept)})
    elif out is None:
        session.console().print(pem.strip(), soft_wrap=True)
    else:
        session.console().print(f"{out}: the public key of {code}'s tickets", soft_wrap=True)
    return exit_codes.DONE


@ticket.command("verify")
def verify(
    context: typer.Context,
    what: Annotated[str, typer.Argument(metavar="FILE|CODE", help="A PDF ticket, a file with a code, or the text of a QR code.")],
    key_file: Annotated[Path | None, typer.Option("--key", help="The operator's public key; by default the one kept here.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Also ask the cluster whether the ticket still stands.")] = False,
    json: Json = False,
) -> int:
    """Prove a ticket without any cluster: signed by its operator, and the page shows what was signed.

    Exit code 9 says that it is not genuine; with --online, 6 says that it is, and stands no longer.
    """
    session: Session = context.obj
    codes, wrong = read(what)
    documents = [judge(code, wallet.home(os.environ), key_file) for code in codes]
    wrong = [reason for document in documents for reason in document["wrong"]] or wrong
    verdict = "altered" if wrong else "genuine"
    if online and not wrong:
        with session.connect() as client:
            for code, document in zip(codes, documents, strict=True):
                standing = client.check_ticket(code)
                document |= {"state": standing.state, "wrong": [f"ticket {standing.number}: {reason}" for reason in standing.wrong]}
        wrong = [reason for document in documents for reason in document["wrong"]]
        verdict = "outdated" if wrong else "valid"
    if json:
        session.print_json({"verdict": verdict, "wrong": wrong, "tickets": documents})
    else:
        show(session, documents, wrong, verdict)
    return {"altered": exit_codes.DAMAGED, "outdated": exit_codes.DECLINED}.get(verdict, exit_codes.DONE)


def read(what: str) -> tuple[list[str], list[str]]:
    """Return the codes of a PDF, of a file with a code, or the code itself; and what the pages of a PDF show otherwise than they.

    Raises:
        InvalidRequest: There is none. ConfigInvalid: No such file.
    """
    if what.startswith(CODE_PREFIX):
        return [what], []
    path = Path(what)
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ConfigInvalid(f"{path}: no such file, and no ticket's code", file=str(path), key="-", reason="not found") from error
    if data.startswith(b"%PDF"):
        from client.ticket_pages import differences, read_pages

        found = read_pages(data)
        try:
            return found.codes, differences(found)
        except InvalidRequest as error:
            return found.codes, [error.detail]  # A code in it is none: `judge` says which.
    return [data[:CODE_FILE_BYTES_MAX].decode("ascii", "replace").strip()], []


def judge(code: str, home: Path, key_file: Path | None = None) -> dict[str, Any]:
    """Return what a code says, and what is wrong with it: [] is nothing.

    Args:
        home: The wallet's folder, where keys are kept; `key_file` is used instead where it is given.

    Raises:
        InvalidRequest: It is no ticket's code. ConfigInvalid: The operator's key is not here.
    """
    import msgspec

    from client import ticket_files
    from datastore import ticket_codes

    try:
        facts = ticket_codes.facts_of(code)
    except InvalidRequest as error:
        if not code.startswith(CODE_PREFIX):
            raise
        return {"wrong": [error.detail]}
    said: dict[str, Any] = {name: getattr(facts, name) for name in facts.__struct_fields__}
    said["segments"] = [{name: getattr(one, name) for name in one.__struct_fields__} for one in facts.segments]
    document: dict[str, Any] = msgspec.to_builtins(said)
    try:
        genuine = ticket_codes.is_genuine(code, ticket_files.public_key(home, facts.operator, key_file))
    except InvalidRequest as error:
        return {**document, "wrong": [error.detail]}
    why = f"what it says was not signed with the key of {facts.operator}: altered after it was issued, or forged"
    return {**document, "wrong": [] if genuine else [f"ticket {facts.number}: {why}"]}


VERDICTS = {
    "altered": "altered or forged: not to be accepted",
    "outdated": "genuine, and stands no longer as it says",
    "genuine": "genuine: signed by its operator. Whether it still stands, the cluster says: --online",
    "valid": "genuine, and stands as it says",
}


def show(session: Session, documents: list[dict[str, Any]], wrong: list[str], verdict: str) -> None:
    """Print a verdict."""
    from rich.markup import escape

    def shown(text: str) -> str:
        return escape("".join(letter if letter.isprintable() else "?" for letter in text))  # A forged code may hold anything.

    console = session.console()
    for document in documents:
        if "number" not in document:
            continue
        name = f"{document['surname']}/{document['given']}, {document['type']}"
        console.print(shown(f"{document['number']}-{document['check_digit']}  {name}, booking {document['reference']}"), soft_wrap=True)
        for one in document["segments"]:
            when = one["departs"].replace("T", " ")
            console.print(shown(f"  coupon {one['coupon']}: {one['service_id']}, seat {one['seat']}, {when}"), soft_wrap=True)
    for reason in wrong:
        tell(reason)
    console.print(VERDICTS[verdict], soft_wrap=True)
