# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What pip installs on a control node, which reaches no index."""

from __future__ import annotations

import hashlib
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import yaml

from ansible_collections.ironpost.container_guard.tests.testbed.vm_image import CACHE

DEFAULTS = pathlib.Path(__file__).absolute().parents[2] / "roles/rulebook/defaults/main.yml"
MARKED = ("typing_extensions>=4.4",)
"""What Python 3.11 needs beyond newer ones: pip reads such conditions for the Python that it runs on."""


def wheels() -> pathlib.Path:
    """Directory of what the role rulebook has installed: downloaded once for each list of requirements, and kept."""
    requirements = yaml.safe_load(DEFAULTS.read_text())["rulebook_requirements"]
    found = CACHE / f"wheels-{hashlib.sha256(json.dumps(requirements).encode()).hexdigest()[:12]}"
    if not found.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
        try:
            download = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            download += ["--only-binary=:all:", "--python-version=3.11", f"--dest={unfinished}"]
            subprocess.run([*download, *requirements, *MARKED], check=True)
            unfinished.rename(found)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return found
