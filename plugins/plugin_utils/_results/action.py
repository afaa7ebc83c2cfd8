# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The base of the action plugins of all modules that run on hosts: runs the module, and trusts nothing it returns."""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t

import ansible.module_utils
from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.json_utils import _filter_non_json_lines
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.loader import module_utils_loader
from ansible.release import __version__ as ansible_version

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import command_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import is_green
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import archive
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.documented import known
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.inert import (
    inert,
    printable,
    shown_line,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.payload import Payload

Json = dict[str, t.Any]
COLLECTION = "ironpost.container_guard."
CORE = pathlib.Path(ansible.module_utils.__file__).parent
"""What the ansible-core that runs here has for modules."""
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # of a shell
MEMORY = "/dev/shm"  # noqa: S108 - it is a tmpfs with the sticky bit, as /tmp is, and used like that


class HostAction(ActionBase):  # type: ignore[misc]  # ansible-core has no type information
    """Runs a module on the host, and hands on of its answer what the module may return, made inert.

    Attributes:
        module: its name, without the collection.
        needed: what it returns unless it fails.
        from_archive: whether it may be run from the archive on the host, which one that removes the archive may not.
    """

    module: t.ClassVar[str]
    needed: t.ClassVar[tuple[str, ...]] = ()
    from_archive: t.ClassVar[bool] = True
    _in_memory = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Run the action."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        if "guard_become" in variables:
            return failed(
                GuardError(
                    "the variable guard_become has no effect any more, and is defined",
                    kind="invalid_option",
                    remedy="Nothing was touched. Remove it, and say ansible_become: true instead, or use -b",
                )
            )
        try:
            return self.ask_host({**self.defaults(variables), **self._task.args}, variables)
        except GuardError as error:
            return failed(error)
        # What ssh says holds the banner of the host, what a transfer says its error messages.
        except AnsibleConnectionFailure as error:
            raise AnsibleConnectionFailure(shown_line(str(error))) from None
        except AnsibleError as error:
            raise AnsibleActionFail(shown_line(str(error))) from None

    def defaults(self, variables: Json) -> Json:  # noqa: ARG002 - most modules need nothing of it
        """Options of the module that only the controller knows, unless the task says them."""
        return {}

    def check(self, found: Json) -> None:
        """Whether the rest of the play can rely on what was found. Raises AnswerError."""

    def outcomes(self, found: Json) -> t.Iterable[str]:  # noqa: ARG002 - modules that do nothing have none
        """What came of each thing that was to be done."""
        return ()

    def ask_host(self, arguments: Json, variables: Json) -> Json:
        """Run the module, and return what it may return, as plain data that is no template. Raises AnswerError."""
        try:
            found = self._ask_archive(arguments, variables)
            if found is None:
                found = self._send(arguments, variables)
        except RecursionError:
            raise AnswerError("values nested too deep to be read") from None
        self.check(found)
        self._never_green(found, arguments)
        # Once more, as what was added above may hold what alerts say.
        return {**inert(found), **self._facts()}

    def _never_green(self, found: Json, arguments: Json) -> None:
        """Let it fail where an outcome is a failure, whatever the host says."""
        if found.get("failed") or not boolean(arguments.get("fail_on_error", True), strict=False):
            return
        red = sorted({outcome for outcome in self.outcomes(found) if not is_green(outcome)})
        if red:
            found["failed"] = True
            found["msg"] = found.get("msg") or f"not all is as it should be: {', '.join(red)}"

    def _send(self, arguments: Json, variables: Json) -> Json:
        """What the module answers that is sent to the host."""
        self._use_memory(variables)
        with self._payload():
            answer = self._execute_module(
                module_name=COLLECTION + self.module, module_args=dict(arguments), task_vars=variables
            )
        return self._plain(answer)

    def _ask_archive(self, arguments: Json, variables: Json) -> Json | None:
        """What the module answers that is on the host already, or None where it is not, or cannot be run so."""
        wanted = boolean(self._templar.template(variables.get("guard_archive", False)), strict=False)
        if not wanted or not self.from_archive or self._task.async_val or not self._is_pipelining_enabled("new"):
            return None
        try:
            options = plain(arguments)
        except TypeError:
            return None
        self._update_module_args(COLLECTION + self.module, options, variables)
        done = self._low_level_execute_command(
            command_of(archive.digest(CORE), self.module, self._compute_environment_string()),
            in_data=json.dumps({"ANSIBLE_MODULE_ARGS": options}).encode(),
        )
        if done["rc"] in (_NOT_EXECUTABLE, _NOT_FOUND):
            return None
        try:
            answer = _answer_in(done["stdout"])
        except ValueError:
            said = {"module_stdout": done["stdout"], "module_stderr": done["stderr"], "rc": done["rc"]}
            return inert({"failed": True, "changed": False, "msg": "the module answered nonsense", **said})
        return self._plain(answer)

    def _payload(self) -> Payload:
        return Payload(
            self.module,
            kept=pathlib.Path(constants.config.get_config_value("ANSIBLE_HOME"), "container_guard"),
            built=pathlib.Path(constants.DEFAULT_LOCAL_TMP, "ansiballz_cache"),
            # Those beside a playbook and in its roles, too: they would go before those of ansible-core.
            others=[pathlib.Path(path) for path in module_utils_loader._get_paths(subdirs=False)],
            version=f"{ansible_version} {sys.version}",
        )

    # --- where the module is put on the host --------------------------------------------------------------------------

    def _use_memory(self, variables: Json) -> None:
        """Let what is sent to the host lie in memory there, so that a full disk does not keep it from being sent.

        A user who says remote_tmp, by whatever way, knows better.
        """
        shell = self._connection._shell
        name = getattr(shell, "_load_name", "")
        self._in_memory = name == "sh" and not getattr(self._connection, "_remote_is_local", False)
        if self._in_memory:
            _value, origin = constants.config.get_config_value_and_origin(
                "remote_tmp", plugin_type="shell", plugin_name=name, variables=variables
            )
            self._in_memory = origin == "default"
        if self._in_memory:
            # Python goes on to the next place where that does not exist. What the user says comes later, and wins.
            self._task.environment = [{"TMPDIR": MEMORY}, *(self._task.environment or ())]

    def _make_tmp_path(self, remote_user: str | None = None) -> str:
        # A directory below it that is always called the same could be made by somebody else before.
        if (
            self._in_memory
            and not self._low_level_execute_command(f"test -k {MEMORY} && test -w {MEMORY}", sudoable=False)["rc"]
        ):
            self._connection._shell.set_option("remote_tmp", MEMORY)
        return str(super()._make_tmp_path(remote_user))

    # --- what the host answered ---------------------------------------------------------------------------------------

    def _low_level_execute_command(self, *arguments: t.Any, **options: t.Any) -> Json:
        # All that the host says comes by here. ansible-core shows some of it at once: which interpreter it found there,
        # why a directory could not be made.
        done = super()._low_level_execute_command(*arguments, **options)
        output = {key: printable(done[key]) for key in ("stdout", "stderr")}
        return {**done, **output, **{f"{key}_lines": value.splitlines() for key, value in output.items()}}

    def _parse_returned_data(self, res: Json, *rest: t.Any) -> t.Any:
        # Before ansible-core has looked at it: that shows warnings, and what stands around the answer, at once.
        try:
            answer = _answer_in(res["stdout"])
        except ValueError:  # it says so itself
            return super()._parse_returned_data(res, *rest)
        return super()._parse_returned_data({**res, "stdout": json.dumps(self._plain(answer))}, *rest)

    def _plain(self, answer: Json) -> Json:
        return inert(known(self.module, _as_text(answer), self.needed))

    def _facts(self) -> Json:
        """The one fact that is kept: the interpreter that ansible-core looked for, where it is a plain path."""
        key, path = self._discovered_interpreter_key, self._discovered_interpreter
        if not key or not isinstance(path, str) or not path.startswith("/") or path != shown_line(path) or " " in path:
            return {}
        return {"ansible_facts": {key: str(path)}}


def plain(value: t.Any) -> t.Any:
    """The same in the types of JSON, of which ansible-core has its own. Raises TypeError where it is of none."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(type(value).__name__)


def validated(action: ActionBase, given: Json, spec: Json) -> Json:
    """The options of an action that runs no module, which would validate them. Raises GuardError (C(invalid_option)).

    Args:
        action: whose task it is.
        given: the arguments of the task, as they are understood.
        spec: the argument spec.
    """
    action._task.args = given
    try:
        _validation, options = action.validate_argument_spec(spec)
    except AnsibleError as error:
        raise GuardError(str(error), kind="invalid_option") from error
    return dict(options)


def failed(error: GuardError) -> Json:
    """The result of an action that failed."""
    return {"failed": True, "changed": False, "msg": str(error), "error": error.to_dict()}


def _answer_in(stdout: str) -> Json:
    """The answer among what else a host printed. Raises ValueError."""
    found: Json = json.loads(_filter_non_json_lines(stdout, objects_only=True)[0])
    return found


def _as_text(answer: Json) -> Json:
    """The answer with warnings as text, and without a traceback that is none: ansible-core makes objects of them."""
    found = dict(answer)
    if not isinstance(found.get("exception"), str):
        found.pop("exception", None)
    if isinstance(found.get("warnings"), list):
        found["warnings"] = [_message(warning) for warning in found["warnings"]]
    return found


def _message(warning: t.Any) -> str:
    event = warning.get("event") if isinstance(warning, dict) else getattr(warning, "event", None)
    message = event.get("msg") if isinstance(event, dict) else getattr(event, "msg", None)
    return str(warning if message is None else message)
