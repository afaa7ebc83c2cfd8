# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import HostNames

ALERT = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Shell",
    severity=Severity.HIGH,
    received_at="",
    host="6bc1b4be90d6",
    container=ContainerRef(id="0123456789ab"),
)
NAMES = HostNames(hosts=("web-1", "web-2"), host_map={"6bc1b4be90d6": "web-2", "web-1": "web-3"})


@pytest.mark.parametrize(
    ("said", "inventory_host", "targets"),
    [
        ("web-2", "web-2", ("web-2",)),
        ("6bc1b4be90d6", "web-2", ("web-2",)),
        ("web-1", "web-3", ("web-3",)),  # the map is more special
        ("web-9", "", ("all",)),
        ("", "", ("all",)),
    ],
)
def test_an_alert_is_placed_on_the_host_that_is_meant(said: str, inventory_host: str, targets: tuple[str, ...]) -> None:
    placed = NAMES.place(dataclasses.replace(ALERT, host=said))
    assert (placed.alert.inventory_host, placed.targets) == (inventory_host, targets)


def test_a_sender_does_not_choose_the_host() -> None:
    placed = HostNames(lookup_hosts=()).place(dataclasses.replace(ALERT, inventory_host="web-1"))
    assert (placed.alert.inventory_host, placed.targets) == ("", ())
