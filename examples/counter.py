"""A replicated counter: the smallest thing that Holdfast keeps, and how to change it exactly once.

    python examples/counter.py add 3
    python examples/counter.py show

Run it beside a cluster started with ./start-cluster. The number lives in one operator's partition: on the disks of a
majority of its nodes before the answer comes, and in the ledger for good. Kill the operator's primary while this runs:
the question is asked again under the same request id, and whichever node answers, the sum grows by what was asked, once.

How a command travels: `Count` in datastore/messages_operating.py is the question, `wire.Count` the command below the
balancer, `count` in datastore/operating.py decides, `Kind.COUNTER` in datastore/rows.py is the row that replicas store.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from client import api, keys
from client.terminal import Session, show_error
from datastore.errors import HoldfastError

app = typer.Typer(help="Add to a replicated counter, exactly once.", no_args_is_help=True)
Operator = Annotated[str, typer.Option("--operator", help="In whose partition.")]
Name = Annotated[str, typer.Option("--name", help="The counter: a-z, 0-9 and '-'.")]
Data = Annotated[Path | None, typer.Option("--data", help="The cluster's data folder.")]
RequestId = Annotated[str, typer.Option("--request-id", help="Ask again after a lost answer: it is added once.")]


@app.command()
def add(number: int, operator: Operator = "AR", name: Name = "example", data: Data = None, request_id: RequestId = "") -> None:
    """Add NUMBER (for a negative one: add -- -3) and show the sum."""
    session = Session(data=data)
    request_id = request_id or api.new_request_id()
    with session.connect() as client:
        answer = client.count(keys.operator_key(session.folders, operator), operator, name, number, request_id=request_id)
    print(f"{answer.counter} = {answer.value}, entry {answer.lsn} of {operator}; asked again with --request-id {request_id} it stays so")


@app.command()
def show(operator: Operator = "AR", name: Name = "example", data: Data = None) -> None:
    """Show the sum, as the primary has it now."""
    session = Session(data=data)
    with session.connect() as client:
        answer = client.count(keys.operator_key(session.folders, operator), operator, name, 0)
    print(f"{answer.counter} = {answer.value}")


if __name__ == "__main__":
    try:
        app()
    except HoldfastError as error:
        sys.exit(show_error(error, as_json=False))
