# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module replay, which does all of its work, on the controller."""

from __future__ import annotations

import json
import pathlib
import typing as t

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._files import write_atomically
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.answers import answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.replay import argument_spec
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import load_policies
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.containers import Containers
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.log import AlertLog
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.replay import Replay, replay_file
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._replay.table import table
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import failed, validated


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no type information
    """Replay the alerts of O(alerts) against the policies of O(src); no host is connected to."""

    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """Run the action."""
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        try:
            options = validated(self, answered(argument_spec(), self._task.args), argument_spec())
            return {**result, **self._replay(options)}
        except GuardError as error:
            return {**result, **failed(error)}

    def _replay(self, options: dict[str, t.Any]) -> dict[str, t.Any]:
        loaded = load_policies(pathlib.Path(options["src"]))
        containers = Containers.from_file(pathlib.Path(options["containers"])) if options["containers"] else None
        replay = Replay(loaded.policy_set, containers, {str(key): str(to) for key, to in options["host_map"].items()})
        with AlertLog(pathlib.Path(options["alerts"])) as log:
            report = replay_file(log, replay, Display().display)
        return {
            "changed": self._write(pathlib.Path(options["report"]), report) if options["report"] else False,
            "report": report,
            "table": table(report),
            "warnings": [*(str(finding) for finding in loaded.warnings), *replay.warnings],
        }

    def _write(self, path: pathlib.Path, report: dict[str, t.Any]) -> bool:
        """Whether the file differs from the report; then it is written, unless in check mode. Raises GuardError."""
        content = json.dumps(report, indent=2) + "\n"
        try:
            if path.is_file() and path.read_bytes() == content.encode("ascii"):
                return False
            if not self._task.check_mode:
                write_atomically(str(path.absolute()), content, 0o644)
        except OSError as error:
            raise GuardError(
                f"the report {path} cannot be written: {error.strerror}",
                kind="write_failed",
                remedy="Name a file in a directory that exists on the controller",
            ) from error
        return True
