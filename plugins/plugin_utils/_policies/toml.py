# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""TOML, by what this Python has for it."""

from __future__ import annotations

import typing as t

try:
    import tomllib as _library  # novm - another one is tried where it is not there
except ImportError:  # before Python 3.11, on which ansible-core 2.16 still runs
    try:
        import tomli as _library  # type: ignore[no-redef, import-not-found, unused-ignore]  # the same under its first name
    except ImportError:
        _library = None  # type: ignore[assignment]


def loads(text: str) -> dict[str, t.Any]:
    """What the text holds. Raises ValueError where it is not TOML, ImportError where nothing here reads it."""
    if _library is None:
        raise ImportError("Python before 3.11 reads no TOML by itself: install tomli for it, or write YAML")
    return _library.loads(text)
