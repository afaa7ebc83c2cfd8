# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import pathlib
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    alerts,
    containers,
    policy_sets,
)

SHELL = Alert(
    id="a",
    trace_id="t",
    source="falco",
    rule="Shell",
    severity=Severity.HIGH,
    received_at="",
    host="web-1",
    inventory_host="web-1",
    tags=("shell",),
    container=ContainerRef(id="0123456789ab"),
)
MINER = dataclasses.replace(SHELL, rule="Miner")
HOSTS = ["web-1"]
HOUR = 3600.0


def policy_set(*policies: dict[str, t.Any]) -> PolicySet:
    actions = {"actions": [{"type": "pause"}]}
    return PolicySet.of([Policy.from_dict({"id": f"p{n}", **actions, **each}) for n, each in enumerate(policies)])


WANTS_SHELLS = policy_set({"rules": ["Shell*"]})
WANTS_MINERS = policy_set({"rules": ["Miner*"]})
WANTS_NEITHER = policy_set({"rules": ["Something else"]})


class Clock:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Guarded:
    """A policy set in a file, and who asks it."""

    def __init__(self, path: pathlib.Path, **options: t.Any) -> None:
        self.path = path
        self.clock = Clock()
        self.wanted = Wanted(path, HOUR, self.clock, **options)

    def deploy(self, found: PolicySet | str) -> str:
        """Put the set in place as the module does, by rename. Returns its digest."""
        new = self.path.with_name("new")
        new.write_text(found if isinstance(found, str) else found.to_json())
        new.rename(self.path)
        self.wanted.refresh()
        return "" if isinstance(found, str) else found.digest

    def wants(self, alert: Alert, hosts: list[str] | None = None) -> bool:
        return self.wanted.wants(alert, HOSTS if hosts is None else hosts)


@pytest.fixture
def guarded(tmp_path: pathlib.Path) -> Guarded:
    return Guarded(tmp_path / "policy_set.json")


@pytest.fixture
def unconfirmed(tmp_path: pathlib.Path) -> Guarded:
    return Guarded(tmp_path / "policy_set.json", receipts=False)


def test_without_a_policy_set_everything_is_wanted() -> None:
    wanted = Wanted(None)
    wanted.refresh()
    assert wanted.wants(MINER, HOSTS)
    assert wanted.troubles() == []


def test_a_host_that_has_not_said_which_set_it_has_is_sent_everything(guarded: Guarded) -> None:
    digest = guarded.deploy(WANTS_SHELLS)
    assert guarded.wants(MINER)
    guarded.wanted.confirmed("web-2", digest)
    assert guarded.wants(MINER)
    guarded.wanted.confirmed("web-1", digest)
    assert not guarded.wants(MINER)
    assert guarded.wants(SHELL)


def test_a_deployment_between_two_alerts(guarded: Guarded) -> None:
    old = guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", old)
    assert [guarded.wants(SHELL), guarded.wants(MINER)] == [True, False]

    new = guarded.deploy(WANTS_MINERS)
    # The host has the one or the other.
    assert [guarded.wants(SHELL), guarded.wants(MINER)] == [True, True]
    assert not guarded.wants(dataclasses.replace(SHELL, rule="Something else"))
    guarded.wanted.confirmed("web-1", new)
    assert [guarded.wants(SHELL), guarded.wants(MINER)] == [False, True]


def test_an_alert_is_dropped_only_where_each_host_that_is_asked_has_the_set(guarded: Guarded) -> None:
    old = guarded.deploy(WANTS_SHELLS)
    new = guarded.deploy(WANTS_MINERS)
    both = ["web-1", "web-2"]
    guarded.wanted.confirmed("web-1", new)
    assert guarded.wants(SHELL, both)
    guarded.wanted.confirmed("web-2", old)
    assert guarded.wants(SHELL, both)
    guarded.wanted.confirmed("web-2", new)
    assert not guarded.wants(SHELL, both)
    assert guarded.wants(SHELL, ["all"]), "nothing is known of a pattern"
    assert guarded.wants(SHELL, [])


def test_a_host_with_a_set_that_nobody_here_knows_is_sent_everything(guarded: Guarded) -> None:
    guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", WANTS_MINERS.digest)
    assert guarded.wants(MINER)
    assert guarded.wants(dataclasses.replace(SHELL, rule="Something else"))
    guarded.wanted.confirmed("web-1", "")
    assert guarded.wants(MINER)


def test_a_host_may_be_several_deployments_behind(guarded: Guarded) -> None:
    digest = guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", digest)
    guarded.deploy(WANTS_MINERS)
    guarded.deploy(WANTS_NEITHER)
    assert guarded.wants(SHELL)
    assert not guarded.wants(MINER), "it has the one that it confirmed, or the one in force"


def test_a_set_that_is_deployed_again_is_in_force_again(guarded: Guarded) -> None:
    first = guarded.deploy(WANTS_SHELLS)
    guarded.deploy(WANTS_MINERS)
    guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", first)
    assert guarded.wanted.digest == first
    assert not guarded.wants(MINER)


def test_a_confirmation_grows_too_old(guarded: Guarded) -> None:
    guarded.wanted.confirmed("web-1", guarded.deploy(WANTS_SHELLS))
    guarded.clock.now += HOUR / 2
    assert not guarded.wants(MINER)
    guarded.clock.now += HOUR / 2 + 1
    assert [guarded.wants(MINER), guarded.wants(MINER)] == [True, True]


def test_one_alert_now_and_then_renews_a_confirmation_before_it_is_too_old(guarded: Guarded) -> None:
    digest = guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", digest)
    passed = []
    for minute in range(1, 24 * 60):
        guarded.clock.now += 60
        flood = [guarded.wants(MINER) for _each in range(100)]
        assert flood.count(True) <= 1
        if any(flood):
            passed.append(minute)
            guarded.wanted.confirmed("web-1", digest)  # the receipt of that one
    assert len(passed) == 46, "one in the second half of each hour, as soon as it begins"


def test_a_bad_new_set_keeps_the_old_one_and_tells(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    digest = guarded.deploy(WANTS_SHELLS)
    guarded.wanted.confirmed("web-1", digest)
    changed = WANTS_MINERS.to_json().replace("Miner*", "*")
    for bad in (changed, "{", "", "[]", '{"format": 2}', '{"format": 1}', "\udcff"):
        with contextlib.suppress(UnicodeEncodeError):
            guarded.deploy(bad)
        (trouble,) = guarded.wanted.troubles()
        assert str(guarded.path) in trouble
        assert "Deploy the policy set again" in trouble
        assert f"{trouble}. Meanwhile the set {digest} stays in force" in caplog.text
        assert [guarded.wants(SHELL), guarded.wants(MINER)] == [True, False]
    lines = len(caplog.records)
    guarded.wanted.refresh()
    assert (len(caplog.records), len(guarded.wanted.troubles())) == (lines, 1), "told once, and not forgotten"
    guarded.deploy(WANTS_MINERS)
    assert guarded.wanted.troubles() == []
    assert guarded.wanted.digest == WANTS_MINERS.digest


def test_a_set_that_goes_keeps_the_old_one_and_tells(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    guarded.wanted.confirmed("web-1", guarded.deploy(WANTS_SHELLS))
    guarded.path.unlink()
    for _again in range(3):
        guarded.wanted.refresh()
    assert caplog.text.count("cannot be read") == 1
    assert guarded.wanted.troubles() == [f"policy_set {guarded.path} cannot be read: No such file or directory"]
    assert not guarded.wants(MINER)
    guarded.deploy(WANTS_SHELLS)
    assert guarded.wanted.troubles() == []


def test_alerts_that_expire_before_they_are_given_up_are_told(
    tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture
) -> None:
    guarded = Guarded(tmp_path / "policy_set.json", answer_deadline=600.0)
    for age, wrong in ((900, False), (600, True), (0, False), (300, True), (601, False)):
        caplog.clear()
        guarded.deploy(dataclasses.replace(WANTS_SHELLS, limits=Limits(max_alert_age=age)))
        found = guarded.wanted.troubles()
        assert found == [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert [f"max_alert_age of the policy set {age}" in trouble for trouble in found] == [True] * wrong


def test_bytes_that_are_no_text_are_told(guarded: Guarded) -> None:
    guarded.path.write_bytes(b"\xff\xfe")
    guarded.wanted.refresh()
    assert "cannot be used" in guarded.wanted.troubles()[0]
    assert guarded.wants(MINER)


def test_a_pipe_in_its_place_hangs_nobody(guarded: Guarded) -> None:
    os.mkfifo(guarded.path)
    guarded.wanted.refresh()
    assert "not a regular file" in guarded.wanted.troubles()[0]
    assert guarded.wants(MINER)


async def test_watching_sees_a_deployment(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    guarded.path.write_text(WANTS_SHELLS.to_json())
    watching = asyncio.create_task(guarded.wanted.watch())
    async with asyncio.timeout(30):
        for found in (WANTS_SHELLS, WANTS_MINERS):
            guarded.path.write_text(found.to_json())
            while guarded.wanted.digest != found.digest:
                await asyncio.sleep(0.01)
    watching.cancel()


def test_without_receipts_the_set_is_believed_and_the_one_before_counts_for_a_while(unconfirmed: Guarded) -> None:
    unconfirmed.deploy(WANTS_SHELLS)
    assert [unconfirmed.wants(SHELL), unconfirmed.wants(MINER)] == [True, False]
    unconfirmed.clock.now += HOUR
    unconfirmed.deploy(WANTS_MINERS)
    assert [unconfirmed.wants(SHELL), unconfirmed.wants(MINER)] == [True, True]
    unconfirmed.clock.now += HOUR / 2
    unconfirmed.deploy(WANTS_NEITHER)
    assert [unconfirmed.wants(SHELL), unconfirmed.wants(MINER)] == [True, True]
    unconfirmed.clock.now += HOUR / 2 + 1
    assert [unconfirmed.wants(SHELL), unconfirmed.wants(MINER)] == [False, True]
    unconfirmed.clock.now += HOUR / 2
    assert [unconfirmed.wants(SHELL), unconfirmed.wants(MINER)] == [False, False]


@pytest.mark.parametrize(
    ("policy", "alert", "wanted"),
    [
        ({"severity_threshold": "critical"}, SHELL, False),
        ({"severity_threshold": "high"}, SHELL, True),
        ({"sources": ["tetragon"]}, SHELL, False),
        ({"tags": ["network"]}, SHELL, False),
        ({"hosts": ["db-*"]}, SHELL, False),
        ({"hosts": ["web-*"]}, SHELL, True),
        ({"enabled": False}, SHELL, False),
        # Which host it is about is found out by asking all of them: what the detector calls it does not count.
        ({"hosts": ["db-*"]}, dataclasses.replace(SHELL, inventory_host=""), True),
        # Whatever container has this id, its name, image and labels are not known here.
        ({"target_filter": {"container_names": ["x"], "image_patterns": ["y"], "labels": ["z"]}}, SHELL, True),
        # The host says "unresolved" of a name that nothing has, and that is told.
        (
            {"target_filter": {"container_names": ["x"]}},
            dataclasses.replace(SHELL, container=ContainerRef(name="web")),
            True,
        ),
        # It is put on record that an alert that a policy wants is about no container of Docker.
        ({}, dataclasses.replace(SHELL, container=ContainerRef(subject=Subject.NOT_DOCKER)), True),
        (
            {"rules": ["Miner"]},
            dataclasses.replace(SHELL, container=ContainerRef(subject=Subject.NOT_DOCKER)),
            False,
        ),
        # An address may turn out to be that of one container.
        ({}, dataclasses.replace(SHELL, source="suricata", container=ContainerRef(addresses=("172.18.0.4",))), True),
        (
            {"scope": "matching_containers"},
            dataclasses.replace(SHELL, source="suricata", container=ContainerRef(addresses=("172.18.0.4",))),
            True,
        ),
        ({"scope": "matching_containers"}, SHELL, False),
        ({}, dataclasses.replace(SHELL, source="suricata", container=ContainerRef()), False),
        (
            {"scope": "matching_containers"},
            dataclasses.replace(SHELL, source="suricata", container=ContainerRef()),
            True,
        ),
    ],
)
def test_what_no_policy_can_want_whatever_container_it_is_about(
    guarded: Guarded, policy: dict[str, t.Any], alert: Alert, wanted: bool
) -> None:
    guarded.wanted.confirmed("web-1", guarded.deploy(policy_set(policy)))
    assert guarded.wants(alert) is wanted


@settings(max_examples=300)
@given(policy_sets(4), alerts, containers, st.sampled_from(["a", "ab", "ba"]))
def test_what_is_dropped_would_be_answered_nowhere(
    tmp_path_factory: pytest.TempPathFactory, found: PolicySet, alert: Alert, container: t.Any, host: str
) -> None:
    guarded = Guarded(tmp_path_factory.getbasetemp() / "property.json")
    guarded.wanted.confirmed(host, guarded.deploy(found))
    if not guarded.wants(alert, [host]):
        on_host = alert if alert.inventory_host else dataclasses.replace(alert, inventory_host=host)
        assert PolicyEngine(found).decide(on_host, container) is None


def test_what_attackers_write_is_not_kept_for_ever(guarded: Guarded) -> None:
    guarded.wanted.confirmed("web-1", guarded.deploy(WANTS_SHELLS))
    for number in range(5_000):
        assert not guarded.wants(dataclasses.replace(MINER, rule=f"Miner {number}"))
    (in_force,) = guarded.wanted._sets
    assert 0 < len(in_force.engine._alert_masks) <= 1_000
