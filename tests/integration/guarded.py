# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guard at work in a corner of an engine, and what is true of its containers, whatever it says."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings, Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import breaches
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.outcome import Outcome
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import HELD, ISOLATED, RELEASED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld

PAUSE, CUT, KILL, STOP = Action("pause"), Action("network_disconnect"), Action("kill"), Action("stop", grace=0)
BOTH = (PAUSE, CUT)
LOOPBACK = {"lo"}
WEB = ("sh", "-c", "echo served >/www/index.html; exec httpd -f -p 80 -h /www")
# Ask for the page, and give up soon: by the shell of a container, and by the Python of a host. The wget of the image
# crashes, as it is linked statically.
_ASK_ADDRESS = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | timeout 1 nc %s 80 | grep -q served"
_ASK_PORT = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 2) as connection:
    connection.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
    sys.exit(b" 200 " not in connection.recv(100))
"""


class Guarded:
    """A guard at work.

    Attributes:
        world: where it works.
        journal: its journal.
        guard: it.
    """

    def __init__(self, world: HostWorld, directory: pathlib.Path) -> None:
        self.world = world
        self.journal = Journal(str(directory / "state"), lock_timeout=30)
        self.guard = self.guard_of(world.engine)
        self._addresses: dict[tuple[str, str], str] = {}

    def guard_of(self, engine: Engine, max_attempts: int = 2) -> Isolator:
        """Another guard with the same journal, on that engine."""
        return Isolator(engine, self.journal, retry=Retry(max_attempts=max_attempts, backoff_base=0.1))

    # --- what is true -------------------------------------------------------------------------------------------------

    def seen(self, container: str) -> dict[str, t.Any]:
        """All that a release has to give back, as the engine says it."""
        return seen(self.world.engine, container)

    def reaches(self, peer: str, container: str, network: str) -> bool:
        """Whether the page of the container can be had from a peer, by the address that it was given last."""
        for key in self.world.keys(container).values():
            if key["IPAddress"]:
                self._addresses[container, key["NetworkID"]] = key["IPAddress"]
        address = self._addresses[container, network]
        status, _output = self.world.exec(peer, "sh", "-c", _ASK_ADDRESS % address)
        return status == 0

    def host_reaches(self, port: int) -> bool:
        """Whether the page can be had through that published port of the host."""
        status, _output = self.world.host.exec("python3", "-c", _ASK_PORT, str(port))
        return status == 0

    def breaches(self, container: str) -> list[str]:
        """Kinds of what the guard says is not as it left it."""
        entry = self.journal.load(container)
        assert entry is not None
        inspection = breaches.inspect(self.guard, Resolver(self.world.engine), entry)
        return [finding.kind for finding in inspection.breaches]

    # --- there and back -----------------------------------------------------------------------------------------------

    def isolate(self, container: str, actions: t.Sequence[Action] = BOTH) -> Outcome:
        """Isolate it, which must succeed, be true, and change nothing when done again; the first outcome."""
        outcome = self.guard.isolate(container, actions)
        assert (outcome.ok, outcome.outcome in (ISOLATED, HELD)) == (True, True), _shown(outcome)
        again = self.guard.isolate(container, actions)
        assert (again.outcome, again.changed, again.steps) == (HELD, False, ()), _shown(again)
        assert self.breaches(container) == []
        state = self.world.engine.inspect_container(container)["State"]
        if state["Pid"] and CUT in actions and not any("network_disconnect" in text for text in outcome.warnings):
            assert self.world.interfaces(container) == LOOPBACK
        if KILL in actions or STOP in actions:
            assert not state["Running"]
        elif PAUSE in actions:
            assert state["Paused"] == state["Running"]
        return outcome

    def release(self, container: str, restart: bool = False) -> Outcome:
        """Release it, which must succeed and leave nothing in the journal."""
        outcome = self.guard.release(container, restart=restart)
        assert (outcome.outcome, outcome.error) == (RELEASED, None), _shown(outcome)
        assert self.journal.load(container) is None
        return outcome

    def there_and_back(self, container: str, actions: t.Sequence[Action] = BOTH) -> tuple[Outcome, Outcome]:
        """Isolate and release it: it must be as it was."""
        before = self.seen(container)
        isolated = self.isolate(container, actions)
        released = self.release(container)
        assert self.seen(container) == before, _shown(released)
        return isolated, released

    def refuses(self, work: t.Callable[[], Outcome], container: str, reason: str) -> None:
        """The guard refuses that, says why, and touches nothing."""
        before, entry = self.seen(container), self.journal.load(container)
        outcome = work()
        assert outcome.outcome == "refused", _shown(outcome)
        assert reason in (outcome.error or {})["message"]
        assert (self.seen(container), self.journal.load(container)) == (before, entry)


def seen(engine: Engine, container: str) -> dict[str, t.Any]:
    """All that a release has to give back, as the engine says it."""
    found = engine.inspect_container(container)
    networks = found["NetworkSettings"]["Networks"]
    for name, key in networks.items():
        # The engine makes both anew with each connect.
        for fresh in ("EndpointID", "MacAddress"):
            key[fresh] = bool(key[fresh])
        for names in ("Aliases", "DNSNames"):
            key[names] = sorted(key.get(names) or ())
        key["IPAMConfig"] = key["IPAMConfig"] or {}
        if name == "bridge":  # others use it at the same time, and may be given the address
            key["IPAddress"] = bool(key["IPAddress"])
    if not found["State"]["Pid"]:
        # What it gets when it starts is not known before, and what is left of it is lost by a disconnect.
        asked = ("IPAMConfig", "Aliases", "Links", "DriverOpts", "GwPriority")
        networks = {name: {setting: key.get(setting) for setting in asked} for name, key in networks.items()}
        for key in networks.values():
            key["Aliases"] = [alias for alias in key["Aliases"] if alias != container[:12]]
    return {
        "networks": networks,
        "restart_policy": found["HostConfig"]["RestartPolicy"],
        "state": {name: found["State"][name] for name in ("Status", "Running", "Paused")},
    }


def steps(outcome: Outcome) -> list[str]:
    return [step.action for step in outcome.steps]


def not_restored(outcome: Outcome) -> list[dict[str, str]]:
    """What was not restored, but for the names of interfaces, which engines before 28 choose anew (C.connect.14)."""
    return [dict(one) for one in outcome.not_restored if not one["what"].startswith("name of the interface ")]


def differences(outcome: Outcome) -> list[str]:
    return [difference["what"] for difference in not_restored(outcome)]


def static(world: HostWorld, network: str, host: int = 50, **settings: t.Any) -> EndpointSettings:
    """A static address in a network, both of IPv4 and of IPv6 where it has that."""
    subnets = [pool["Subnet"].partition("/")[0] for pool in world.engine.inspect_network(network)["IPAM"]["Config"]]
    addresses = {"ipv4_address": world.address(network, host)}
    for subnet in subnets:
        if ":" in subnet:
            addresses["ipv6_address"] = f"{subnet}{host:x}"
    return EndpointSettings(**addresses, **settings)


def _shown(outcome: Outcome) -> str:
    return json.dumps(outcome.to_dict(), indent=1, sort_keys=True)
