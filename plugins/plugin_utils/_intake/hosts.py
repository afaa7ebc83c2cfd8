# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which hosts of the inventory an alert concerns.

Nothing is guessed: what a detector calls a host is mapped, or hosts are asked whether it is about them.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert


class Placed(t.NamedTuple):
    """An alert and who is asked about it.

    Attributes:
        alert: with its inventory host, which is empty where it is not known.
        targets: that host, or the hosts and groups that are asked instead; empty where nobody is.
    """

    alert: Alert
    targets: tuple[str, ...]


@dataclasses.dataclass(frozen=True, kw_only=True)
class HostNames:
    """How hosts are called.

    Attributes:
        hosts: inventory names that detectors use as they are.
        host_map: host name as detectors say it -> inventory name.
        lookup_hosts: inventory hosts or groups that are asked about alerts of unknown hosts.
    """

    hosts: tuple[str, ...] = ()
    host_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lookup_hosts: tuple[str, ...] = ("all",)

    def inventory_host(self, detector_host: str) -> str:
        """The inventory name of the host that a detector names, or C("") where it is not known."""
        mapped = self.host_map.get(detector_host)
        if mapped is not None:
            return mapped
        return detector_host if detector_host in self.hosts else ""

    def place(self, alert: Alert) -> Placed:
        """The alert with its inventory host, and who is asked about it."""
        known = self.inventory_host(alert.host)
        return Placed(dataclasses.replace(alert, inventory_host=known), (known,) if known else self.lookup_hosts)
