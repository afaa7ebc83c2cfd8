# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import pathlib
import re
import typing as t

import pytest

import ansible_collections.ironpost.container_guard as collection
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.admission import Admission
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import (
    Deliveries,
    DeliverySettings,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.health import Health
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka import KafkaInput
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Connections
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import COUNTED, Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reporting import Reports
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Spool
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted

DOCUMENTATION = pathlib.Path(next(iter(collection.__path__)), "docs/alerts.md")


class Watching:
    """Stands in for what watches a file that cannot be used."""

    def troubles(self) -> list[str]:
        return ["policy_set cannot be used"]


async def test_each_metric_is_documented_and_the_documentation_holds_no_other(
    tmp_path: pathlib.Path, authority: t.Any
) -> None:
    certificate, key = authority.issue("guard")
    kafka = {"bootstrap_servers": ["127.0.0.1:1"], "topics": ["alerts"]}
    options = parse_options({"token": "correct-horse-battery", "certfile": certificate, "keyfile": key, "kafka": kafka})
    assert options.kafka
    spool = await Spool.open(tmp_path / "spool")
    deliveries = Deliveries(spool, DeliverySettings(), asyncio.Queue[t.Any]().put)
    health = Health(spool, deliveries, Connections(1, 1), Counters(), Tls(options))
    admission = Admission(options, spool, Wanted(None, 3600), health.counters)
    kafka_input = KafkaInput(options.kafka, admission, spool, {}, 1024, health.counters)
    reports = await Reports.open(tmp_path / "spool", health.counters)
    health.measured += [kafka_input.figures, reports.figures]
    families = {family.name: family for family in health.families()}
    await reports.close()
    await spool.close()
    rows = re.findall(
        r"^\| `container_guard_(\w+)` \| (\w+) \|", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert dict(rows) == {name: family.kind for name, family in families.items()}
    assert set(COUNTED) < set(families)
    assert all(family.help != family.name for family in families.values())
    assert [labels for labels in families["elements_total"].samples if labels[0][1] == "waiting"] == []


async def test_troubles_fail_and_warnings_do_not(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = await Spool.open(tmp_path / "spool")
    deliveries = Deliveries(spool, DeliverySettings(), asyncio.Queue[t.Any]().put)
    health = Health(spool, deliveries, Connections(1, 1), Counters(), watching=[Watching()], notes=["a note"])
    status, shown = health.shown()
    assert (status, shown["troubles"], shown["warnings"]) == (200, [], ["policy_set cannot be used", "a note"])
    # The deliveries name the troubles of the spool, too.
    monkeypatch.setattr(spool, "troubles", lambda: ["the disk is full"])
    status, shown = health.shown()
    assert (status, shown["status"], shown["troubles"]) == (503, "failing", ["the disk is full"])
    await spool.close()
