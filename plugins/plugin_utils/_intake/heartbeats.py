# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What heartbeats of host services say together: who is missing, who is degraded, and whose policies differ.

Each is told when it changes, and once:

- C({missing: {host, last_heartbeat, interval}, host, id, meta}): there was a heartbeat, and none for three intervals.
- C({back: {host, state, missing_since}, host, id, meta}): there is one again.
- C({degraded: {host, troubles, version}, host, id, meta}), C({recovered: {host}, host, id, meta}).
- C({digests: {differ, sets: [{digest, number, hosts}]}, id, meta}): hosts have had different policy sets for two
  intervals, which is longer than a deployment takes; C(differ) is false once all have the same one.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t
from collections.abc import Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import DEGRADED, Heartbeat

MISSED = 3
"""Intervals without a heartbeat after which a host is missing."""
SETTLED = 2
"""Intervals after which digests that differ are no deployment under way."""
MOST_HOSTS = 10_000
FORGOTTEN = 7 * 86_400.0
"""Seconds after which a host that is missing is none any more."""
_WRITTEN = 600.0
"""Seconds after which the time of a heartbeat is written down anew where nothing else has changed."""
_STOOD_STILL = 5.0
"""Seconds between two looks from which on this process, and not the hosts, was silent."""
_MOST_NAMED = 50
"""Policy sets, and hosts of each, that an event names."""

Json = dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Host:
    """What is known of a host, and outlives a restart.

    Attributes:
        heartbeat_at: when the last one came, in seconds since the epoch.
        interval: seconds until the next.
        state: of the service.
        digest: of its policies.
        version: of the collection there.
        missing: whether it was told as missing.
    """

    heartbeat_at: float
    interval: float
    state: str
    digest: str = ""
    version: str = ""
    missing: bool = False


class Change(t.NamedTuple):
    """What is to be written down, and then taken.

    Attributes:
        hosts: by name; None for those to forget.
        events: for the rule engine, without C(id) and C(meta).
        differing: digest -> hosts as they were told; None where that has not changed.
    """

    hosts: Mapping[str, Host | None] = {}
    events: tuple[Json, ...] = ()
    differing: Mapping[str, list[str]] | None = None

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.hosts or self.events or self.differing is not None)


NO_CHANGE = Change()


class Heartbeats:
    """Judges heartbeats. Nothing is told before its C(Change) was taken.

    Args:
        hosts: as they were before a restart.
        differing: digests as they were told.
        now: seconds, of a clock that is never set. While nobody listened nobody was missed.
    """

    def __init__(self, hosts: Mapping[str, Host], differing: Mapping[str, list[str]], now: float) -> None:
        self.hosts = dict(hosts)
        self._heard = dict.fromkeys(hosts, now)
        self._written = {name: host.heartbeat_at for name, host in hosts.items()}
        self._differing = dict(differing)
        self._seen: Mapping[str, list[str]] = {}
        self._since = now
        self._looked = now

    def beat(self, host: str, beat: Heartbeat, now: float, wall: float) -> Change:
        """A heartbeat has come, of a host that there is room for.

        Args:
            host: that it is of.
            beat: what it says.
            now: as above.
            wall: seconds since the epoch.
        """
        self._heard[host] = now
        before = self.hosts.get(host)
        host_now = Host(wall, beat.interval, beat.state, beat.policy_set_digest, beat.version)
        same = before and dataclasses.replace(before, heartbeat_at=wall) == host_now
        if same and wall - self._written[host] < _WRITTEN:
            self.hosts[host] = host_now  # so that it is known when it was heard last
            return NO_CHANGE
        events: list[Json] = []
        if before and before.missing:
            since = _moment(before.heartbeat_at)
            events.append({"back": {"host": host, "state": beat.state, "missing_since": since}, "host": host})
        was_degraded = before is not None and before.state == DEGRADED
        if beat.state == DEGRADED and not was_degraded:
            told = {"host": host, "troubles": list(beat.troubles), "version": beat.version}
            events.append({"degraded": told, "host": host})
        elif beat.state != DEGRADED and was_degraded:
            events.append({"recovered": {"host": host}, "host": host})
        return Change({host: host_now}, tuple(events))

    def full(self, host: str) -> bool:
        """Whether there are as many hosts as there may be, and this is none of them."""
        return host not in self.hosts and len(self.hosts) >= MOST_HOSTS

    def look(self, now: float, wall: float) -> Change:
        """See who is missing, and whose policies differ. To be called every second or so."""
        stood_still = now - self._looked
        self._looked = now
        if stood_still > _STOOD_STILL:
            self._heard = {host: heard + stood_still for host, heard in self._heard.items()}
        changed: dict[str, Host | None] = {}
        events: list[Json] = []
        for name, host in self.hosts.items():
            silent = now - self._heard[name]
            if host.missing and wall - host.heartbeat_at > FORGOTTEN:
                changed[name] = None
            elif not host.missing and silent > MISSED * host.interval:
                changed[name] = dataclasses.replace(host, missing=True)
                at = _moment(host.heartbeat_at)
                told = {"host": name, "last_heartbeat": at, "interval": host.interval}
                events.append({"missing": told, "host": name})
        differing = self._look_at_digests(now)
        if differing is not None:
            events.append({"digests": _digests(differing)})
        return Change(changed, tuple(events), differing)

    def take(self, change: Change) -> None:
        """What was written down holds."""
        for name, host in change.hosts.items():
            if host is None:
                self.hosts.pop(name, None)
                self._heard.pop(name, None)
                self._written.pop(name, None)
            else:
                self.hosts[name] = host
                self._written[name] = host.heartbeat_at
        if change.differing is not None:
            self._differing = dict(change.differing)

    def ages(self, now: float) -> dict[str, float]:
        """Seconds since the last heartbeat, by host."""
        return {host: max(0.0, now - self._heard.get(host, now)) for host in list(self.hosts)}

    def figures(self) -> dict[str, float]:
        """For metrics."""
        hosts = list(self.hosts.values())
        return {
            "hosts_reporting": sum(not host.missing for host in hosts),
            "hosts_missing": sum(host.missing for host in hosts),
            "hosts_degraded": sum(host.state == DEGRADED and not host.missing for host in hosts),
        }

    def _look_at_digests(self, now: float) -> Mapping[str, list[str]] | None:
        found: dict[str, list[str]] = {}
        longest = 0.0
        for name, host in self.hosts.items():
            if not host.missing:
                found.setdefault(host.digest, []).append(name)
                longest = max(longest, host.interval)
        found = {digest: sorted(names) for digest, names in found.items()} if len(found) > 1 else {}
        if found != self._seen:
            self._seen, self._since = found, now
        if found == self._differing or now - self._since < SETTLED * longest:
            return None
        return found


def _digests(differing: Mapping[str, list[str]]) -> Json:
    # The set that most hosts have comes first.
    sets = sorted(differing.items(), key=lambda item: (-len(item[1]), item[0]))
    return {
        "differ": bool(differing),
        "sets": [
            {"digest": digest, "number": len(hosts), "hosts": hosts[:_MOST_NAMED]}
            for digest, hosts in sets[:_MOST_NAMED]
        ],
    }


def _moment(seconds: float) -> str:
    return format_timestamp(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
