# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module alert_response: what the host returns is checked on the controller.

Only the controller knows the inventory, so it is said here when an alert is about a host that is not in it.
"""

from __future__ import annotations

import collections
import os
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OTHER_HOST, UNKNOWN_HOST
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import checks
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.controller import (
    actor_of,
    alerts_about_nobody,
    given_alerts,
)


class ActionModule(HostAction):
    """Answer the alerts on the host."""

    module = "alert_response"
    needed = ("responses", "summary")

    def defaults(self, variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """What only the controller knows: who asks for it, which host this is, what is given, and what time it is."""
        known = {"actor": actor_of(variables, os.environ), "host": variables.get("inventory_hostname", "")}
        try:
            given = given_alerts(variables)
        except ValueError as error:
            raise GuardError(
                f"guard_alerts is text that is no JSON: {error}", kind="invalid_option", remedy="Nothing was touched"
            ) from error
        if given is not None:
            return {**known, "alerts": given}
        # By whose clock alerts of a rulebook are too old. Those that a person gives have no age.
        return {**known, "controller_time": now()}

    def ask_host(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Run the module, and say of alerts whose host nobody knows that they are not answered. Raises AnswerError."""
        self._about_nobody = alerts_about_nobody(arguments.get("alerts"), variables)
        return super().ask_host(arguments, variables)

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether decisions and outcomes are such. Raises AnswerError."""
        checks.alert_response(found)
        checks.digests(found)
        for response in found.get("responses") or ():
            decision = response["decision"]
            why = self._about_nobody.get(decision.get("alert_id"))
            if why and decision["outcome"] == OTHER_HOST:
                decision.update(outcome=UNKNOWN_HOST, reasons=[why])
        if found.get("summary") is not None:
            outcomes = [response["decision"]["outcome"] for response in found.get("responses") or ()]
            found["summary"]["decisions"] = dict(collections.Counter(outcomes))
        told = [f"alert {alert}: {why}" for alert, why in self._about_nobody.items()]
        if told:
            found["msg"] = "; ".join(filter(None, [found.get("msg"), *told]))

    def outcomes(self, found: dict[str, t.Any]) -> t.Iterable[str]:
        """The outcome of each alert: that of the decision, and of what was done where it acts."""
        yield from (UNKNOWN_HOST for _alert in self._about_nobody)  # whatever the host says of them
        for response in found.get("responses") or ():
            if response["decision"]["outcome"] != "isolate":
                yield response["decision"]["outcome"]
            if response.get("event"):
                yield response["event"]["outcome"]
