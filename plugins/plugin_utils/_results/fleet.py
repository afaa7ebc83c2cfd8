# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks over many hosts make of the results of each: who did not answer, and words for people."""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

Json = t.Mapping[str, t.Any]
WHY_LIMIT = 300
"""Characters of why a host did not answer."""


def mapping(value: t.Any) -> Json:
    """The value, or an empty mapping where it is none."""
    return value if isinstance(value, t.Mapping) else {}


def mappings(value: t.Any) -> list[Json]:
    """The mappings of a list, or none where it is no list."""
    return [item for item in value if isinstance(item, t.Mapping)] if isinstance(value, (list, tuple)) else []


def texts(value: t.Any) -> list[str]:
    """The texts and numbers of a list for people, or none where it is no list."""
    return [text.display(item) for item in value] if isinstance(value, (list, tuple)) else []


def not_reached(found: t.Any, needed: str) -> str:
    """Why a host did not answer, or empty where it did.

    Args:
        found: what a task registered; nothing where the task did not run.
        needed: a key of its answer.
    """
    found = mapping(found)
    if needed in found and not found.get("unreachable"):
        return ""
    why = found.get("msg") or mapping(found.get("error")).get("message")
    return text.display(str(why or "it was not asked"), WHY_LIMIT)


def words(value: t.Any, known: t.Collection[str], option: str) -> list[str]:
    """The words of a list, or of a text of several that commas, spaces or line ends part, or that is a list in JSON.

    Raises ValueError where one is not known.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"{option} is no list: {text.display(str(error))}") from error
    parts = re.split(r"[,\s]+", value) if isinstance(value, str) else list(value or ())
    found = [str(part) for part in parts if part]
    unknown = [word for word in found if word not in known]
    if unknown:
        raise ValueError(f"{option} has {text.display(unknown[0], 80)!r}, and knows only {', '.join(sorted(known))}")
    return found


def counted(number: int, what: str) -> str:
    """As C(1 host) or C(2 hosts)."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
