# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module alert_response: what the host returns is checked on the controller.

Only the controller knows the inventory, so it is said here when an alert is about a host that is not in it. And the
event source is told here, as soon as the host has answered, what became of the alerts: the receipt.
"""

from __future__ import annotations

import concurrent.futures
import os
import typing as t

from ansible.errors import AnsibleConnectionFailure

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now, utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import UNKNOWN_HOST
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks, receipt
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.controller import (
    absent_hosts,
    actor_of,
    concerned,
    event_alerts,
    given_alerts,
    hosts_of_nobody,
    run_hosts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import inert, shown_line

Json = dict[str, t.Any]


class ActionModule(HostAction):
    """Answer the alerts on the host."""

    module = "alert_response"
    needed = ("responses", "summary")

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Run the action, and send the receipt of the host, whatever comes of it.

        Where the event says no address it is handed on: C(receipts) of the result. In check mode there is none, as
        nothing was answered.
        """
        variables = task_vars or {}
        try:
            delivery = None if self._task.check_mode else receipt.Delivery.of(variables)
        except receipt.DeliveryError as error:
            return _with_warnings(super().run(tmp, task_vars), [f"no receipt is sent: {error}"])
        if delivery is None:
            return super().run(tmp, task_vars)
        with _Receipts(delivery, self._task.args.get("alerts") or event_alerts(variables), variables) as receipts:
            try:
                result = super().run(tmp, task_vars)
            except BaseException as error:
                for warning in receipts.end(*_ended_by(error)):
                    self._display.warning(warning)
                raise
            result = _with_warnings(result, receipts.end(receipt.state_of(result), result))
            return {**result, **inert({"receipts": receipts.handed_on})} if receipts.handed_on else result

    def defaults(self, variables: Json) -> Json:
        """What only the controller knows: who asks for it, which host this is, what is given, and what time it is."""
        known = {"actor": actor_of(variables, os.environ), "host": variables.get("inventory_hostname", "")}
        given = None if "alerts" in self._task.args else given_alerts(variables)
        if given is not None:
            return {**known, "alerts": given, "given": True}
        # By whose clock alerts of a rulebook are too old. Those that a person gives have no age.
        known["controller_time"] = now()
        delivered = event_alerts(variables)
        return known if delivered is None else {**known, "alerts": delivered}

    def ask_host(self, arguments: Json, variables: Json) -> Json:
        """Run the module with the alerts that concern the host, which are no matter of others. Raises AnswerError.

        Of alerts about hosts that take no part the first host of the run says that they are not answered.
        """
        alerts, host = arguments.get("alerts"), str(variables.get("inventory_hostname", ""))
        self._absent = hosts_of_nobody(alerts, variables) if host == run_hosts(variables)[0] else {}
        self._places = concerned(alerts, str(arguments.get("host") or host), self._absent)
        if isinstance(alerts, (list, tuple)):
            arguments = {**arguments, "alerts": [alerts[place] for place in self._places]}
        return super().ask_host({**arguments, "absent_hosts": self._absent}, variables)

    def check(self, found: Json) -> None:
        """Whether decisions and outcomes are such. Raises AnswerError."""
        checks.alert_response(found)
        checks.rejected(found, self._places)
        checks.digests(found)
        told = [f"alerts are not answered: {why}" for why in self._absent.values()]
        if told:
            found["msg"] = "; ".join(filter(None, [found.get("msg"), *told]))

    def outcomes(self, found: Json) -> t.Iterable[str]:
        """The outcome of each alert: that of the decision, and of what was done where it acts."""
        yield from (UNKNOWN_HOST for _host in self._absent)  # whatever the host says of them
        for response in found.get("responses") or ():
            if response["decision"]["outcome"] != "isolate":
                yield response["decision"]["outcome"]
            if response.get("event"):
                yield response["event"]["outcome"]


class _Receipts:
    """Those that the task of one host sends: its own, and from the first host of the run those of hosts that are none.

    Attributes:
        handed_on: those that are handed on instead, as the event says no address.

    Args:
        delivery: of the event.
        alerts: as the task was given them.
        variables: of the task.
    """

    def __init__(self, delivery: receipt.Delivery, alerts: t.Any, variables: Json) -> None:
        self._delivery = delivery
        self._alerts = alerts
        self._host = str(variables.get("inventory_hostname", ""))
        self._run_hosts = run_hosts(variables)
        first = self._host == self._run_hosts[0]
        self._absent = absent_hosts(delivery.hosts, self._run_hosts, variables) if first else []
        # Aside, as neither is to wait for the other.
        self._aside = concurrent.futures.ThreadPoolExecutor(1)
        self.handed_on: list[Json] = []  # in place of those that are sent
        self._sent: list[concurrent.futures.Future[str]] = []

    def __enter__(self) -> _Receipts:
        """Begin with those of hosts that nobody answers for."""
        self._sent = [
            self._aside.submit(self._send, host, receipt.NO_SUCH_HOST, {"msg": why}) for host, why in self._absent
        ]
        return self

    def __exit__(self, *_: object) -> None:
        self._aside.shutdown()

    def end(self, state: str, found: Json) -> list[str]:
        """Send that of the host; what was not delivered, for people."""
        own = self._send(self._host, state, found)
        return list(filter(None, [own, *(sent.result() for sent in self._sent)]))

    def _send(self, host: str, state: str, found: Json) -> str:
        delivery = self._delivery
        moment = utc_now()
        try:
            alerts = receipt.entries(self._alerts, host, found, moment)
            said = delivery.receipt(host, self._run_hosts, state, alerts, found)
            if not delivery.receipt_url:
                self.handed_on.append(delivery.handed_on(said))
                return ""
            # What is imported before the host is asked costs it time, and this takes as long as a pause.
            from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.post import post

            why = post(delivery.receipt_url, delivery.capability, said)
        except Exception as error:  # a defect here must not change what becomes of the host
            why = f"internal error: {type(error).__name__}"
        return f"the receipt of {host} was not delivered, so its alerts may come again: {why}" if why else ""


def _ended_by(error: BaseException) -> tuple[str, Json]:
    """The state of a task that an exception ended, and why."""
    why = shown_line(str(error))
    if isinstance(error, AnsibleConnectionFailure):
        return receipt.UNREACHABLE, {"msg": why}
    return receipt.CRASHED, {"msg": f"{type(error).__name__}: {why}"}


def _with_warnings(result: Json, warnings: list[str]) -> Json:
    return {**result, "warnings": [*(result.get("warnings") or ()), *warnings]} if warnings else result
