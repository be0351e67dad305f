"""Broken rules of membership (R14, R15, R16, I13)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from datastore import replication
from datastore.configuration import ADD_VOTER, REMOVE_VOTER, ConfigChange
from datastore.replication import Replica
from datastore.rows import ConfigRow
from tests.simulation.cluster import Parts
from tests.simulation.faults import mutation, replaced
from tests.simulation.faults_replication import with_machine


@mutation("voters are exchanged in one step", "R15", "reshape", quick=True)
def _jumps(_: Parts, stack: ExitStack) -> None:
    whole = replication.changed

    def changed(config: ConfigRow, change: ConfigChange) -> ConfigRow | str:
        found = whole(config, change)
        if change.kind == ADD_VOTER and isinstance(found, ConfigRow) and len(config.voters) > 1:
            gone = sorted(config.voters)[0]
            voters = {uuid: node for uuid, node in found.voters.items() if uuid != gone}
            return ConfigRow(voters, found.learners, [*found.retired, gone])
        return found

    stack.enter_context(replaced(replication, "changed", changed))


@mutation("a primary removes itself", "R15", "reshape", quick=True)
def _removes_itself(parts: Parts, stack: ExitStack) -> None:
    class Leaves(Replica):
        def _why_not_configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> str:
            reason = super()._why_not_configure(change, config_lsn, now_ms)
            return "" if "removes itself" in reason else reason

        def configure(self, change: ConfigChange, config_lsn: int, now_ms: int) -> Any:
            if change.kind == REMOVE_VOTER and len(self.config.voters) > 1:
                change = change._replace(store_uuid=self.store_uuid)
            return super().configure(change, config_lsn, now_ms)

    with_machine(parts, Leaves)
