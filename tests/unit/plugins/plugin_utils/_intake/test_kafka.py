# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A source with topics whose brokers are not there. What brokers do is in tests/integration/test_kafka_input.py."""

from __future__ import annotations

import asyncio
import json
import pathlib
import socket
import sys
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka import KafkaInput
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_client import ssl_context
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options

Start = t.Any
PACKAGE = KafkaInput.__module__.rpartition(".")[0]


@pytest.fixture
def kafka() -> t.Iterator[dict[str, t.Any]]:
    """Topics at an address where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield {"bootstrap_servers": [f"127.0.0.1:{bound.getsockname()[1]}"], "topics": ["alerts"]}


async def test_while_the_brokers_are_away_it_is_told_and_others_are_served(
    start: Start, kafka: dict[str, t.Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with start(hosts=["web-1"], kafka=kafka) as intake:
        await intake.metric('kafka_failures_total{what="connect"}', 2)
        status, health = await intake.health()
        assert (status, len(health["warnings"])) == (200, 1)
        assert health["warnings"][0].startswith(f"kafka (alerts at {kafka['bootstrap_servers'][0]}): ")
        metrics = await intake.metrics()
        assert [metrics[f"kafka_{name}"] for name in ("connected", "partitions", "lag_records")] == [0, 0, 0]
        alert = {"source": "sensor", "rule": "r", "severity": "high", "host": "web-1"}
        assert (await intake.post(json.dumps(alert)))[0] == 202
        intake.stop.set()
        await asyncio.wait([intake.task], timeout=30)
        assert intake.task.done()
        assert intake.task.exception() is None
    assert caplog.text.count("connect failed, and is tried again") == 1
    assert "Alerts of kafka cross the network in clear text" in caplog.text


@pytest.mark.parametrize("package", ["aiokafka", "cramjam"])
async def test_a_client_that_is_missing_is_said_at_the_start(
    start: Start, kafka: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    for name in ("kafka", "kafka_client"):
        # It is loaded anew, and that one has no effect on other tests.
        monkeypatch.setattr(sys.modules[PACKAGE], name, sys.modules[f"{PACKAGE}.{name}"])
        monkeypatch.delitem(sys.modules, f"{PACKAGE}.{name}")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"its client is missing .*pip install aiokafka cramjam"):
        async with start(kafka=kafka):
            pass


async def test_certificates_that_cannot_be_used_are_said_at_the_start(
    start: Start, kafka: dict[str, t.Any], tmp_path: pathlib.Path
) -> None:
    (tmp_path / "ca.crt").write_text("nonsense")
    for path in (tmp_path / "ca.crt", tmp_path / "none.crt"):
        with pytest.raises(ValueError, match=r"the files of kafka .* cannot be used"):
            async with start(kafka={**kafka, "security_protocol": "SSL", "cafile": str(path)}):
                pass


def test_brokers_are_checked_and_may_check(kafka: dict[str, t.Any], authority: t.Any) -> None:
    certificate, key = authority.issue("guard")
    files = {"cafile": authority.path, "certfile": certificate, "keyfile": key}
    options = parse_options({"kafka": {**kafka, "security_protocol": "SSL", **files}})
    assert options.kafka
    context = ssl_context(options.kafka)
    assert context
    assert context.check_hostname
    assert len(context.get_ca_certs()) == 1
