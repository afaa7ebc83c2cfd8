# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The action plugin of the module evidence_fetch, which does all of its work."""

from __future__ import annotations

import os
import pathlib
import shlex
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import case_id
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.verify import verify
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.answers import answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence_fetch import argument_spec
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction, validated
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.case import unpack
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import shown_line
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.keeping import deleted_with, put

_DELETED = (
    "the evidence in {place} is deleted as soon as this job has ended, with all of {private}. What is left is on the "
    "host. Set guard_evidence_dest to a path that is mounted into the execution environment, or guard_evidence_to"
)


class ActionModule(HostAction):
    """Bring a case to the controller. Modules that do it would need become there, too, where it is set for all."""

    module = "evidence_fetch"

    def ask_host(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:  # noqa: ARG002
        """Pack, fetch, unpack and verify; no module runs on the host. Raises GuardError."""
        # ansible-core validates the options where it has them, and nothing is asked for by variables.
        options = self._options()
        dest = pathlib.Path(options["dest"]).absolute()
        place, url = dest / options["case_id"], ""
        if not self._task.check_mode:
            try:
                self._bring(options, dest)
            except OSError as error:
                raise GuardError(f"the case cannot be brought: {error}", kind="not_fetched") from error
            if options["url"]:
                url = put(place, options["url"], options["token"])
        found = {"changed": True, "directory": str(place), "url": url}
        private = None if options["url"] or options["temporary"] else deleted_with(place, os.environ)
        return {**found, "warnings": [_DELETED.format(place=place, private=private)]} if private else found

    def _options(self) -> dict[str, t.Any]:
        options = validated(self, answered(argument_spec(), self._task.args), argument_spec())
        # They become paths, and come from the host.
        if not case_id(options["case_id"]) or not text.sha256_hex(options["manifest_sha256"]):
            raise GuardError("case_id or manifest_sha256 is not such as evidence returns", kind="invalid_option")
        return options

    def _bring(self, options: dict[str, t.Any], dest: pathlib.Path) -> None:
        # In a directory of its own, a host that somebody took over cannot replace what came from it before.
        place, archive = dest / options["case_id"], dest / f"{options['case_id']}.tar"
        dest.mkdir(parents=True, exist_ok=True)
        try:
            place.mkdir(mode=0o700)
        except FileExistsError as error:
            raise GuardError(
                f"{place} exists already", kind="case_exists", remedy="Look at it, or say another dest"
            ) from error
        try:
            os.close(os.open(archive, os.O_CREAT | os.O_WRONLY, 0o600))
            self._connection.fetch_file(self._packed(options["directory"]), str(archive))
            unpack(archive, place)
        finally:
            archive.unlink(missing_ok=True)
        problems = verify(str(place), options["manifest_sha256"]).problems
        if problems:
            raise GuardError(
                "the case is not as it was collected: " + "; ".join(map(shown_line, problems)),
                kind="case_changed",
                remedy="Do not rely on it before you know why",
            )

    def _packed(self, directory: str) -> str:
        """The archive on the host: a file of the user who logs in, as others are fetched through memory."""
        path = f"{self._make_tmp_path()}/case.tar"
        for command, as_root in (
            (f"umask 077 && : > {shlex.quote(path)}", False),
            (f"tar --create --file={shlex.quote(path)} --directory={shlex.quote(directory)} .", True),
        ):
            done = self._low_level_execute_command(command, sudoable=as_root)
            if done["rc"]:
                raise GuardError(f"the case cannot be packed: {shown_line(done['stderr'])}", kind="not_packed")
        return path
