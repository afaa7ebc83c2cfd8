# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engines of the testbed, and what a test host of each is made from."""

from __future__ import annotations

import dataclasses
import hashlib
import json

MIRROR = "http://deb.debian.org/debian"
REPOSITORY = "container-guard/testbed"
PACKAGES = ("docker.io", "iptables", "iproute2", "openssh-server", "procps", "python3", "python3-docker", "sudo")
# What debootstrap downloaded, and what nobody reads there: a third of the size.
EXCLUDED = (
    "./dev/*",
    "./proc/*",
    "./sys/*",
    "./usr/share/doc/*",
    "./usr/share/locale/*",
    "./usr/share/man/*",
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
)
# Debian starts nothing in a host, and no engine may start before the control groups are ready.
COMMAND = ("python3", "/usr/local/lib/testbed/init.py")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """One engine.

    Attributes:
        engine: what the engine is called in tests: the beginning of its version.
        suite: the release of Debian that has it.
    """

    engine: str
    suite: str

    @property
    def image(self) -> str:
        """The image, tagged with a hash of all that goes into it: the same recipe is never built twice."""
        parts = [self.suite, MIRROR, PACKAGES, EXCLUDED, COMMAND]
        return f"{REPOSITORY}-{self.suite}:{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]}"


RECIPES = (Recipe("20.10", "bookworm"), Recipe("26.1", "trixie"), Recipe("28.5", "sid"))


def recipes(engines: list[str] | None = None) -> list[Recipe]:
    """The recipes of these engines, all by default. Raises ValueError."""
    known = {recipe.engine: recipe for recipe in RECIPES}
    unknown = [engine for engine in engines or () if engine not in known]
    if unknown:
        raise ValueError(f"the testbed has no engine {', '.join(unknown)}; it has {', '.join(known)}")
    return [recipe for engine, recipe in known.items() if not engines or engine in engines]
