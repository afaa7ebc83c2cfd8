# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module evidence: what it documents is what is there. Its runs are in tests/integration."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Item, Manifest
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import (
    DEFAULT_LIMITS,
    RANGES,
    Limits,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence import argument_spec
from ansible_collections.ironpost.container_guard.plugins.modules.evidence import RETURN


def test_its_items_are_documented() -> None:
    assert yaml.safe_load(RETURN)["evidence"]["contains"].keys() == {field.name for field in dataclasses.fields(Item)}


@pytest.mark.parametrize("record", [Item, Manifest, Limits])
def test_every_attribute_of_a_record_is_described(record: type) -> None:
    described = re.findall(r"^    ([a-z0-9_]+): ", inspect.getdoc(record) or "", re.MULTILINE)
    assert sorted(described) == sorted(field.name for field in dataclasses.fields(record))


def test_every_limit_is_an_option_within_its_range() -> None:
    assert RANGES.keys() == dataclasses.asdict(DEFAULT_LIMITS).keys()
    for name, (low, high) in RANGES.items():
        assert low <= argument_spec()[name]["default"] <= high
