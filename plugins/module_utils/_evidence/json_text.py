# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers in JSON, as people read and compare them."""

from __future__ import annotations

import json
import typing as t

LIMIT = 8 * 1024 * 1024
"""Bytes of an answer that is read whole. Python needs about ten times as much for it."""


def readable(pieces: t.Iterator[bytes]) -> t.Iterator[bytes]:
    """The JSON sorted and indented. As it is sent where it is larger than the limit, or no JSON."""
    begun: list[bytes] = []
    size = 0
    for piece in pieces:
        begun.append(piece)
        size += len(piece)
        if size > LIMIT:
            break
    else:
        begun = [_indented(b"".join(begun))]
    yield from begun
    yield from pieces


def _indented(answer: bytes) -> bytes:
    try:
        return (json.dumps(json.loads(answer), indent=1, sort_keys=True) + "\n").encode("ascii")
    except (ValueError, RecursionError):
        return answer
