# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    FALCO,
    ID,
    WAZUH_2018,
    WAZUH_FALCO_DOTTED,
    WAZUH_FALCO_NESTED,
    WAZUH_INDEX,
    WAZUH_LISTENER,
    WAZUH_OLD_ENGINE,
    WAZUH_SHELL,
    WAZUH_SHUFFLE,
    WAZUH_SSHD,
    Message,
    read,
    read_one,
    wazuh,
)

SHOP = ContainerRef(id=ID, name="shop", image="shop:4.2")
CONTAINER = {"Type": "container", "Actor": {"ID": ID, "Attributes": {"image": "shop:4.2", "name": "shop"}}}
NETWORK = {"Type": "network", "Actor": {"ID": "0" * 64, "Attributes": {"container": ID, "name": "backend"}}}


def test_the_listener_of_docker() -> None:
    alert = read_one(WAZUH_SHELL)
    assert (alert.source, alert.id, alert.host) == ("wazuh", "1644409321.587369", "web-1")
    assert alert.rule == "Docker: Started shell session in container shop"
    assert alert.severity is Severity.LOW
    assert alert.time == "2026-04-05T12:43:02.411000Z"
    assert alert.tags == ("87908", "docker", "pci_dss_10.2.7", "T1609")
    assert alert.message == "exec_start: bash"
    assert alert.container == SHOP


@pytest.mark.parametrize(
    "message",
    [WAZUH_OLD_ENGINE, WAZUH_2018, WAZUH_SHUFFLE, WAZUH_INDEX],
    ids=["before Docker 29", "2018", "shuffle", "OpenSearch"],
)
def test_other_forms(message: Message) -> None:
    alert = read_one(message)
    assert (alert.container, alert.host, alert.id) == (SHOP, "web-1", "1644409321.587369")


def test_an_engine_that_says_the_id_outside_only() -> None:
    alert = read_one(wazuh("87907", {"status": "exec_start: id ", "id": ID, "from": "shop:4.2"}))
    assert alert.container == ContainerRef(id=ID, image="shop:4.2")


@pytest.mark.parametrize(
    ("level", "severity"),
    [
        *((level, Severity.INFO) for level in range(4)),
        *((level, Severity.LOW) for level in range(4, 7)),
        *((level, Severity.MEDIUM) for level in range(7, 12)),
        *((level, Severity.HIGH) for level in range(12, 15)),
        (15, Severity.CRITICAL),
        ("12", Severity.HIGH),
    ],
)
def test_levels(level: object, severity: Severity) -> None:
    assert read_one({**WAZUH_SSHD, "rule": {**WAZUH_SSHD["rule"], "level": level}}).severity is severity


@pytest.mark.parametrize("level", [None, 17, -1, "high", True, 5.5, 2**70])
def test_a_level_that_is_none(level: object) -> None:
    (rejected,) = read({**WAZUH_SSHD, "rule": {**WAZUH_SSHD["rule"], "level": level}}).rejected
    assert rejected.reason.startswith("rule.level is not one of 0, 1, 2")


def test_the_severity_of_a_rule_is_configured_by_its_id() -> None:
    assert read_one(WAZUH_SHELL, severities={"wazuh": {"87908": "critical", "5": "info"}}).severity is Severity.CRITICAL
    assert read_one(WAZUH_SHELL, severities={"wazuh": {"5": "info"}}).severity is Severity.INFO


@pytest.mark.parametrize(
    ("rule", "event"),
    [
        # What the guard itself makes happen.
        ("87904", {**CONTAINER, "Action": "stop"}),
        ("87905", {**CONTAINER, "Action": "pause"}),
        ("87906", {**CONTAINER, "Action": "unpause"}),
        ("87924", {**CONTAINER, "Action": "kill"}),
        ("87924", {**CONTAINER, "Action": "die"}),
        ("87929", {**NETWORK, "Action": "disconnect"}),
        ("87928", {**NETWORK, "Action": "connect"}),
        ("87925", {**CONTAINER, "Action": "update"}),
        # Rules of one's own, in which only the action tells.
        ("100100", {**CONTAINER, "Action": "pause"}),
        ("100100", {**CONTAINER, "status": "die"}),
        ("100100", {**CONTAINER, "Action": "health_status: unhealthy"}),
        ("100100", {**NETWORK, "Action": "disconnect"}),
        ("100100", {**NETWORK, "Action": "something new"}),
        # Other things that Docker has.
        (
            "87932",
            {"Type": "image", "Action": "pull", "Actor": {"ID": "ubuntu:latest", "Attributes": {"name": "ubuntu"}}},
        ),
        ("87914", {"Type": "volume", "Action": "destroy", "Actor": {"ID": "data", "Attributes": {"driver": "local"}}}),
        # Only the rule tells.
        ("87905", {}),
    ],
)
def test_changes_of_state_need_no_answer(rule: str, event: Message) -> None:
    assert read(wazuh(rule, event)) == Reading((), passed_over={"state_change": 1})


@pytest.mark.parametrize(
    ("rule", "action"),
    [
        ("87907", "exec_start: /bin/id "),
        ("87908", "exec_start: bash "),
        ("87910", "extract-to-dir"),
        ("87911", "archive-path"),
        ("87917", "commit"),
        ("87922", "attach"),
        ("87923", "export"),
        ("87926", "top"),
        ("100100", "exec_create: nc -e /bin/sh"),
    ],
)
def test_what_somebody_does_in_a_container_is_an_alert(rule: str, action: str) -> None:
    assert read_one(wazuh(rule, {**CONTAINER, "Action": action})).container == SHOP


def test_the_listener_itself_is_no_alert() -> None:
    assert read(WAZUH_LISTENER) == Reading((), passed_over={"no_alert": 1})


def test_what_is_not_about_docker_says_nothing_about_containers() -> None:
    alert = read_one(WAZUH_SSHD)
    assert (alert.rule, alert.severity, alert.host) == ("sshd: brute force", Severity.MEDIUM, "siem")
    assert alert.message == WAZUH_SSHD["full_log"]
    assert alert.subject is Subject.NOTHING


@pytest.mark.parametrize("message", [WAZUH_FALCO_NESTED, WAZUH_FALCO_DOTTED], ids=["nested", "dotted"])
def test_falco_within_wazuh_is_falco(message: Message) -> None:
    alert = read_one(message)
    assert (alert.source, alert.rule, alert.severity) == ("falco", FALCO["rule"], Severity.CRITICAL)
    # Falco's own host name is that of its container.
    assert (alert.host, alert.id, alert.time) == ("web-1", "1644409321.587369", "2026-04-05T12:43:02.928967Z")
    assert alert.tags == ("container", "process")
    assert alert.container == ContainerRef(
        id=ID[:12], name="shop", image="registry.example.com:5000/shop:4.2", pid=73860
    )


def test_falco_within_wazuh_about_the_host() -> None:
    data: dict[str, t.Any] = {
        **WAZUH_FALCO_NESTED["data"],
        "output_fields": {"container": {"id": "host", "name": "host"}},
    }
    assert read_one({**WAZUH_FALCO_NESTED, "data": data}).subject is Subject.NOT_DOCKER


RULE = {"level": 3, "id": "100201", "description": "JSON of $(rule)", "groups": ["json"]}


@pytest.mark.parametrize(
    "said",
    [
        {"decoder": {"name": "falco"}},
        {"rule": {**RULE, "groups": ["syslog", "Falco"]}},
    ],
)
def test_what_says_that_it_is_falco(said: Message) -> None:
    assert read_one({**WAZUH_FALCO_NESTED, "rule": RULE, "location": "journald", **said}).source == "falco"


@pytest.mark.parametrize(
    "said",
    [
        {"predecoder": {"program_name": "falco"}},
        {"location": "/var/log/containers/my-falco-x.log"},
        {"location": "/var/log/falco.json"},
        {"decoder": {"name": "not-falco"}},
        {"rule": {**RULE, "groups": ["falcon"]}},
    ],
)
def test_what_whoever_writes_a_line_chooses_does_not_say_that_it_is_falco(said: Message) -> None:
    """The header of syslog is the writer's, and paths follow the names of containers and files."""
    alert = read_one({**WAZUH_FALCO_NESTED, "rule": RULE, "location": "journald", **said})
    assert (alert.source, alert.subject) == ("wazuh", Subject.NOTHING)


def test_a_log_that_only_looks_like_falco_names_no_container() -> None:
    """Any process that writes JSON to a log which Wazuh reads could name any container."""
    rule = {"level": 3, "id": "100201", "description": "an event of falco", "groups": ["json"]}
    for message in (WAZUH_FALCO_NESTED, {**WAZUH_FALCO_NESTED, "data": None, "full_log": json.dumps(FALCO)}):
        alert = read_one({**message, "rule": rule, "location": "/var/log/shop.json"})
        assert (alert.source, alert.subject) == ("wazuh", Subject.NOTHING)


def test_a_log_that_only_looks_like_the_listener_names_no_container() -> None:
    rule = {"level": 12, "id": "100202", "description": "JSON", "groups": ["json"]}
    for message in (WAZUH_SHELL, WAZUH_2018):
        for other in ("/var/log/shop.json", None, "", "/var/log/shop/x->Wazuh-Docker", "x Wazuh-Docker"):
            assert read_one({**message, "rule": rule, "location": other}).subject is Subject.NOTHING
        for location in ("Wazuh-Docker", "(web-1) any->Wazuh-Docker"):
            assert read_one({**message, "rule": rule, "location": location}).container == SHOP


def test_names_of_a_thousand_levels_do_not_add_up() -> None:
    fields: Message = {"container.id": ID[:12]}
    for _level in range(300):
        fields = {"x" * 100: fields}
    data = {**WAZUH_FALCO_NESTED["data"], "output_fields": {**fields, "container": {"id": ID[:12]}}}
    assert read_one({**WAZUH_FALCO_NESTED, "data": data}).container.id == ID[:12]


@pytest.mark.parametrize("full_log", [None, "", "{", "7", "[" * 100_000, '"{}"', json.dumps({"docker": 7}), ["x"]])
def test_a_full_log_that_is_no_data(full_log: object) -> None:
    alert = read_one({**WAZUH_SSHD, "data": None, "full_log": full_log})
    assert alert.subject is Subject.NOTHING
