# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking off a host what the guard keeps there, and nothing else: by the names that it gives its files."""

from __future__ import annotations

import os
import re
import shutil
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import NAMED
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

_RECORDS = re.compile(r"actions\.jsonl(\.\d+)?|evidence")
"""What tells afterwards what was done."""
_OTHERS = re.compile(
    r"isolations|released|locks|answered\.jsonl(\.1)?|actions\.repeats\.json|mutes\.json"
    r"|limits\.(json|damaged-\d+)|\.carrying|\.new-.*"
)


class Removed(t.NamedTuple):
    """What came of it: paths.

    Attributes:
        removed: what is gone, or would be in check mode.
        kept: records that stay.
        left: what lies beside them and was not made by the guard.
    """

    removed: list[str]
    kept: list[str]
    left: list[str]


def remove(
    files: StateDir, policy_sets: t.Sequence[str], programs: str, keep_records: bool, check: bool = False
) -> Removed:
    """Remove the policy set first, so that no alert isolates any more, and then the state.

    Args:
        files: of the host.
        policy_sets: files that policy_set put in place.
        programs: directory of what module_archive put in place.
        keep_records: leave the action log and the evidence where they are.
        check: only say what would be done.

    Raises:
        Refused: C(still_isolated), where the journal knows of an isolation, or cannot be read: then nothing is removed,
            but for the policy set where an isolation began meanwhile.
        GuardError: C(remove_failed) where something cannot be removed.
    """
    _refuse_isolated(files)
    found = Removed([], [], [])
    archives = [os.path.join(programs, name) for name in _names(programs)]
    ours = [path for path in archives if NAMED.fullmatch(os.path.basename(path))]
    found.left.extend(path for path in archives if path not in ours)
    for path in (*policy_sets, *ours):
        if os.path.lexists(path):
            _delete(path, found, check)
    _remove_empty({*(os.path.dirname(path) for path in policy_sets), programs}, found, check)
    if not check:
        _refuse_isolated(files)  # an alert may have been answered until now
        files.carry_over()
    for directory in (files.path, files.fallback):
        for name in sorted(_names(directory)):
            path = os.path.join(directory, name)
            if keep_records and _RECORDS.fullmatch(name):
                found.kept.append(path)
            elif _RECORDS.fullmatch(name) or _OTHERS.fullmatch(name):
                _delete(path, found, check)
            elif not name.startswith("other-"):  # what stands in for another state directory
                found.left.append(path)
    _remove_empty([files.path, files.fallback], found, check)
    return found


def _refuse_isolated(files: StateDir) -> None:
    entries, damaged = Journal(files).entries()
    if entries or damaged:
        named = [f"{entry.snapshot.name} (since {entry.since})" for entry in entries]
        raise Refused(
            "this host has isolated containers, which could not be released any more: {}".format(
                ", ".join([*named, *(error.message for error in damaged)])
            ),
            kind="still_isolated",
            remedy="Release them, or forget those that are gone by a release with force",
        )


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _failed(directory, error) from error


def _delete(path: str, found: Removed, check: bool) -> None:
    found.removed.append(path)
    if check:
        return
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failed(path, error) from error


def _remove_empty(directories: t.Iterable[str], found: Removed, check: bool) -> None:
    for directory in directories:
        try:
            left = set(os.listdir(directory)) - {os.path.basename(path) for path in found.removed if check}
            if not left:
                _delete_directory(directory, found, check)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise _failed(directory, error) from error


def _delete_directory(directory: str, found: Removed, check: bool) -> None:
    if not check:
        os.rmdir(directory)
    found.removed.append(directory)


def _failed(path: str, error: OSError) -> GuardError:
    return GuardError(
        f"cannot remove {path}: {error.strerror}",
        kind="remove_failed",
        remedy="What was removed before that is gone. Run it again once that is mended",
    )
