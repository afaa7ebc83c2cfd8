# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import falco
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alert_from_object
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

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
    with pytest.raises(AlertError, match="priority is not one of Falco's"):
        falco.convert({**MESSAGE, "priority": priority})


@pytest.mark.parametrize("not_an_id", ["host", "<NA>", "", None])
def test_the_host_is_no_container(not_an_id: object) -> None:
    # Falco fills in "host" as the name of what runs outside of containers; a container can have that name.
    assert not container(container__id=not_an_id, container__name="host", container__image="x")


def test_the_full_id_is_preferred() -> None:
    assert container(container__id=SHORT, container__full_id=FULL).id == FULL
    assert container(container__full_id=FULL).id == FULL
    assert container(container__id=SHORT, container__full_id="<NA>").id == SHORT


@pytest.mark.parametrize("short", ["aaaaaaaaaaaa", "host0", 1, ["x"]])
def test_contradicting_ids(short: object) -> None:
    with pytest.raises(AlertError, match=r"container\.full_id does not start with container\.id"):
        container(container__id=short, container__full_id=FULL)


def test_image() -> None:
    assert container(container__id=SHORT, container__image="r/a:1", container__image__tag="2").image == "r/a:1"
    assert container(container__id=SHORT, container__image__repository="r/a").image == "r/a"
    assert container(container__id=SHORT, container__image__repository=["r"]).image == ""


@pytest.mark.parametrize("fields", [[], "x", 1])
def test_output_fields_of_another_type(fields: object) -> None:
    with pytest.raises(AlertError, match="output_fields is not an object"):
        falco.convert({**MESSAGE, "output_fields": fields})


def test_recognises() -> None:
    assert falco.recognises(MESSAGE)
    assert not falco.recognises({"rule": {"level": 3}, "agent": {}})
