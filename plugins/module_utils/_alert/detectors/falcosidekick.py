# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""falcosidekick: what Falco says, with a uuid, and what users add. It speaks for Falco, which is the source."""

from __future__ import annotations

import dataclasses

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detectors import falco

DETECTOR = dataclasses.replace(falco.DETECTOR, name="falcosidekick")
