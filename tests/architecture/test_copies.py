# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that playbooks and roles copy arrive as they are: by itself, ansible-core decrypts what looks like a vault."""

from __future__ import annotations

import pathlib
import typing as t

import yaml

REPOSITORY = pathlib.Path(__file__).parents[2]


def copies(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """The options of all tasks below a value that copy a file of the controller."""
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from copies(child)
    if isinstance(value, dict) and "src" in (options := value.get("ansible.builtin.copy", {})):
        yield options


def test_nothing_is_decrypted_on_the_way() -> None:
    paths = [*REPOSITORY.glob("playbooks/*.yml"), *REPOSITORY.glob("roles/*/tasks/*.yml")]
    found = [(path.name, options) for path in paths for options in copies(yaml.safe_load(path.read_text("utf-8")))]
    assert len(found) > 1
    assert [(name, options["src"]) for name, options in found if options.get("decrypt") is not False] == []
