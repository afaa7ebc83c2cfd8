# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    GENERIC,
    ID,
    IRONPOST,
    read,
    read_one,
)


def test_an_alert_event() -> None:
    alert = read_one(IRONPOST)
    assert (alert.source, alert.rule, alert.severity) == ("ironpost", "port_scan", Severity.HIGH)
    assert (alert.id, alert.trace_id) == (IRONPOST["id"], IRONPOST["metadata"]["trace_id"])
    assert (alert.time, alert.host) == ("2026-04-05T12:43:02.000000Z", "")
    assert (alert.tags, alert.message) == (("ebpf-engine",), "Port scan: 40 ports in 2 seconds")
    assert alert.container == ContainerRef(addresses=("172.18.0.4", "203.0.113.9"))


def test_a_bridge_may_write_moments_as_text() -> None:
    metadata = {**IRONPOST["metadata"], "timestamp": "2026-04-05T12:43:02.5Z"}
    assert read_one({**IRONPOST, "metadata": metadata}).time == "2026-04-05T12:43:02.500000Z"


@pytest.mark.parametrize("seconds", [2**70, -(2**70), "x", None, [], True])
def test_a_moment_that_is_none_leaves_that_of_the_alert(seconds: object) -> None:
    metadata = {**IRONPOST["metadata"], "timestamp": {"secs_since_epoch": seconds}}
    assert read_one({**IRONPOST, "metadata": metadata}).time == "2026-04-05T12:43:02.000000Z"


def test_an_event_of_the_log_pipeline_says_nothing_about_containers() -> None:
    """Also where a line of a log says addresses."""
    alert = {**IRONPOST["alert"], "source_ip": None, "target_ip": None}
    assert read_one({**IRONPOST, "alert": alert}).container == ContainerRef()
    metadata = {**IRONPOST["metadata"], "source_module": "log-pipeline"}
    assert read_one({**IRONPOST, "metadata": metadata}).container == ContainerRef()


def test_the_severity_of_the_alert_counts_where_the_event_says_none() -> None:
    assert read_one({**IRONPOST, "severity": None}).severity is Severity.MEDIUM
    (rejected,) = read({**IRONPOST, "severity": "Urgent"}).rejected
    assert rejected.reason == "severity is not one of info, low, medium, high, critical"


def test_the_generic_alert() -> None:
    alert = read_one(GENERIC)
    assert (alert.source, alert.rule, alert.severity) == ("honeypot", GENERIC["rule"], Severity.HIGH)
    assert alert.container == ContainerRef(id=ID[:12], name="shop", pid=73860, addresses=("172.18.0.4",))


def test_severities_of_generic_alerts_are_configured_by_their_source() -> None:
    assert read_one(GENERIC, severities={"honeypot": {"credentials": "low"}}).severity is Severity.LOW
    assert read_one(GENERIC, severities={"generic": {"credentials": "low"}}).severity is Severity.HIGH
