# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import Reading
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._alert.detectors.samples import (
    ALERTMANAGER,
    ALERTMANAGER_FALCO,
    FIRING,
    GRAFANA,
    ID,
    RANCHER,
    RESOLVED,
    Message,
    read,
    read_one,
)

OTHER = "f" * 64


def group(*alerts: object, **more: object) -> Message:
    return {**ALERTMANAGER, "alerts": list(alerts), **more}


def labelled(**labels: object) -> Message:
    return group({**FIRING, "labels": {"alertname": "A", **labels}})


def test_a_group() -> None:
    found = read(ALERTMANAGER)
    assert (found.rejected, found.passed_over) == ((), {"resolved": 1})
    (alert,) = found.alerts
    assert (alert.source, alert.rule, alert.severity) == ("alertmanager", "ContainerMiner", Severity.CRITICAL)
    assert (alert.host, alert.time) == ("web-1", "2026-04-05T12:43:02.928000Z")
    assert alert.message == "for 10 minutes"
    assert "job=cadvisor" in alert.tags
    assert alert.container == ContainerRef(id=ID, name="shop", image="registry.example.com:5000/shop:4.2")


def test_an_alert_is_the_same_as_long_as_it_fires() -> None:
    first, again = read_one(group(FIRING)), read_one(group(FIRING, status="firing", groupKey="other"))
    assert first.id == again.id == "c1d2e3f405162738-2026-04-05T12:43:02.928000Z"
    assert read_one(group({**FIRING, "startsAt": "2026-04-05T14:43:02.928+02:00"})).id == first.id
    assert read_one(group({**FIRING, "startsAt": "2026-04-06T12:43:02.928Z"})).id != first.id
    assert len(read_one(group({**FIRING, "fingerprint": None})).id) == 36


@pytest.mark.parametrize("status", ["firing", "resolved"])
def test_each_alert_has_a_status_of_its_own(status: str) -> None:
    assert read(group(RESOLVED, RESOLVED, status=status)) == Reading((), passed_over={"resolved": 2})
    assert len(read(group(FIRING, status=status)).alerts) == 1


def test_without_one_that_of_the_group_counts() -> None:
    assert read_one(RANCHER).container.id == ID
    assert read({**RANCHER, "status": "resolved"}) == Reading((), passed_over={"resolved": 1})


def test_grafana_sends_the_same_under_its_own_name() -> None:
    alert = read_one(GRAFANA)
    assert (alert.source, alert.rule, alert.container.id) == ("grafana", "ContainerMiner", ID)
    assert read_one(GRAFANA, severities={"grafana": {"critical": "low"}}).severity is Severity.LOW


def test_alerts_that_were_left_out_are_told() -> None:
    found = read(group(FIRING, truncatedAlerts=3))
    assert len(found.alerts) == 1
    (rejected,) = found.rejected
    assert (rejected.index, rejected.kind) == (1, "truncated")
    assert rejected.reason == "3 more alerts of the group were left out"
    assert "max_alerts: 0" in rejected.remedy
    assert found.received == 2


def test_one_bad_alert_refuses_no_other() -> None:
    found = read(group("x", {**FIRING, "labels": None}, FIRING))
    assert len(found.alerts) == 1
    assert [(each.index, each.reason) for each in found.rejected] == [
        (0, "the alert is not a JSON object"),
        (1, "rule is missing"),
    ]


@pytest.mark.parametrize(
    ("labels", "container"),
    [
        ({"id": f"/docker/{ID}", "name": "shop"}, ContainerRef(id=ID, name="shop")),
        ({"id": f"/system.slice/docker-{ID}.scope"}, ContainerRef(id=ID)),
        ({"id": f"/user.slice/user-1000.slice/user@1000.service/app.slice/docker-{ID}.scope"}, ContainerRef(id=ID)),
        ({"id": f"/docker/{ID}", "pod": "shop-5d7", "namespace": "default"}, ContainerRef(id=ID)),
        # What is made within a container is in that container, whatever it is called, and whatever cAdvisor calls it.
        ({"id": f"/docker/{ID}/init.scope"}, ContainerRef(id=ID)),
        ({"id": f"/docker/{ID}/docker/{OTHER}", "name": "victim", "image": "v:1"}, ContainerRef(id=ID)),
        ({"id": f"/system.slice/docker-{ID}.scope/docker-{OTHER}.scope", "name": "victim"}, ContainerRef(id=ID)),
        ({"id": f"/docker/{ID}/../{OTHER}", "name": "victim"}, ContainerRef(id=ID)),
        ({"id": f"/docker/{ID}-x/docker/{OTHER}"}, ContainerRef(id=OTHER)),
        # Not of Docker.
        ({"id": "/"}, ContainerRef(subject=Subject.NOT_DOCKER)),
        ({"id": "/system.slice/ssh.service", "name": "shop"}, ContainerRef(subject=Subject.NOT_DOCKER)),
        ({"id": f"/kubepods/burstable/pod1/{ID}"}, ContainerRef(subject=Subject.NOT_DOCKER)),
        (
            {"container": "shop", "pod": "shop-5d7", "namespace": "default", "image": "shop"},
            ContainerRef(subject=Subject.NOT_DOCKER),
        ),
        # A rule that keeps the name alone.
        ({"name": "shop", "image": "shop:4.2"}, ContainerRef(name="shop", image="shop:4.2")),
        ({"name": "shop"}, ContainerRef(name="shop")),
        # None of cAdvisor's.
        ({"container": "shop"}, ContainerRef()),
        ({"id": "7"}, ContainerRef()),
        ({"container_id": ID, "container_name": "shop"}, ContainerRef()),
    ],
)
@pytest.mark.parametrize("job", ["cadvisor", "integrations/cadvisor"])
def test_labels_of_cadvisor_name_a_container(job: str, labels: Message, container: ContainerRef) -> None:
    assert read_one(labelled(job=job, **labels)).container == container


@pytest.mark.parametrize("job", [None, "", "shop", "not-cadvisor", ["cadvisor"]])
@pytest.mark.parametrize(
    "labels",
    [
        {"id": f"/docker/{ID}", "name": "victim", "image": "v:1"},
        {"name": "victim", "image": "v:1", "container_label_x": "y"},
        {"name": "docker.service", "state": "failed"},
        {"container_id": ID[:12]},
        {"container_name": "victim"},
        {"exported_job": "cadvisor", "name": "victim"},
    ],
)
def test_a_workload_names_no_container_by_the_labels_of_its_metrics(job: object, labels: Message) -> None:
    assert read_one(labelled(job=job, **labels)).container == ContainerRef()


@pytest.mark.parametrize("more", [{}, {"job": "cadvisor"}, {"job": "shop", "instance": "web-1:9000"}])
def test_a_workload_does_not_pass_for_falco_by_the_labels_of_its_metrics(more: Message) -> None:
    """Whatever a rule of Prometheus makes bears its name, also where the rule keeps no other label."""
    (falco,) = ALERTMANAGER_FALCO["alerts"]
    alert = read_one(labelled(**{**falco["labels"], "severity": "warning", "hostname": "web-2", **more}))
    assert (alert.source, alert.rule, alert.severity) == ("alertmanager", "A", Severity.MEDIUM)
    assert alert.container == ContainerRef()


def test_falcosidekick_by_way_of_alertmanager_is_falco() -> None:
    alert = read_one(ALERTMANAGER_FALCO)
    assert (alert.source, alert.rule, alert.severity) == ("falco", "Terminal shell in container", Severity.LOW)
    assert (alert.host, alert.tags, alert.message) == ("web-1", ("container", "shell"), "A shell")
    assert (alert.id, alert.time) == ("c1d2e3f405162738-2026-04-05T12:43:02.928000Z", "2026-04-05T12:43:02.928000Z")
    assert alert.container == ContainerRef(id=ID[:12], name="shop", image="registry.example.com:5000/shop:4.2")


def test_falcosidekick_by_way_of_alertmanager_about_the_host() -> None:
    (alert,) = ALERTMANAGER_FALCO["alerts"]
    host = {**alert, "labels": {**alert["labels"], "container_id": "host", "container_name": "host"}}
    assert read_one(group(host)).subject is Subject.NOT_DOCKER


@pytest.mark.parametrize(
    ("labels", "host"),
    [
        ({"instance": "web-1:9100"}, "web-1"),
        ({"instance": "web-1"}, "web-1"),
        ({"instance": "192.0.2.7:9100"}, "192.0.2.7"),
        ({"instance": "[::1]:9100"}, ""),
        ({"instance": "cadvisor:8080", "node": "web-1", "job": "cadvisor"}, "web-1"),
        ({"instance": "cadvisor:8080", "hostname": "web-1", "node": "", "job": "cadvisor"}, "web-1"),
        # A workload writes the labels of its metrics, but not of what target they are.
        *(({"instance": "web-1:9000", label: "web-2"}, "web-1") for label in ("host", "hostname", "node", "nodename")),
        ({"hostname": "web-2", "job": "shop"}, ""),
        ({"instance": 7, "host": None}, ""),
        ({}, ""),
    ],
)
def test_the_host(labels: Message, host: str) -> None:
    assert read_one(labelled(**labels)).host == host


@pytest.mark.parametrize(
    ("label", "severity"),
    [
        ("critical", Severity.CRITICAL),
        ("page", Severity.CRITICAL),
        ("error", Severity.HIGH),
        ("Warning", Severity.MEDIUM),
        ("info", Severity.INFO),
        ("none", Severity.INFO),
        ("ticket", Severity.MEDIUM),
        (None, Severity.MEDIUM),
        (["critical"], Severity.MEDIUM),
    ],
)
def test_severities(label: object, severity: Severity) -> None:
    assert read_one(labelled(severity=label)).severity is severity


def test_severities_are_configured_by_rule_or_label() -> None:
    for key in ("a", "team=shop", "ticket"):
        found = read_one(labelled(severity="ticket", team="shop"), severities={"alertmanager": {key: "high"}})
        assert found.severity is Severity.HIGH


def test_a_group_without_alerts() -> None:
    (rejected,) = read(group(None)).rejected
    assert rejected.reason == "the alert is not a JSON object"
