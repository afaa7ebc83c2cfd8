# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module may return: what its documentation says. Anything else that a host returns is dropped.

ansible-core gives meaning to keys of a result: ansible_facts become variables of the play, add_host changes the
inventory, ansible_stats become artifacts, failed_when_result hides a failure. So only what is known passes.
"""

from __future__ import annotations

import functools
import pathlib
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError

MODULES = pathlib.Path(__file__).absolute().parents[2] / "modules"
TYPES: t.Mapping[str, tuple[type, ...]] = {
    "bool": (bool,),
    "dict": (dict,),
    "float": (float, int),
    "int": (int,),
    "list": (list,),
    "str": (str,),
}
# Of every module.
_COMMON: t.Mapping[str, tuple[type, ...]] = {
    "changed": (bool,),
    "failed": (bool,),
    "msg": (str,),
    "error": (dict,),
    "warnings": (list,),
    "diff": (dict, list),
    "exception": (str,),
    "module_stdout": (str,),
    "module_stderr": (str,),
    "rc": (int,),
}
_RETURN = re.compile(r'^RETURN = r"""\n(.*?)^"""', re.MULTILINE | re.DOTALL)
_KEY = re.compile(r"^(\w+):\n(?: .*\n|\n)*?  type: (\w+)\n", re.MULTILINE)


@functools.cache
def documented(module: str) -> t.Mapping[str, tuple[type, ...]]:
    """What the documentation of a module says that it returns: the types of each key.

    Read by patterns, as YAML takes as long to load as the rest of the action.
    """
    found = _RETURN.search((MODULES / f"{module}.py").read_text(encoding="utf-8"))
    return {key: TYPES[kind] for key, kind in _KEY.findall(found[1] if found else "")}


def known(module: str, answer: t.Mapping[str, t.Any], needed: t.Iterable[str] = ()) -> dict[str, t.Any]:
    """What of an answer the module may return.

    Args:
        module: its name, without the collection.
        answer: what the host returned.
        needed: keys that are there unless it failed.

    Raises:
        AnswerError: something is missing, or of another type than the documentation says.
    """
    types = {**documented(module), **_COMMON}
    found = {key: value for key, value in answer.items() if key in types}
    for key, value in found.items():
        if value is not None and not _is_one_of(types[key], value):
            raise AnswerError(f"{key} is no {types[key][0].__name__}")
    missing = [key for key in ("changed", *needed) if found.get(key) is None]
    if missing and not found.get("failed"):
        raise AnswerError(f"{missing[0]} is missing")
    return found


def _is_one_of(types: tuple[type, ...], value: t.Any) -> bool:
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))
