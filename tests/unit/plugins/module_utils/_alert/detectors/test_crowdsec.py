# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading, read_message
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    CROWDSEC,
    CROWDSEC_FILE,
    Message,
    read,
    read_one,
)


def meta(*pairs: tuple[str, object]) -> Message:
    return {"meta": [{"key": key, "value": value} for key, value in pairs]}


def docker(name: str) -> Message:
    return meta(("datasource_path", name), ("datasource_type", "docker"))


@pytest.mark.parametrize("message", [CROWDSEC, CROWDSEC_FILE], ids=["http", "file"])
def test_an_alert(message: Message) -> None:
    alert = read_one(message)
    assert (alert.source, alert.rule, alert.severity) == ("crowdsec", "crowdsecurity/http-probing", Severity.LOW)
    assert (alert.id, alert.host, alert.time) == (CROWDSEC["uuid"], "web-1", "2026-04-05T12:43:02.300000Z")
    assert alert.tags == ("ip:203.0.113.9",)
    assert alert.message == CROWDSEC["message"]
    assert alert.container == ContainerRef(name="shop", subject=Subject.UNIDENTIFIED)


def test_the_notification_is_an_array() -> None:
    found = read_message(json.dumps([CROWDSEC, {**CROWDSEC, "simulated": True}, CROWDSEC]).encode(), "crowdsec")
    assert [alert.container.name for alert in found.alerts] == ["shop", "shop"]
    assert found.passed_over == {"simulated": 1}


@pytest.mark.parametrize(
    ("events", "container"),
    [
        (None, ContainerRef()),
        ([], ContainerRef()),
        (["x", {"meta": None}, {"meta": ["x", {"key": ["x"]}]}], ContainerRef()),
        ([docker("shop")], ContainerRef(name="shop")),
        # Of syslog it is the sender's address, which could be a name of a container.
        ([meta(("datasource_path", "192.0.2.7"))], ContainerRef()),
        ([meta(("datasource_path", "/var/log/auth.log"))], ContainerRef()),
        ([meta(("datasource_path", "/var/log/auth.log"), ("datasource_type", "file"))], ContainerRef()),
        ([meta(("datasource_path", "192.0.2.7"), ("datasource_type", "syslog"))], ContainerRef()),
        ([docker("{{ x }}")], ContainerRef()),
        ([docker("shop"), docker("shop")], ContainerRef(name="shop")),
        ([docker("shop"), docker("mail")], ContainerRef(subject=Subject.UNIDENTIFIED)),
    ],
)
def test_only_the_docker_datasource_names_a_container(events: object, container: ContainerRef) -> None:
    assert read_one({**CROWDSEC, "events": events}).container == container


def test_old_versions_say_events_otherwise() -> None:
    old = {key: value for key, value in CROWDSEC.items() if key not in ("events", "uuid", "machine_id")}
    alert = read_one({**old, "Events": CROWDSEC["events"]})
    assert (alert.container.name, alert.host) == ("shop", "")


def test_what_is_simulated_needs_no_answer() -> None:
    assert read({**CROWDSEC, "simulated": True}) == Reading((), passed_over={"simulated": 1})


def test_severities_are_configured_by_scenario_or_label() -> None:
    labelled = {**CROWDSEC, "labels": ["exploit"]}
    for key in ("crowdsecurity/http-probing", "exploit", "default"):
        assert read_one(labelled, severities={"crowdsec": {key: "high"}}).severity is Severity.HIGH


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ({"stop_at": None}, "2026-04-05T12:42:56.100000Z"),
        ({"stop_at": "", "start_at": ""}, "2026-04-05T12:43:09.000000Z"),
        ({"stop_at": "2026-04-05T14:43:02+02:00"}, "2026-04-05T12:43:02.000000Z"),
    ],
)
def test_the_time(times: Message, expected: str) -> None:
    assert read_one({**CROWDSEC, **times}).time == expected
