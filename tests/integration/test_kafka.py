# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two real rulebooks share a topic of a real broker, and one is killed: nothing lost, nothing answered twice."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import pathlib
import re
import signal
import typing as t

from ansible_collections.ironpost.container_guard.tests.integration.forwarder import Forwarder
from ansible_collections.ironpost.container_guard.tests.integration.guards import PATIENCE, Guard, GuardedHost, release
from ansible_collections.ironpost.container_guard.tests.integration.kafka_broker import Broker, Message
from ansible_collections.ironpost.container_guard.tests.integration.senders import elements, falco, metric

TOPIC, GROUP = "alerts", "guards"
PARTITIONS = 4
ROUNDS = 4
"""Containers of each host: before all, released by a person, at the time of the kill, and afterwards."""


def test_what_a_controller_that_is_killed_had_is_answered_by_another(testbed: t.Any, tmp_path: pathlib.Path) -> None:
    engines = [testbed.shared(engine) for engine in ("28.5", "26.1")]
    for name in ("broker", "first", "second"):
        (tmp_path / name).mkdir()
    with contextlib.ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        broker.run(broker.make_topic(TOPIC, PARTITIONS))
        # One for each partition, and one that cannot be reached for a while.
        hosts = [
            stack.enter_context(GuardedHost(f"web-{number}", engines[number % 2], tmp_path))
            for number in range(PARTITIONS)
        ]
        forwarder = stack.enter_context(Forwarder(engines[0].ssh_port))
        late = stack.enter_context(GuardedHost("late", engines[0], tmp_path, forwarder.port))
        pool = stack.enter_context(concurrent.futures.ThreadPoolExecutor(2))
        made = list(pool.map(lambda host: host.make(ROUNDS if host is not late else 1), [*hosts, late]))
        (kept_waiting,) = made.pop()
        sent = 0

        def send(*messages: Message) -> None:
            nonlocal sent
            sent += len(messages)
            broker.run(broker.send(TOPIC, messages))

        def of_each(number: int) -> list[Message]:
            return [_about(part, host, made[part][number]) for part, host in enumerate(hosts)]

        def all_isolated(number: int) -> bool:
            return all(host.has_isolated(made[part][number]) for part, host in enumerate(hosts))

        variables = {host.name: host.variables for host in [*hosts, late]}
        kafka = {"bootstrap_servers": [broker.address], "topics": [TOPIC], "group_id": GROUP, "detector": "falco"}
        guards = [Guard(tmp_path / name, variables, kafka=kafka) for name in ("first", "second")]
        first, second = pool.map(stack.enter_context, guards)
        for guard in (first, second):
            guard.wait_for(lambda guard=guard: metric(guard.port, "kafka_partitions") == 2, "half of the partitions")
        send(*of_each(0))
        second.wait_for(lambda: all_isolated(0), "isolation by both")
        for guard in (first, second):
            guard.wait_for(lambda guard=guard: elements(guard.port)["answered"] == 2, "receipts at both")

        # An alert that is not answered holds back the offset of one that is, about what a person releases then.
        part = _partitions(first)[0]
        forwarder.go_down()
        send(_about(part, late, kept_waiting), _about(part, hosts[part], made[part][1]))
        first.wait_for(lambda: elements(first.port)["answered"] == 3, "answer behind the one that waits")
        assert first.waiting == 1
        release(first, hosts[part], made[part][1], tmp_path)

        send(*of_each(2))
        first.wait_for(lambda: elements(first.port)["received"] == 6, "alerts on their way")
        first.wait_for(first.playbooks, "playbook that runs")
        assert first.process.end(signal.SIGKILL) == -signal.SIGKILL
        forwarder.come_up()
        second.wait_for(lambda: metric(second.port, "kafka_partitions") == PARTITIONS, "partitions of the dead one")
        second.wait_for(lambda: all_isolated(2), "isolation of what was under way")
        second.wait_for(lambda: late.has_isolated(kept_waiting), "isolation of what waited")
        second.wait_for(lambda: second.waiting == 0, "end of all alerts")
        second.wait_for(lambda: _committed(broker) == sent, "commit of all that was sent")

        # It comes back, with alerts in its spool that others have answered.
        first.process.start()
        first.wait_for(lambda: first.waiting == 0, "end of what was in its spool")
        for guard in (first, second):
            guard.wait_for(lambda guard=guard: metric(guard.port, "kafka_partitions") == 2, "half of the partitions")
        send(*of_each(3))
        second.wait_for(lambda: all_isolated(3), "isolation by both again")
        for guard in (first, second):
            guard.wait_for(lambda guard=guard: guard.waiting == 0, "end of all alerts")
        accounts = [elements(guard.port) for guard in (first, second)]
        # What is done is committed as they end.
        assert list(pool.map(lambda guard: guard.process.end(patience=PATIENCE), guards)) == [0, 0]
        assert _committed(broker) == sent

        for place, host in enumerate(hosts):
            outcomes = host.outcomes()
            for number, container in enumerate(made[place]):
                released = (place, number) == (part, 1)
                if number == 1 and not released:
                    assert outcomes.get(container, []) == []  # nothing was sent about it
                    continue
                assert outcomes[container].count("isolated") == 1, outcomes[container]
                assert host.is_paused(container) != released
        assert late.outcomes()[kept_waiting].count("isolated") == 1
        assert hosts[part].outcomes()[made[part][1]][-1] == "released"
        assert first.unanswered() == second.unanswered() == set()
        others = ("answered", "unanswered", "folded", "dropped", "rejected", "passed_over", "handed_over", "waiting")
        for found in accounts:
            assert found["received"] == sum(found[name] for name in others)
            assert [found[name] for name in ("unanswered", "dropped", "rejected", "passed_over", "waiting")] == [0] * 5
        # What was not committed when it was killed came twice: two that waited and one that was answered, at least.
        assert sum(found["received"] for found in accounts) >= sent + 3


def _about(part: int, host: GuardedHost, container: str) -> Message:
    return part, host.name.encode(), json.dumps(falco(container, host.name)).encode()


def _partitions(guard: Guard) -> list[int]:
    """Those that a controller was given last, by its log."""
    listed = re.findall(rf"Partitions of this member of group {GROUP}: (.*)", guard.process.log)
    return [int(number) for number in re.findall(rf"{TOPIC}/([0-9]+)", listed[-1])]


def _committed(broker: Broker) -> int:
    """How many records the group has committed."""
    found: dict[int, int] = broker.run(broker.committed(GROUP, TOPIC))
    return sum(max(0, offset) for offset in found.values())
