# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Commands as modules run them."""

from __future__ import annotations

import subprocess


def run_command(command: list[str], *, handle_exceptions: bool) -> tuple[int, str, str]:
    """As AnsibleModule.run_command where exceptions are not handled: exit status, output and errors."""
    assert not handle_exceptions
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr
