# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules share: what they support."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments C(ironpost.container_guard.attributes) and below."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Says what would be done, and changes nothing.
  diff_mode:
    description: Shows the state before and after, also in check mode.
  idempotent:
    description: A second run with the same options changes nothing, unless something else changed meanwhile.
  action_group:
    description:
      - Use C(group/ironpost.container_guard.container_guard) in C(module_defaults) to set options for all modules at
        once.
    support: full
    membership:
      - ironpost.container_guard.container_guard
notes:
  - Options take what people type into a survey of AWX. Text that is blank counts as not given. Lists may be text, as
    JSON, as lines, or with commas on one line. Durations are seconds, or text with units such as V(90m), V(2h) or
    V(1h30m).
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
"""
