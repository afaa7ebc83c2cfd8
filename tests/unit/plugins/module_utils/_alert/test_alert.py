# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

ID = "0123456789ab"
MINIMAL = {"source": "sensor", "rule": "Shell spawned", "severity": "high"}


def test_minimal() -> None:
    alert = Alert.from_dict(MINIMAL)
    assert (alert.source, alert.rule, alert.severity) == ("sensor", "Shell spawned", Severity.HIGH)
    assert len(alert.id) == len(alert.trace_id) == 36
    assert alert.id != alert.trace_id
    assert not alert.container
    assert str(alert.container) == "no container"


def test_everything_that_is_given_is_kept() -> None:
    given_alert = {
        **MINIMAL,
        "id": "a-1",
        "trace_id": "t-1",
        "time": "2026-04-05T12:43:02.928967267Z",
        "received_at": "2026-04-05T12:43:03Z",
        "host": "web-1",
        "inventory_host": "web1.example.com",
        "container": {
            "id": ID,
            "name": "/shop",
            "image": "nginx:1.27",
            "pid": 812,
            "addresses": ["::ffff:172.18.0.4", "FE80:0:0:0:0:0:0:1"],
        },
        "tags": ["container", "", 7, None, "x" * 500],
        "message": "a shell",
        "raw": "e30=",
        "raw_sha256": "0" * 64,
    }
    alert = Alert.from_dict(given_alert)
    assert alert.to_dict() == {
        **given_alert,
        "time": "2026-04-05T12:43:02.928967Z",
        "received_at": "2026-04-05T12:43:03.000000Z",
        "container": {
            "id": ID,
            "name": "shop",
            "image": "nginx:1.27",
            "subject": "container",
            "pid": 812,
            "addresses": ["172.18.0.4", "fe80::1"],
        },
        "tags": ["container", "7", "x" * 125 + "..."],
    }
    assert str(alert.container) == f"shop ({ID})"


@given(
    st.fixed_dictionaries(
        {"source": st.just("s"), "rule": st.text(min_size=1), "severity": st.sampled_from(["info", "CRITICAL"])},
        optional={
            "message": st.text() | st.integers(),
            "tags": st.lists(st.text()),
            "time": st.text(),
            "host": st.text(),
            "container": st.none()
            | st.fixed_dictionaries({"id": st.just(ID)}, optional={"name": st.text()})
            | st.fixed_dictionaries({"pid": st.integers(0, 4_194_304)})
            | st.fixed_dictionaries({"addresses": st.lists(st.ip_addresses().map(str), max_size=2)})
            | st.fixed_dictionaries({"subject": st.sampled_from([each.value for each in Subject])}),
        },
    )
)
def test_a_record_survives_any_number_of_processes(value: dict[str, t.Any]) -> None:
    try:
        alert = Alert.from_dict(value)
    except AlertError:  # the rule is blank
        return
    assert Alert.from_dict(json.loads(json.dumps(alert.to_dict()))) == alert


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"source": None}, "source is missing"),
        ({"source": "a b"}, "source is not usable text"),
        ({"rule": ""}, "rule is missing"),
        ({"rule": "  "}, "rule is not usable text"),
        ({"rule": ["x"]}, "rule is not usable text"),
        ({"severity": "urgent"}, "severity is not one of"),
        ({"tags": "container"}, "tags is not a list"),
        ({"container": "web"}, "container is not an object"),
        ({"contaner": {"id": ID}}, "unknown key contaner"),
        ({"container": {"ID": ID}}, "unknown key container.ID"),
        ({"{{ x }}": 1}, r"unknown key \{ \{ x \}\}"),
        ({"container": {"id": "0123"}}, "container.id is not 12 to 64"),
        ({"container": {"id": ID.upper()}}, "container.id is not 12 to 64"),
        ({"container": {"name": "a b"}}, "container.name is not a container name"),
        ({"container": {"subject": "pod"}}, "container.subject is not one of container, unidentified, not_docker"),
        ({"container": {"subject": ["host"]}}, "container.subject is not one of"),
        *(({"container": {"name": "web", "pid": pid}}, "container.pid is not the number") for pid in (True, False, -1)),
        *(({"container": {"name": "web", "pid": pid}}, "container.pid is not") for pid in (2**22 + 1, 2**70, "1", [1])),
        ({"container": {"addresses": "172.18.0.4"}}, "container.addresses is not a list of at most 2"),
        ({"container": {"addresses": ["172.18.0.4"] * 3}}, "container.addresses is not a list of at most 2"),
        ({"container": {"addresses": ["172.18.0.4", "{{ x }}"]}}, "container.addresses holds something else"),
        ({"container": {"addresses": ["fe80::1%{{x}}"]}}, "container.addresses holds something else"),
        ({"container": {"addresses": [5]}}, "container.addresses holds something else"),
    ],
)
def test_invalid(change: dict[str, t.Any], message: str) -> None:
    with pytest.raises(AlertError, match=message) as caught:
        Alert.from_dict({**MINIMAL, **change})
    assert caught.value.kind == "invalid_alert"


@pytest.mark.parametrize("value", [None, [], "alert", 1])
def test_not_an_alert(value: object) -> None:
    with pytest.raises(AlertError) as caught:
        Alert.from_dict(value)
    assert caught.value.kind == "not_an_alert"


@pytest.mark.parametrize(
    ("container", "subject"),
    [
        (None, Subject.NOTHING),
        ({"id": ID}, Subject.CONTAINER),
        ({"id": ID, "name": "web"}, Subject.CONTAINER),
        ({"name": "web"}, Subject.UNIDENTIFIED),
        ({"id": None, "name": "web"}, Subject.UNIDENTIFIED),
        ({"id": "", "name": ""}, Subject.UNIDENTIFIED),
        ({"id": "<NA>", "name": "<NA>"}, Subject.UNIDENTIFIED),
        ({"image": "nginx"}, Subject.UNIDENTIFIED),
        ({}, Subject.UNIDENTIFIED),
        ({"id": "host"}, Subject.NOT_DOCKER),
        ({"id": "host", "name": "web"}, Subject.NOT_DOCKER),
        ({"subject": "not_docker", "name": "101"}, Subject.NOT_DOCKER),
        ({"pid": 812}, Subject.UNIDENTIFIED),
        ({"pid": 812, "subject": "nothing"}, Subject.UNIDENTIFIED),
        ({"pid": 812, "id": ID}, Subject.CONTAINER),
        ({"pid": 0}, Subject.UNIDENTIFIED),
        ({"pid": 812, "id": "host"}, Subject.NOT_DOCKER),
        ({"addresses": ["172.18.0.4"]}, Subject.NOTHING),
        ({"addresses": [], "pid": None}, Subject.UNIDENTIFIED),
        ({"addresses": ["172.18.0.4"], "name": "web"}, Subject.UNIDENTIFIED),
        ({"addresses": ["172.18.0.4"], "subject": "unidentified"}, Subject.UNIDENTIFIED),
        ({"subject": "nothing"}, Subject.NOTHING),
        ({"subject": "nothing", "id": ID}, Subject.CONTAINER),
    ],
)
def test_the_record_tells_four_things_apart(container: object, subject: Subject) -> None:
    alert = Alert.from_dict({**MINIMAL, "container": container})
    assert alert.subject is subject
    assert Alert.from_dict(alert.to_dict()).subject is subject


def test_a_generic_alert_without_container_says_nothing_about_containers() -> None:
    assert Alert.from_dict(MINIMAL).subject is Subject.NOTHING


@pytest.mark.parametrize(
    ("container", "subject"),
    [
        ({"id": ID, "name": "web", "image": ""}, Subject.CONTAINER),
        ({"id": "", "name": "web", "image": ""}, Subject.UNIDENTIFIED),
        ({"id": "", "name": "", "image": ""}, Subject.NOTHING),
    ],
)
def test_a_record_of_an_older_version_has_no_subject(container: dict[str, str], subject: Subject) -> None:
    record = {**Alert.from_dict(MINIMAL).to_dict(), "container": container}
    assert Alert.from_dict(record).subject is subject


def test_the_host_is_never_a_container() -> None:
    assert not ContainerRef.from_dict({"id": "host", "name": "host", "image": "x"})
    assert not ContainerRef.from_dict({"subject": "not_docker", "name": "web"})


def test_the_id_of_another_engine_is_no_id() -> None:
    assert ContainerRef.from_dict({"id": ID, "name": "web", "subject": "not_docker"}).id == ""
    assert ContainerRef(id=ID, subject=Subject.NOT_DOCKER).id == ""


def test_a_process_is_not_enough_to_look_for_a_name_or_an_id() -> None:
    reference = ContainerRef(pid=812)
    assert not reference
    assert str(reference) == "the container of process 812"


def test_a_process_of_the_host_is_in_no_container() -> None:
    assert ContainerRef(pid=812, subject=Subject.NOT_DOCKER).pid == 0


def test_the_same_address_twice_is_one() -> None:
    reference = ContainerRef.from_dict({"addresses": ["::1", "0:0:0:0:0:0:0:1"]})
    assert reference.addresses == ("::1",)


def test_an_id_that_is_not_known_leaves_the_name() -> None:
    assert ContainerRef.from_dict({"id": "<NA>", "name": "web"}) == ContainerRef(name="web")


@pytest.mark.parametrize("not_text", [[], {}, 0, False, 1, ["a"]])
def test_an_id_that_is_no_text_does_not_leave_the_name_to_decide(not_text: object) -> None:
    with pytest.raises(AlertError, match=r"container\.id is not text"):
        ContainerRef.from_dict({"id": not_text, "name": "web"})


def test_an_unusable_name_beside_an_id_is_dropped() -> None:
    assert ContainerRef.from_dict({"id": ID, "name": "<NA>"}) == ContainerRef(id=ID)
    assert ContainerRef.from_dict({"id": ID, "name": "{{ x }}"}) == ContainerRef(id=ID)
    assert not ContainerRef.from_dict({"id": "", "name": "<NA>"})


def test_at_most_64_tags() -> None:
    assert len(Alert.from_dict({**MINIMAL, "tags": [str(number) for number in range(100)]}).tags) == 64
