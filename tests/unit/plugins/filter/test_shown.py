# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filter shown."""

from __future__ import annotations

import base64

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.ironpost.container_guard.plugins.filter.shown import shown


def test_a_message_is_readable_and_no_template() -> None:
    raw = base64.b64encode(b'{"cmdline": "sh -c {{ 7 * 7 }}\x1b[2J \xff"}\n').decode()
    assert shown(raw) == '{"cmdline": "sh -c { { 7 * 7 }}\\x1b[2J \ufffd"}\\n'
    assert shown("") == ""


@pytest.mark.parametrize("raw", ["{{ x }}", "a", None, 7])
def test_what_is_no_base64_is_an_error(raw: object) -> None:
    with pytest.raises(AnsibleFilterError):
        shown(raw)
