"""Trouble that the payment sandbox is told to make, as docs/payments.md has it."""

from __future__ import annotations

import http.client
from urllib.parse import urlencode

from client import keys
from client.folders import Folders
from client.plan import ClusterPlan

SANDBOX_NAME = "payments-1"
PATIENT_S = 30


def plan_trouble(plan: ClusterPlan, folders: Folders, **fields: str) -> None:
    """Have the sandbox do what the fields say: `on`, `kind`, `count`, `delay_ms`; kind "none" ends it."""
    process, key = plan.process(SANDBOX_NAME), keys.read_secret(folders.sandbox_key)
    connection = http.client.HTTPConnection(process.host, process.port, timeout=PATIENT_S)
    try:
        connection.request("POST", "/v1/sandbox/faults", urlencode(fields), {"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        assert answer.status == http.client.OK, answer.read()[:500]
    finally:
        connection.close()
