# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module alert_info, which does all of its work, on the controller."""

from __future__ import annotations

import datetime
import os
import pathlib
import typing as t

from ansible.plugins.action import ActionBase

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import format_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.alert_info import argument_spec
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.answers import answered
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import spool
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import failed, validated
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import inert

Json = dict[str, t.Any]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type information
    """Look into the spool of the event source; no host is connected to."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Run the action."""
        result: Json = {**super().run(tmp, task_vars), "changed": False}
        try:
            options = validated(self, answered(argument_spec(), self._task.args), argument_spec())
            return {**result, **_known(options)}
        except GuardError as error:
            return {**result, **failed(error)}


def _known(options: Json) -> Json:
    """What the spool knows of the alert. Raises GuardError."""
    trace_id = text.token(options["trace_id"])
    if not trace_id:
        raise GuardError("trace_id is not an identifier", kind="invalid_option")
    directory = pathlib.Path(options["spool"]) if options["spool"] else default_spool(os.environ)
    known = spool.trace(directory, trace_id) or {}
    return inert(
        {
            "found": bool(known),
            "state": known.get("state", ""),
            "outcome": known.get("outcome", ""),
            "received_at": _moment(known.get("received")),
            "ended_at": _moment(known.get("ended")),
            "folded": known.get("folded", 0),
            "hosts": known.get("hosts", {}),
            "alert": known.get("alert", {}),
        }
    )


def default_spool(environment: t.Mapping[str, str]) -> pathlib.Path:
    """Where the spool is unless the source is told otherwise."""
    state = environment.get("XDG_STATE_HOME", "")
    # What is not absolute is to be ignored, as the specification of that variable says.
    base = pathlib.Path(state) if state.startswith("/") else pathlib.Path.home() / ".local/state"
    return base / "container-guard/spool"


def _moment(seconds: float | None) -> str:
    return format_timestamp(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)) if seconds else ""
