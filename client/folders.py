"""Where one cluster keeps what belongs to it: the layout of a data folder. Pure: names only, nothing is opened."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """The files below one data folder.

        .holdfast            says that the folder is a cluster's; --fresh deletes no other
        run/cluster.toml     the resolved configuration that all processes read
        run/NAME.pid         process id and start
        logs/NAME.log        what the process said
        secrets/, keys/      the administrator's key; one key an operator: all 0600
    """

    data: Path

    @property
    def mark(self) -> Path:
        return self.data / ".holdfast"

    @property
    def run(self) -> Path:
        return self.data / "run"

    @property
    def logs(self) -> Path:
        return self.data / "logs"

    @property
    def keys(self) -> Path:
        return self.data / "keys"

    @property
    def secrets(self) -> Path:
        return self.data / "secrets"

    @property
    def sandbox_key(self) -> Path:
        """The key that the payment sandbox wants to see."""
        return self.secrets / "payments.key"

    @property
    def config(self) -> Path:
        return self.run / "cluster.toml"

    @property
    def supervisor_lock(self) -> Path:
        return self.run / "supervisor.lock"

    def pid(self, name: str) -> Path:
        return self.run / f"{name}.pid"

    def log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def operator_key(self, code: str) -> Path:
        return self.keys / f"{code}.key"
