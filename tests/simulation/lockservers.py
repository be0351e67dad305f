"""A lock server: the production Lua scripts, run by a Lua interpreter over a simulated Redis, and who admits servers to the set.

The server is one sequential process with a dictionary; keys expire by its machine's wall clock, as they do in Redis and
Valkey, so a clock jump ends locks early or late. What it acknowledged survives a kill (`appendfsync always`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from lupa.lua51 import LuaRuntime

from lockstore import scripts
from lockstore.recovery import Standing, plan_admission, rejoin_counter, rejoin_wait_ms
from lockstore.redlock import quorum
from tests.simulation.world import Ask, Process, World

_TEXTS = {scripts.digest(text).encode(): text for text in vars(scripts).values() if isinstance(text, str) and "redis.call" in text}


Edits = tuple[tuple[str, str], ...]


def edited(text: str, edits: Edits) -> str:
    """Return a script with parts of it replaced; only mutations do that."""
    for old, new in edits:
        text = text.replace(old, new)
    return text


class Interpreter:
    """One Lua for all simulated servers: a script sees only `redis.call`, which acts on the server at work."""

    def __init__(self) -> None:
        # Redis has Lua 5.1, and strings there are bytes.
        self._lua = LuaRuntime(encoding=None, unpack_returned_tuples=False)
        self.server: LockServer | None = None
        redis = self._lua.table()
        redis[b"call"] = self._call
        self._lua.globals()[b"redis"] = redis
        self._functions: dict[tuple[Edits, bytes], Any] = {}

    def evaluate(self, server: LockServer, digest: bytes, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Run the script of that digest to its end, alone, as a server does."""
        function = self._functions.get((server.edits, digest))
        if function is None:
            body = edited(_TEXTS[digest], server.edits).encode()
            function = self._functions[server.edits, digest] = self._lua.eval(b"function(KEYS, ARGV) " + body + b"\nend")
        self.server = server
        found = function(self._lua.table(*keys), self._lua.table(*arguments))
        # A Redis reply to Lua's true is 1, to false nothing.
        return {True: 1, False: None}.get(found, found) if isinstance(found, bool) else found

    def _call(self, name: bytes, *arguments: Any) -> Any:
        assert self.server is not None
        # Lua numbers reach Redis as text.
        texts = [argument if isinstance(argument, bytes) else b"%.17g" % argument for argument in arguments]
        found = self.server.command(name.lower(), texts)
        if isinstance(found, list):
            return self._lua.table(*[False if one is None else one for one in found])
        return False if found is None else found


_interpreter = Interpreter()


class LockServer(Process):
    """One Redis. Everything in it is on its disk."""

    edits: Edits = ()

    def __init__(self, world: World, name: str) -> None:
        super().__init__(world, name)
        self._keys: dict[bytes, tuple[bytes, int | None]] = {}

    def forget(self) -> None:
        """It lost its data: keys, counter and marker."""
        self.tell("loses its data")
        self._keys = {}

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        if method == "standing":
            marker, counter = self._get(scripts.MARKER_KEY.encode()), self._get(scripts.FENCE_KEY.encode())
            answer(Standing(self.name, marker=None if marker is None else int(marker), counter=None if counter is None else int(counter)))
            return
        digest, keys, arguments = opened(payload)
        answer(_interpreter.evaluate(self, digest, keys, arguments))

    @property
    def counter(self) -> int:
        """The fence counter, -1 for none."""
        return int(self._get(scripts.FENCE_KEY.encode()) or b"-1")

    def holds(self, packed: bytes) -> bool:
        """Return whether the keys that a script of one lock names are held here under the nonce that it names."""
        _, keys, arguments = opened(packed)
        return all(self._get(key) == arguments[1] for key in keys[2:])

    def command(self, name: bytes, arguments: list[bytes]) -> Any:
        """Carry out what a script calls; only what our scripts use is there.

        Raises:
            NotImplementedError: A script uses more: add it here, as the server's documentation says.
        """
        match name, arguments:
            case b"get", [key]:
                return self._get(key)
            case b"mget", keys:
                return [self._get(key) for key in keys]
            case b"exists", keys:
                return sum(self._get(key) is not None for key in keys)
            case b"del", keys:
                gone = sum(self._get(key) is not None for key in keys)
                for key in keys:
                    self._keys.pop(key, None)
                return gone
            case b"pexpire", [key, ttl_ms]:
                value = self._get(key)
                if value is None:
                    return 0
                self._keys[key] = (value, self.wall_ms() + int(ttl_ms))
                return 1
            case b"set", [key, value, *options]:
                return self._set(key, value, options)
            case b"mset", pairs:
                for key, value in zip(pairs[::2], pairs[1::2], strict=True):
                    self._keys[key] = (value, None)
                return b"OK"
            case b"incrby", [key, step]:
                value = b"%d" % (int(self._get(key) or b"0") + int(step))
                self._keys[key] = (value, None)
                return int(value)
        raise NotImplementedError(f"the simulated lock server has no {name!r} {arguments!r}")

    def _get(self, key: bytes) -> bytes | None:
        found = self._keys.get(key)
        if found is None:
            return None
        value, expires_ms = found
        if expires_ms is not None and self.wall_ms() >= expires_ms:
            del self._keys[key]
            return None
        return value

    def _set(self, key: bytes, value: bytes, options: list[bytes]) -> Any:
        words = [option.upper() for option in options]
        if b"NX" in words and self._get(key) is not None:
            return None
        ttl_ms = int(words[words.index(b"PX") + 1]) if b"PX" in words else None
        self._keys[key] = (value, None if ttl_ms is None else self.wall_ms() + ttl_ms)
        return b"OK"


@lru_cache(maxsize=256)  # The same text goes to every server.
def opened(packed: bytes) -> tuple[bytes, tuple[bytes, ...], tuple[bytes, ...]]:
    """Return digest, keys and arguments of a packed EVALSHA, as a server reads it from its socket."""
    parts: list[bytes] = []
    at = packed.index(b"\r\n") + 2
    while at < len(packed):
        end = packed.index(b"\r\n", at)
        size = int(packed[at + 1 : end])
        parts.append(packed[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    count = int(parts[2])
    return parts[1], tuple(parts[3 : 3 + count]), tuple(parts[3 + count :])


class Administrator(Process):
    """Admits lock servers to their set, as `lockstore.admission` does, after every start and every loss of data."""

    def __init__(self, world: World, name: str, servers: Sequence[str], ttl_max_ms: int, timeout_ms: int) -> None:
        super().__init__(world, name)
        self._servers = list(servers)
        self._ttl_max_ms = ttl_max_ms
        self._timeout_ms = timeout_ms

    rejoin_waits = True
    rejoin_peers_all = True

    def boot(self) -> None:
        self.run(self._forever)

    def _forever(self) -> None:
        while True:
            self._initialise()
            self.sleep(500)

    def _initialise(self) -> None:
        needed = quorum(len(self._servers))
        plan = plan_admission(self._standings(self._servers), 1, needed)
        if plan.blocked:
            return
        for name in plan.found:
            if not self._admit(name, 0, ""):
                return
        for name in plan.admit:
            if not self._admit(name, 0, "1"):
                return
        for name in plan.rejoin:
            self._rejoin(name, needed)

    def _rejoin(self, name: str, needed: int) -> None:
        """PROTOCOL 2.3: see it empty, wait until every older attempt has given up, then read the peers."""
        if self.rejoin_waits:
            self.sleep(rejoin_wait_ms(self._ttl_max_ms))
        (found,) = self._standings([name])
        if not found.reachable or found.marker is not None:
            return
        standings = self._standings([server for server in self._servers if server != name])
        counters = [peer.counter for peer in standings if peer.marker == 1 and peer.counter is not None]
        counter = rejoin_counter(counters, needed) if self.rejoin_peers_all else 0
        if counter is not None and self._admit(name, counter, "1"):
            self.tell("readmitted {} with counter {}", name, counter)

    def _standings(self, servers: Sequence[str]) -> list[Standing]:
        found = self.at_once({name: lambda name=name: self.ask(Ask(name, "standing", None, self._timeout_ms)) for name in servers})  # type: ignore[misc]
        return [found[name] or Standing(name, reachable=False, reason="no answer") for name in servers]

    def _admit(self, name: str, counter: int, marker: str) -> bool:
        from lockstore.links import Command, ScriptText

        packed = Command(ScriptText(scripts.ADMIT), [scripts.FENCE_KEY, scripts.MARKER_KEY], [counter, marker]).packed
        return self.ask(Ask(name, "script", packed, self._timeout_ms)) is not None
