# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for all tests: properties are checked without a deadline, and with the same examples in every CI run."""

import os

import hypothesis

hypothesis.settings.register_profile("container_guard", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("container_guard")
