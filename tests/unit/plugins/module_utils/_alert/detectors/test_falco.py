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
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import falco
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import (
    alert_from_object,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes

SHORT = "6bc1b4be90d6"
FULL = SHORT + "0" * 52
MESSAGE: dict[str, t.Any] = {
    "hostname": "054aab939018",
    "priority": "Critical",
    "rule": "Drop and execute new binary in container",
    "source": "syscall",
    "tags": ["container", "process"],
    "time": "2026-04-05T12:43:02.928967267Z",
    "output": "12:43:02.928967267: Critical Executing binary not part of base image (proc_exe=/tmp/x)",
    "output_fields": {
        "container.id": SHORT,
        "container.name": "lab9-helper",
        "container.image.repository": "alpine",
        "container.image.tag": "3.19",
        "evt.time.iso8601": 1775392982928967267,
    },
}


def container(**fields: object) -> ContainerRef:
    return alert_from_object(
        {**MESSAGE, "output_fields": {k.replace("__", "."): v for k, v in fields.items()}}
    ).container


def test_http_output() -> None:
    alert = alert_from_object(MESSAGE)
    assert alert == Alert(
        id=alert.id,
        trace_id=alert.trace_id,
        source="falco",
        rule="Drop and execute new binary in container",
        severity=Severity.CRITICAL,
        time="2026-04-05T12:43:02.928967Z",
        received_at=alert.received_at,
        host="054aab939018",
        container=ContainerRef(id=SHORT, name="lab9-helper", image="alpine:3.19"),
        tags=("container", "process"),
        message=MESSAGE["output"],
    )


def test_falcosidekick_adds_a_uuid() -> None:
    message = {**MESSAGE, "uuid": "d3b0f0de-1111-4222-8333-444455556666", "source": "syscalls", "custom": "x"}
    assert alert_from_object(message).id == message["uuid"]


def test_what_configuration_leaves_out() -> None:
    alert = alert_from_object({"priority": "Warning", "rule": "r"})
    assert (alert.message, alert.tags, alert.host, alert.time) == ("", (), "", "")
    assert not alert.container


@pytest.mark.parametrize(
    ("priority", "severity"),
    [
        ("Emergency", Severity.CRITICAL),
        ("Alert", Severity.CRITICAL),
        ("CRITICAL", Severity.CRITICAL),
        ("Error", Severity.HIGH),
        ("warning", Severity.MEDIUM),
        ("Notice", Severity.LOW),
        ("Informational", Severity.INFO),
        ("Info", Severity.INFO),
        ("Debug", Severity.INFO),
    ],
)
def test_priorities(priority: str, severity: Severity) -> None:
    assert alert_from_object({**MESSAGE, "priority": priority}).severity is severity


@pytest.mark.parametrize("priority", ["", "urgent", None, 3, ["Critical"]])
def test_no_priority(priority: object) -> None:
    with pytest.raises(AlertError, match="priority is not one of emergency, alert, critical"):
        alert_from_object({**MESSAGE, "priority": priority})


@pytest.mark.parametrize(
    "fields",
    [
        # runc at every docker run: 14 % of real alerts.
        {"container.id": "host", "container.name": "host", "proc.name": ".runc"},
        {"container.id": "host", "container.image": "x"},
        {"container_id": "host", "container_name": "host"},
        {"container.name": "host"},
    ],
)
def test_an_alert_about_the_host(fields: dict[str, t.Any]) -> None:
    # Falco fills in "host" as the name of what runs outside of containers; a container can have that name.
    alert = alert_from_object({**MESSAGE, "output_fields": fields})
    assert alert.subject is Subject.NOT_DOCKER
    assert not alert.container


@pytest.mark.parametrize(
    "fields",
    [
        {"container.id": None},
        {"container.id": "", "container.name": ""},
        {"container.id": "<NA>", "container.name": "<NA>", "container.image.repository": "<NA>"},
        {"container.name": "{{ x }}"},
        {"proc.cmdline": "sh -c id"},
        {},
        None,
    ],
    ids=["null", "empty", "NA", "no name either", "absent", "no fields", "no output_fields"],
)
def test_an_unknown_id_means_a_container_and_does_not_say_which(fields: dict[str, t.Any] | None) -> None:
    alert = alert_from_object({**MESSAGE, "output_fields": fields})
    assert alert.subject is Subject.UNIDENTIFIED
    assert not alert.container


@pytest.mark.parametrize("not_an_id", [None, "", "<NA>"])
def test_a_name_without_an_id(not_an_id: object) -> None:
    reference = container(container__id=not_an_id, container__name="shop-web")
    assert (reference.subject, reference.id, reference.name) == (Subject.UNIDENTIFIED, "", "shop-web")


def test_flattened_keys_of_falcosidekick() -> None:
    fields = {
        "container_id": SHORT,
        "container_name": "shop-web",
        "container_image_repository": "registry.example.com:5000/shop",
        "container_image_tag": "4.2",
    }
    reference = alert_from_object({**MESSAGE, "output_fields": fields}).container
    assert reference == ContainerRef(id=SHORT, name="shop-web", image="registry.example.com:5000/shop:4.2")
    both = {**fields, "container.id": None}
    assert alert_from_object({**MESSAGE, "output_fields": both}).subject is Subject.UNIDENTIFIED, (
        "the dotted key counts"
    )


@pytest.mark.parametrize(
    "message",
    [
        {"rule": "Falco internal: syscall event drop", "output_fields": {"n_drops": 4}},
        {"rule": "Falco internal: metrics snapshot", "source": "internal"},
        {"rule": "Something of Falco itself", "source": "internal", "output_fields": None},
        {"rule": "Console login without MFA", "source": "aws_cloudtrail", "output_fields": {"ct.user": "x"}},
    ],
)
def test_falco_internal_says_nothing_about_containers(message: dict[str, t.Any]) -> None:
    assert alert_from_object({**MESSAGE, **message}).subject is Subject.NOTHING


def test_a_plugin_that_names_a_container_does_name_one() -> None:
    message = {**MESSAGE, "source": "docker"}
    assert alert_from_object(message).subject is Subject.CONTAINER


def test_the_process_is_that_of_the_host() -> None:
    assert container(container__id=None, proc__pid=812) == ContainerRef(subject=Subject.UNIDENTIFIED, pid=812)
    assert container(container__id=SHORT, proc_pid="812") == ContainerRef(id=SHORT, pid=812)
    assert container(container__id="host", proc__pid=812) == ContainerRef(subject=Subject.NOT_DOCKER)
    assert container(container__id=SHORT, proc__pid=2**70).pid == 0


def test_an_id_in_the_place_of_the_name_is_no_name() -> None:
    """Falco 0.41.x. Whoever may name containers could name one with the id of another."""
    assert container(container__id=SHORT, container__name=SHORT) == ContainerRef(id=SHORT)
    unsaid = container(container__id=None, container__name=SHORT)
    assert (unsaid.subject, unsaid.id, unsaid.name) == (Subject.UNIDENTIFIED, "", "")


@pytest.mark.parametrize("other", ["101", "6bc1b4be90d", "my-lxc", "libvirt-7", SHORT.upper()])
def test_an_id_that_is_none_of_docker(other: str) -> None:
    reference = container(container__id=other, container__name=other)
    assert reference.subject is Subject.NOT_DOCKER
    assert not reference


def test_an_lxc_id_in_a_batch_refuses_nothing() -> None:
    lxc = {**MESSAGE, "output_fields": {"container.id": "101", "container.name": "101"}}
    first, second = alerts_from_bytes(json.dumps([MESSAGE, lxc]).encode())
    assert (first.subject, first.container.id) == (Subject.CONTAINER, SHORT)
    assert (second.subject, second.container.name) == (Subject.NOT_DOCKER, "101")


def test_message_instead_of_output() -> None:
    message = {**MESSAGE, "message": "shell opened | container_id=6bc1b4be90d6"}
    del message["output"]
    assert alert_from_object(message).message == "shell opened | container_id=6bc1b4be90d6"


@pytest.mark.parametrize(
    "body",
    [
        b"12:43:02.928967123: Notice shell opened (user=root container_id=6bc1b4be90d6)",
        b"\n2026-04-05T12:43:02.928967123+0000: Critical shell opened",
    ],
)
def test_text_instead_of_json_gets_its_remedy(body: bytes) -> None:
    with pytest.raises(AlertError, match="not JSON") as caught:
        alerts_from_bytes(body)
    assert (caught.value.kind, caught.value.remedy) == ("not_json", "Set json_output: true in falco.yaml")


def test_other_text_gets_no_remedy_of_falco() -> None:
    with pytest.raises(AlertError) as caught:
        alerts_from_bytes(b"GET / HTTP/1.1")
    assert caught.value.remedy == ""


def test_the_full_id_is_preferred() -> None:
    assert container(container__id=SHORT, container__full_id=FULL).id == FULL
    assert container(container__full_id=FULL).id == FULL
    assert container(container__id=SHORT, container__full_id="<NA>").id == SHORT


@pytest.mark.parametrize("short", ["aaaaaaaaaaaa", "host", "host0", 1, ["x"]])
def test_contradicting_ids(short: object) -> None:
    with pytest.raises(AlertError, match=r"container\.full_id does not start with container\.id"):
        container(container__id=short, container__full_id=FULL)


def test_image() -> None:
    assert container(container__id=SHORT, container__image="r/a:1", container__image__tag="2").image == "r/a:1"
    assert container(container__id=SHORT, container__image__repository="r/a").image == "r/a"
    assert container(container__id=SHORT, container__image__repository=["r"]).image == ""
    assert container(container__id=SHORT, container__image__repository=None, container__image__tag="3.19").image == ""
    assert (
        container(container__id=SHORT, container__image__repository="r/a", container__image__tag="<NA>").image == "r/a"
    )


def test_an_image_that_is_not_known_is_empty() -> None:
    assert container(container__id=SHORT, container__image="<NA>").image == ""


@pytest.mark.parametrize("fields", [[], "x", 1])
def test_output_fields_of_another_type(fields: object) -> None:
    with pytest.raises(AlertError, match="output_fields is not an object"):
        falco.convert({**MESSAGE, "output_fields": fields})


_VALUES = st.sampled_from(
    [None, "", "<NA>", "host", SHORT, FULL, "101", "web", "a b", "{{ x }}", 7, True, [], {}, 2**70]
)


@given(
    st.dictionaries(
        st.sampled_from(
            [f"container{dot}{key}" for dot in "._" for key in ("id", "full_id", "name", "image", "image.repository")]
        ),
        _VALUES,
    ),
    st.sampled_from([None, "syscall", "internal", "k8s_audit", ["x"]]),
)
def test_whatever_the_fields_hold_it_is_an_alert_or_a_reason(fields: dict[str, t.Any], source: object) -> None:
    try:
        alert = alert_from_object({**MESSAGE, "source": source, "output_fields": fields})
    except AlertError:
        return
    assert bool(alert.container.id) is (alert.subject is Subject.CONTAINER)
    assert alert.container.id in ("", SHORT, FULL)
    if "host" in (fields.get("container.id"), fields.get("container_id", 0) if "container.id" not in fields else 0):
        assert alert.subject in (Subject.NOT_DOCKER, Subject.NOTHING)
    assert Alert.from_dict(json.loads(json.dumps(alert.to_dict()))) == alert


def test_recognises() -> None:
    assert falco.recognises(MESSAGE)
    assert not falco.recognises({"rule": {"level": 3}, "agent": {}})
