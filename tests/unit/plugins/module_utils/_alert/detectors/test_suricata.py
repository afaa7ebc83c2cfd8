# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    SURICATA,
    SURICATA_LOCAL,
    Message,
    read,
    read_one,
)

INSIDE, OUTSIDE = "172.18.0.4", "203.0.113.9"
ALERT = SURICATA["alert"]


def with_alert(**changes: object) -> Message:
    return {**SURICATA, "alert": {**ALERT, **changes}}


def test_an_alert() -> None:
    alert = read_one(SURICATA)
    assert (alert.source, alert.rule, alert.severity) == ("suricata", "ET MALWARE Beacon", Severity.CRITICAL)
    assert (alert.time, alert.host) == ("2026-04-05T12:43:02.828967Z", "")
    assert alert.tags == ("2025644", "A Network Trojan was detected", "T1071")
    assert alert.message == "ET MALWARE Beacon: 172.18.0.4 41195 to 203.0.113.9 53"
    assert alert.container == ContainerRef(addresses=(INSIDE, OUTSIDE))
    assert alert.subject is Subject.NOTHING


def test_the_sensor_name_is_the_host() -> None:
    assert read_one({**SURICATA, "host": "web-1"}).host == "web-1"


def test_an_old_alert_of_a_local_rule() -> None:
    alert = read_one(SURICATA_LOCAL)
    assert (alert.severity, alert.tags, alert.time) == (Severity.LOW, ("1000001",), "")
    assert alert.container.addresses == ("fe80::42:acff:fe12:4", "ff02::16")


@pytest.mark.parametrize(
    ("changes", "addresses"),
    [
        ({}, (INSIDE, OUTSIDE)),
        # The alert stands on the answer.
        ({"src_ip": OUTSIDE, "dest_ip": INSIDE}, (INSIDE, OUTSIDE)),
        ({"src_ip": OUTSIDE, "dest_ip": INSIDE, "flow": None, "direction": "to_client"}, (INSIDE, OUTSIDE)),
        ({"src_ip": OUTSIDE, "dest_ip": INSIDE, "flow": None}, (OUTSIDE, INSIDE)),
        ({"flow": {"src_ip": "198.51.100.1"}}, (INSIDE, OUTSIDE)),
        ({"dest_ip": INSIDE}, (INSIDE,)),
        ({"dest_ip": None}, (INSIDE,)),
        ({"src_ip": "{{ x }}", "dest_ip": ["x"], "flow": {"src_ip": 5}}, ()),
    ],
)
def test_who_began_the_flow_comes_first(changes: Message, addresses: tuple[str, ...]) -> None:
    alert = read_one({**SURICATA, **changes})
    assert alert.container.addresses == addresses
    assert alert.subject is Subject.NOTHING


@pytest.mark.parametrize(
    ("signature_severity", "priority", "severity"),
    [
        (["Critical"], 3, Severity.CRITICAL),
        (["Major"], 3, Severity.HIGH),
        (["Minor"], 1, Severity.LOW),
        (["Informational"], 1, Severity.INFO),
        (["Unknown"], 1, Severity.HIGH),
        ([], 1, Severity.HIGH),
        ([7], 1, Severity.HIGH),
        (None, 2, Severity.MEDIUM),
        (None, 3, Severity.LOW),
        (None, 255, Severity.INFO),
        (None, None, Severity.INFO),
    ],
)
def test_what_the_rule_says_counts_before_its_priority(
    signature_severity: object, priority: object, severity: Severity
) -> None:
    message = with_alert(severity=priority, metadata={"signature_severity": signature_severity})
    assert read_one(message).severity is severity


@pytest.mark.parametrize("key", ["ET MALWARE Beacon", "2025644", "A Network Trojan was detected", "Critical"])
def test_severities_are_configured(key: str) -> None:
    assert read_one(SURICATA, severities={"suricata": {key.lower(): "low"}}).severity is Severity.LOW


def test_a_rule_without_text_is_named_by_its_id() -> None:
    assert read_one(with_alert(signature=None)).rule == "signature 2025644"


@pytest.mark.parametrize(
    "event_type", ["flow", "dns", "http", "tls", "ssh", "fileinfo", "stats", "anomaly", "bgp", "", "ALERT"]
)
def test_other_records_are_no_alerts(event_type: str) -> None:
    assert read({**SURICATA, "event_type": event_type}) == Reading((), passed_over={"no_alert": 1})
