"""What the commands share: which cluster is meant, the client for it, and how results and errors are shown.

Results go to stdout, everything else to stderr. With --json a command writes exactly one JSON document to stdout, an
error's seven fields too. Heavy modules are imported where they are used: `--help` must not wait for RPyC.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client import exit_codes
from client.folders import Folders
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest
from datastore.model import Money

if TYPE_CHECKING:
    from rich.console import Console

    from client import api
    from client.config import ClientConfig
    from client.wallet import Wallet
    from datastore.edge import Tls
    from datastore.messages import Answer

PIPE_WIDTH = 200  # Of tables when nobody's terminal says how wide it is: lines that a script can read whole.


@dataclass
class Session:
    """One run of a command: what it was told, and what follows from that.

    Attributes:
        config, data: As given; None finds them (see `config_file` and `folders`).
        timeout_s: How long one question to the cluster may take; 0 is what the configuration says.
        run: Runs a command from its words, as a shell would; None where the session is no command's.
    """

    config: Path | None = None
    profile: str = "default"
    data: Path | None = None
    timeout_s: float = 0
    run: Callable[[Sequence[str]], int] | None = None

    @cached_property
    def config_file(self) -> Path:
        """Return the cluster.toml: the one named, else the one here, else the one that ships.

        Raises:
            ConfigInvalid: There is none.
        """
        if self.config is not None:
            if not self.config.is_file():
                reason = f"there is no file {self.config}"
                raise ConfigInvalid(reason, file=str(self.config), key="-", reason=reason)
            return self.config
        shipped = Path(__file__).resolve().parent.parent / "cluster.toml"
        installed = Path(sys.prefix) / "share" / "holdfast" / "cluster.toml"
        for path in (Path("cluster.toml"), shipped, installed):
            if path.exists():
                return path
        reason = "no cluster.toml here; name one with --config FILE or HOLDFAST_CONFIG"
        raise ConfigInvalid(reason, file="cluster.toml", key="-", reason=reason)

    @cached_property
    def folders(self) -> Folders:
        """Return the data folder: the one named, else the configuration's."""
        if self.data is not None:
            return Folders(self.data)
        from client import config
        from client.cluster import read_config

        settings = config.from_toml(read_config(self.config_file, self.profile), str(self.config_file))
        return Folders(self.config_file.resolve().parent / settings.data)

    @cached_property
    def mapping(self) -> Mapping[str, Any]:
        """Return the configuration of the cluster that runs, as it was resolved when it started, else the file's."""
        from client import profiles
        from client.cluster import read_config

        if self.config is not None:
            _ = self.config_file  # One that was named must be there, also where that of the cluster that runs is read.
        if not self.folders.config.exists():
            return read_config(self.config_file, self.profile)
        if self.profile != profiles.DEFAULT and self.config_file.resolve() != self.folders.config.resolve():
            read_config(self.config_file, self.profile)  # A slip in its name is told, though the cluster that runs has its own.
        return read_config(self.folders.config)

    def run_again(self, words: Sequence[str]) -> int:
        """Run another command from within this one, for the same cluster; return its exit code."""
        assert self.run is not None, "only a command runs another"
        files = [("--config", self.config), ("--data", self.data), ("--timeout", self.timeout_s or None), ("--profile", self.profile)]
        return self.run([*(word for name, value in files if value is not None for word in (name, str(value))), *words])

    def reread(self) -> None:
        """Forget what was read of the configuration: it has changed, or may have."""
        for name in ("mapping", "settings"):
            self.__dict__.pop(name, None)

    @cached_property
    def settings(self) -> ClientConfig:
        from client import config

        return config.from_toml(self.mapping, str(self.config_file))

    @cached_property
    def wallet(self) -> Wallet:
        from client import wallet

        addresses = [str(address) for address in self.balancers()]
        return wallet.Wallet(wallet.home(os.environ), wallet.cluster_name(self.settings.cluster, addresses))

    def connect(self, *, deadline_ms: int = 0) -> api.Holdfast:
        """Return the client of this owner."""
        from client import api

        if self.timeout_s:
            deadline_ms = max(10, round(self.timeout_s * 1000))
        deadline_ms = deadline_ms or self.settings.call_ms
        made = api.connect(self.balancers(), owner_key=self.wallet.owner_key(), deadline_ms=deadline_ms, tls=self._tls())
        # The next command is another process, and may ask another balancer: it sees what this one did all the same.
        made.written.update(self.wallet.written())
        made.on_written = self.wallet.note_written
        return made

    def wait_listed(self, codes: Sequence[str]) -> None:
        """Wait until every balancer lists operators that were just made; tell which one does not in time.

        Whoever asks next must find them, whichever balancer answers.
        """
        from client import loading

        for code in codes:
            late = loading.not_seen_by(self.balancers(), code, self._tls())
            if late:
                tell(f"{code} is not listed yet by {', '.join(late)}: it will be as soon as that balancer answers and hears of it")

    def _tls(self) -> Tls | None:
        from client.certificates import caller_tls

        return caller_tls(self.mapping, self.folders.data, str(self.config_file))

    def balancers(self) -> list[api.Address]:
        """Return the addresses of the balancers, as asked for or configured.

        Raises:
            InvalidRequest: A data folder is named in which no cluster was ever started: that of the cluster.toml here is not meant.
        """
        from client.addresses import balancers_of

        if self.data is not None and self.config is None and not self.folders.config.exists():
            reason = f"no cluster was started with the data folder {self.data}; for one elsewhere name its --config FILE too"
            raise InvalidRequest(reason, field="data")
        rows = self.mapping.get("loadbalancer", {}).get("balancer", [])
        return balancers_of([f"{row.get('host', '127.0.0.1')}:{row.get('port', '')}" for row in rows])

    def console(self) -> Console:
        """Return the console for results."""
        from rich.console import Console

        colour = self.settings.colour
        width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
        return Console(
            width=width,
            highlight=False,
            soft_wrap=False,
            force_terminal=True if colour == "always" else None,
            no_color=True if colour == "never" else None,
        )

    def print_json(self, value: object) -> None:
        """Write one JSON document to stdout."""
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")

    def done(self, answer: Answer | None = None) -> int:
        """Return the exit code of an answer; says on stderr what part of it is missing."""
        partial = dict(answer.partial) if answer is not None else {}
        for part, reason in partial.items():
            tell(f"incomplete: {part}: {reason.removeprefix(f'{part}: ')}")  # A reason may name its operator too.
        return exit_codes.PARTIAL if partial else exit_codes.DONE


def tell(message: str) -> None:
    """Write a message for people to stderr; where nobody can be told any more, what is done goes on.

    A closed terminal answers every write with an error, and a cluster must be stopped all the same.
    """
    with contextlib.suppress(OSError):
        print(message, file=sys.stderr, flush=True)


def show_error(error: HoldfastError, *, as_json: bool) -> int:
    """Show an error; return its exit code."""
    if as_json:
        import msgspec

        sys.stdout.write(msgspec.json.format(msgspec.json.encode(_writable(error.to_data())), indent=2).decode() + "\n")
    else:
        tell(f"error: {error.detail}")
        for line in hints(error):
            tell(f"hint: {line}")
    return exit_codes.exit_code(error.code)


def _writable(value: Any) -> Any:
    """Return plain data with its lone surrogates escaped: an error quotes what was typed, which may be no Unicode."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {_writable(key): _writable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_writable(item) for item in value]
    return value


def hints(error: HoldfastError) -> list[str]:
    """Return what the user may do about an error."""
    lines: list[str] = []
    near = error.fields.get("nearest")
    words = [str(word) for word in ([near] if isinstance(near, str) else list(near or ())) if word]
    if words and words[0] not in error.detail:
        lines.append(f"did you mean {' or '.join(words)}?")
    if error.maybe_committed and error.request_id:
        lines.append(f"it may have happened; the same command with --request-id {error.request_id} asks again without doing it twice")
    elif error.code == "node_unreachable" and "start" in error.fields:
        lines.append(f"start it with: {error.fields['start']}")
    elif error.code == "node_unreachable" and "logs" in error.fields:
        lines.append(f"its logs say why: {error.fields['logs']}")
    elif error.code == "node_unreachable":
        lines.append("is the cluster running? look with: holdfast cluster status, start it with: ./start-cluster")
    elif error.code in ("seat_unavailable", "no_adjacent_block"):
        lines.append(f"see what is left with: holdfast seats {error.fields.get('service_id') or 'SERVICE'}")
    elif error.code == "price_changed" and "kept_as" in error.fields:
        now = error.fields.get("now") or {}
        price = f", {Money(int(now['minor']), str(now['currency']))}," if "minor" in now else ""
        lines.append(f"the new offer{price} is kept in its place: holdfast hold --offer {error.fields['kept_as']} takes it")
    elif error.code == "hold_expired":
        again = f" with: holdfast renew {error.fields['hold_id']}" if error.fields.get("hold_id") else ""
        lines.append(f"its seats are for sale again; take them again, if they are still free,{again}" if again else "hold the seats anew")
    elif error.retryable and error.code != "start_failed":
        lines.append("nothing was changed; trying again may help")
    return lines
