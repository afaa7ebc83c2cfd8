# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    ID,
    TETRAGON_KPROBE,
    TETRAGON_POD,
    TETRAGON_PROCESS,
    Message,
    read,
    read_one,
    tetragon,
)

IMAGE = "registry.example.com/shop:4.2"


def test_a_kprobe_of_a_policy() -> None:
    alert = read_one(TETRAGON_KPROBE)
    assert (alert.source, alert.rule, alert.host) == ("tetragon", "privileged-calls", "web-1")
    assert alert.severity is Severity.MEDIUM
    assert alert.time == "2026-04-05T12:43:02.834882Z"
    assert alert.tags == ("observability.privilege_escalation", "cap_capable", "KPROBE_ACTION_POST")
    assert alert.message == "a capability was asked for: /bin/dmesg -T"
    assert alert.container == ContainerRef(id=ID[:31], pid=73860)


@pytest.mark.parametrize(
    ("event", "fields", "rule"),
    [
        ("process_kprobe", {"function_name": "sys_openat", "policy_name": "p"}, "p"),
        ("process_kprobe", {"function_name": "sys_openat"}, "sys_openat"),
        ("process_kprobe", {"function_name": "sys_openat", "policy_name": ""}, "sys_openat"),
        ("process_lsm", {"function_name": "file_open"}, "file_open"),
        ("process_uprobe", {"path": "/bin/bash", "symbol": "readline"}, "readline"),
        ("process_tracepoint", {"subsys": "syscalls", "event": "sys_enter_read"}, "sys_enter_read"),
        ("process_usdt", {"policy_name": "u"}, "u"),
    ],
)
def test_the_rule_is_the_policy_or_else_the_function(event: str, fields: Message, rule: str) -> None:
    assert read_one(tetragon(event, **fields)).rule == rule


@pytest.mark.parametrize(
    ("process", "expected"),
    [
        ({}, ContainerRef(id=ID[:31], pid=73860)),
        ({"docker": ID[:24]}, ContainerRef(id=ID[:24], pid=73860)),  # documentation of 2022
        ({"docker": ID[:15]}, ContainerRef(id=ID[:15], pid=73860)),  # as the comment in the API says
        ({"pod": TETRAGON_POD}, ContainerRef(id=ID, image=IMAGE, pid=73860)),
        ({"pod": TETRAGON_POD, "docker": ""}, ContainerRef(id=ID, image=IMAGE, pid=73860)),
        # What is no id is the beginning of the name of a control group.
        ({"docker": "kubepods-besteffort-pod0f3ab1c2"}, ContainerRef(subject=Subject.UNIDENTIFIED, pid=73860)),
        # Before 1.7.0, hosts without Kubernetes; or a process of the host, which its control group tells.
        ({"docker": ""}, ContainerRef(subject=Subject.UNIDENTIFIED, pid=73860)),
        ({"docker": None}, ContainerRef(subject=Subject.UNIDENTIFIED, pid=73860)),
        ({"docker": "", "pid": 0}, ContainerRef(subject=Subject.NOT_DOCKER)),
        ({"docker": "", "pid": 2**70}, ContainerRef(subject=Subject.NOT_DOCKER)),
        ({"docker": ["x"], "pid": None}, ContainerRef(subject=Subject.UNIDENTIFIED)),
    ],
)
def test_the_container(process: Message, expected: ContainerRef) -> None:
    assert read_one(tetragon(process={**TETRAGON_PROCESS, **process}, policy_name="p")).container == expected


def test_containerd_is_not_docker() -> None:
    pod = {**TETRAGON_POD, "container": {"id": f"containerd://{ID}"}}
    alert = read_one(tetragon(process={**TETRAGON_PROCESS, "pod": pod}, policy_name="p"))
    assert alert.container == ContainerRef(subject=Subject.NOT_DOCKER)


def test_ids_that_contradict_each_other_are_refused() -> None:
    process = {**TETRAGON_PROCESS, "docker": "0" * 31, "pod": TETRAGON_POD}
    (rejected,) = read(tetragon(process=process, policy_name="p")).rejected
    assert rejected.reason == "process.pod.container.id does not start with process.docker"


def test_the_parent_is_not_meant() -> None:
    process = {key: value for key, value in TETRAGON_PROCESS.items() if key != "docker"}
    assert read_one(tetragon(process=process, policy_name="p")).container.id == ""


@pytest.mark.parametrize(
    "message",
    [
        *(tetragon(event) for event in ("process_exec", "process_exit", "process_loader")),
        *(tetragon(event) for event in ("process_connect", "process_close", "process_listen")),
        {"process_throttle": {"type": "THROTTLE_START", "cgroup": "shop"}, "node_name": "web-1"},
        {"rate_limit_info": {"number_of_dropped_process_events": "9"}, "time": "2026-04-05T12:43:02Z"},
        {"test": {"arg0": "1"}, "node_name": "web-1"},
    ],
    ids=lambda message: next(iter(message)),
)
def test_what_only_goes_on_is_no_alert(message: Message) -> None:
    assert read(message) == Reading((), passed_over={"no_alert": 1})


@pytest.mark.parametrize("key", ["privileged-calls", "observability.privilege_escalation", "cap_capable", "default"])
def test_the_severity_is_configured(key: str) -> None:
    assert read_one(TETRAGON_KPROBE, severities={"tetragon": {key: "critical"}}).severity is Severity.CRITICAL
    assert read_one(TETRAGON_KPROBE, severities={"wazuh": {key: "critical"}}).severity is Severity.MEDIUM


def test_one_event_a_message() -> None:
    both = {**TETRAGON_KPROBE, "process_exec": {}}
    assert read(both).rejected[0].kind == "not_an_alert"
