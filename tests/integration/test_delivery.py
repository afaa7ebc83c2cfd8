# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""202 means answered or told: the real rulebook is killed and ended, hosts are down, frozen and silent meanwhile."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import os
import pathlib
import re
import signal
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.forwarder import Forwarder
from ansible_collections.ironpost.container_guard.tests.integration.guards import PATIENCE, Guard, GuardedHost, release
from ansible_collections.ironpost.container_guard.tests.integration.senders import (
    Json,
    Senders,
    elements,
    falco,
    health,
    metric,
    post,
)
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

# --- whatever is killed -----------------------------------------------------------------------------------------------

ENDS = (signal.SIGKILL, signal.SIGTERM)
TIMES = 10
"""How often the rulebook ends by each of them."""
DOWN = range(3, 14)
"""In which of its lives one host is down."""
RELEASES = (4, 10)
"""After which of its lives, ended by SIGKILL once its container was isolated, a person releases that."""
MOMENTS = ("accepted", "under way", "isolated")


def test_whatever_is_killed_every_accepted_alert_is_answered_or_told(testbed: t.Any, tmp_path: pathlib.Path) -> None:
    engines = [testbed.shared(engine) for engine in ("28.5", "26.1", "20.10")]
    with contextlib.ExitStack() as stack:
        forwarder = stack.enter_context(Forwarder(engines[2].ssh_port))
        hosts = [
            stack.enter_context(GuardedHost(f"web-{number}", engine, tmp_path, port))
            for number, (engine, port) in enumerate(zip(engines, (0, 0, forwarder.port), strict=True))
        ]
        first, second, third = hosts
        with concurrent.futures.ThreadPoolExecutor(len(hosts)) as pool:
            containers = dict(zip(hosts, pool.map(lambda host: host.make(2 * TIMES), hosts), strict=True))
        guard = stack.enter_context(
            Guard(tmp_path, {host.name: host.variables for host in hosts}, answer_timeout=20, answer_deadline=60)
        )
        senders = stack.enter_context(Senders(guard.port))
        released = []
        for life in range(2 * TIMES):
            if life == DOWN.start:
                # Else what it was asked before may not be answered in time, and is told.
                guard.wait_for(lambda: third.is_paused(containers[third][0]), "isolation before the host is down")
                forwarder.go_down()
            elif life == DOWN.stop:
                # What was accepted while it was down is told before it comes back.
                guard.wait_for(guard.told, "event about an alert that is unanswered")
                forwarder.come_up()
            new = {host: containers[host][life] for host in hosts}
            senders.send(_alerts(new))
            _reach(guard, senders, first, new[first], MOMENTS[life // 2 % 3])
            if life in RELEASES:
                # One more about what is isolated is accepted, and the rulebook ends before anything is done about it.
                guard.wait_for(lambda: senders.done, "answer to all that was sent")
                one_more = falco(new[first], first.name, rule="Reverse shell")
                senders.send([(new[first], first.name, one_more)])
                guard.wait_for(lambda: senders.done, "answer to one more")
            else:
                senders.send(_alerts(new))  # so that some are on their way
            status = guard.process.end(ENDS[life % 2], PATIENCE)
            if ENDS[life % 2] == signal.SIGTERM:
                assert status == 0
                assert guard.playbooks() == set(), "a playbook outlives the rulebook that ended in order"
            if life in RELEASES:
                release(guard, first, new[first], tmp_path)
                released.append(new[first])
            guard.process.start()
        guard.wait_for(lambda: senders.done, "answer to all that was sent")
        guard.wait_for(lambda: guard.waiting == 0, "end of all that was accepted")
        accounts = elements(guard.port)
        figures = {name: metric(guard.port, name) for name in ("waiting_alerts", "deliveries_under_way")}
        assert guard.process.end(patience=PATIENCE) == 0
        assert guard.playbooks() == set()

        outcomes = {host.name: host.outcomes() for host in hosts}
        # An event that was under way may have ended with the rulebook, the log has all.
        told = guard.unanswered()
        assert guard.told() <= told
        answered = [alert for alert in senders.accepted if "isolated" in outcomes[alert.host][alert.container]]
        assert [alert for alert in senders.accepted if alert not in answered and alert.trace_id not in told] == []
        assert senders.refused == []
        # Telling is not enough for hosts that were there.
        for host in (first, second):
            assert {alert.container for alert in answered if alert.host == host.name} == set(containers[host])
            assert [one for one in containers[host] if host.is_paused(one) == (one in released)] == []
        for container in released:
            happened = outcomes[first.name][container]
            assert "isolated" not in happened[happened.index("released") :]
        assert guard.process.log.count("has ended: answered, superseded") >= len(released)
        # Of the host that was down for a while, alerts of that while are told, and others are answered.
        assert told & {alert.trace_id for alert in senders.accepted if alert.host == third.name}
        for life in (0, 2 * TIMES - 1):
            assert third.is_paused(containers[third][life])

        others = ("answered", "unanswered", "folded", "dropped", "rejected", "passed_over", "handed_over", "waiting")
        assert accounts["received"] == sum(accounts[name] for name in others)
        assert [accounts[name] for name in others[3:]] == [0] * 5
        assert len(senders.accepted) <= accounts["received"] <= len(senders.accepted) + senders.unheard
        assert accounts["unanswered"] == len(told)
        assert figures == {"waiting_alerts": 0, "deliveries_under_way": 0}


def _alerts(containers: t.Mapping[GuardedHost, str]) -> list[tuple[str, str, Json]]:
    """Two alerts about a container of each host, and a repeat of the first."""
    rules = ("Terminal shell in container", "Outbound connection", "Terminal shell in container")
    return [
        (container, host.name, falco(container, host.name, rule=rule))
        for rule in rules
        for host, container in containers.items()
    ]


def _reach(guard: Guard, senders: Senders, host: GuardedHost, container: str, moment: str) -> None:
    """Wait until it has come so far: alerts are accepted, a playbook runs, or its container was isolated."""
    guard.wait_for(
        {
            "accepted": lambda: any(alert.container == container for alert in senders.accepted),
            "under way": guard.playbooks,
            "isolated": lambda: host.has_isolated(container),
        }[moment],
        f"{container[:12]} that is {moment}",
    )


# --- sick hosts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fragile(testbed: t.Any) -> t.Iterator[Host]:
    """A host for this run alone, whose engine may be frozen."""
    host = testbed.private("28.5")
    yield host
    host.heal()


@pytest.fixture
def healthy(testbed: t.Any, tmp_path: pathlib.Path) -> t.Iterator[GuardedHost]:
    """A host that is well."""
    with GuardedHost("healthy", testbed.shared("26.1"), tmp_path) as host:
        yield host


def test_a_frozen_and_a_silent_host_harm_only_themselves(
    fragile: Host, healthy: GuardedHost, testbed: t.Any, tmp_path: pathlib.Path
) -> None:
    with (
        Forwarder(testbed.shared("28.5").ssh_port) as forwarder,
        GuardedHost("frozen", fragile, tmp_path) as frozen,
        GuardedHost("silent", testbed.shared("28.5"), tmp_path, forwarder.port) as silent,
    ):
        hosts = [healthy, frozen, silent]
        containers = {host.name: host.make(1)[0] for host in hosts}
        fragile.freeze_engine()
        forwarder.go_down(silent=True)
        with Guard(tmp_path, {host.name: host.variables for host in hosts}) as guard:
            for host in (frozen, silent):
                assert post(guard.port, falco(containers[host.name], host.name))[0] == 202
            guard.wait_for(lambda: metric(guard.port, "deliveries_under_way") > 0, "delivery that is under way")
            guard.wait_for(guard.playbooks, "playbook that hangs")
            hanging = guard.playbooks()
            assert post(guard.port, falco(containers["healthy"], "healthy"))[0] == 202
            guard.wait_for(lambda: healthy.has_isolated(containers["healthy"]), "answer of the healthy host")
            assert guard.playbooks() & hanging, "the others were still under way"
            guard.wait_for(lambda: elements(guard.port)["answered"] == 1, "receipt of the healthy host")
            assert guard.waiting == 2
            assert guard.playbooks() & hanging

            # Once they are well they are answered, with what they were asked meanwhile.
            fragile.thaw_engine()
            forwarder.come_up()
            guard.wait_for(lambda: guard.waiting == 0, "answer of all hosts")
            assert elements(guard.port)["answered"] == 3
            assert all(host.is_paused(containers[host.name]) for host in hosts)
            assert health(guard.port)["troubles"] == []


def test_four_sick_hosts_leave_room_for_a_healthy_one(
    fragile: Host, healthy: GuardedHost, tmp_path: pathlib.Path
) -> None:
    with contextlib.ExitStack() as stack:
        sick = [stack.enter_context(GuardedHost(f"sick-{number}", fragile, tmp_path)) for number in range(4)]
        containers = [host.make(1)[0] for host in sick]
        wanted = healthy.make(3)
        fragile.freeze_engine()
        stack.callback(fragile.thaw_engine)
        # They are given up soon, so that each is asked again, in a run of its own.
        impatient = {"guard_action_timeout": 5, "guard_retry_max_attempts": 0}
        hosts = {host.name: {**host.variables, **impatient} for host in [*sick, healthy]}
        guard = stack.enter_context(Guard(tmp_path, hosts))
        for host, container in zip(sick, containers, strict=True):
            assert post(guard.port, falco(container, host.name))[0] == 202
        guard.wait_for(lambda: metric(guard.port, "sick_hosts") == len(sick), "hosts that are known as sick")
        for number, container in enumerate(wanted):
            guard.wait_for(guard.playbooks, "playbook that hangs")
            for host in sick:
                assert post(guard.port, falco("0" * 12, host.name, rule=f"noise {number}"))[0] == 202
            assert post(guard.port, falco(container, "healthy"))[0] == 202
            guard.wait_for(functools.partial(healthy.has_isolated, container), "answer of the healthy host")
        guard.wait_for(lambda: elements(guard.port)["answered"] == len(wanted), "receipts of the healthy host")
        assert guard.waiting == 4 * (1 + len(wanted))


def test_unanswered_is_told_while_every_run_hangs(healthy: GuardedHost, tmp_path: pathlib.Path) -> None:
    # The interpreter takes what it is sent, and waits for somebody who opens the other end.
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    interpreter = tmp_path / "hung"
    interpreter.write_text(f"#!/bin/sh\nread line <{gate}\n")
    interpreter.chmod(0o755)
    local = {"ansible_connection": "local", "ansible_python_interpreter": str(interpreter), "guard_task_timeout": 15}
    hung = {f"web-{number}": local for number in range(12)}
    hosts = {**hung, "healthy": healthy.variables}
    with Guard(tmp_path, hosts, answer_timeout=20, answer_deadline=40) as guard, _opened_at_last(gate):
        # One that answers says that receipts can come at all.
        post(guard.port, falco(healthy.make(1)[0], "healthy"))
        guard.wait_for(lambda: elements(guard.port)["answered"] == 1, "receipt of the healthy host")
        accepted = set()
        for host in hung:
            status, answer = post(guard.port, falco("0" * 12, host))
            assert status == 202
            accepted.add(answer["alerts"][0]["trace_id"])
        guard.wait_for(guard.playbooks, "playbook that hangs")
        guard.wait_for(lambda: guard.told() == accepted, "alerts that are told as unanswered")
        assert guard.playbooks(), "all of them hang"
        # Told means that the run has ended that tells it.
        guard.wait_for(lambda: elements(guard.port)["unanswered"] == len(hung), "end of what is told")
        assert elements(guard.port)["waiting"] == 0
        assert guard.unanswered() == accepted
        # What hangs does not outlive the rulebook.
        assert guard.process.end(patience=PATIENCE) == 0
        assert guard.playbooks() == set()


def test_a_run_that_does_not_end_is_ended(healthy: GuardedHost, tmp_path: pathlib.Path) -> None:
    # ansible-core removes its temporary directory when the host has answered, outside of any timeout.
    shell = tmp_path / "shell"
    shell.write_text('#!/bin/sh\ncase "$2" in *"rm -f -r"*) trap "" TERM; sleep 1000;; esac\nexec /bin/sh "$@"\n')
    shell.chmod(0o755)
    containers = healthy.make(2)
    hosts = {"healthy": {**healthy.variables, "ansible_shell_executable": str(shell)}}
    with Guard(tmp_path, hosts, run_timeout=30) as guard:
        for number, container in enumerate(containers, 1):
            assert post(guard.port, falco(container, "healthy"))[0] == 202
            guard.wait_for(lambda number=number: elements(guard.port)["answered"] == number, "receipt")
            assert guard.processes(str(shell)), "it goes on"
        guard.wait_for(lambda: not guard.processes(str(shell)), "end of what hangs")
        assert guard.playbooks() == set()
        ended = r"Ending a playbook run after \d+ seconds, of healthy: it lives longer than 30 seconds"
        assert len(re.findall(ended, guard.process.log)) == 2


@contextlib.contextmanager
def _opened_at_last(gate: pathlib.Path) -> t.Iterator[None]:
    """Let those go who wait to read from a pipe."""
    try:
        yield
    finally:
        os.close(os.open(gate, os.O_RDWR))
