"""The table of exit codes: complete, and only the documented numbers."""

import importlib
import pkgutil

import client
import datastore
import loadbalancer
import manager
from client import exit_codes
from datastore.errors import type_of_code
from lockstore.errors import LockError

# An error is known once its module is imported, and some stand beside the code that raises them.
for package in (datastore, manager, loadbalancer, client):
    for found in pkgutil.iter_modules(package.__path__):
        if found.name != "__main__":
            importlib.import_module(f"{package.__name__}.{found.name}")


def test_every_error_code_of_the_wire_has_an_exit_code() -> None:
    """Whoever adds an error decides how a script sees it."""
    assert {"start_failed", "ledger_damaged", "seat_unavailable"} <= set(type_of_code)
    assert set() == {"internal", *type_of_code} - set(exit_codes.EXIT_CODES)


def test_no_exit_code_is_kept_for_an_error_that_is_gone() -> None:
    """A stale line would hide a misspelt one."""
    assert set() == set(exit_codes.EXIT_CODES) - {"internal", *type_of_code}


def test_only_documented_exit_codes_are_used() -> None:
    """0 is no error, 1 is Python's own for a fault, 8 is for answers, not errors."""
    assert {2, 3, 4, 5, 6, 7} == set(exit_codes.EXIT_CODES.values())


def test_an_unknown_code_is_the_clusters_trouble() -> None:
    """A newer cluster may send a code that this client does not know."""
    assert exit_codes.NO_ANSWER == exit_codes.exit_code("from_the_future")
    assert exit_codes.NO_ANSWER == exit_codes.exit_code(LockError.code)
