# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A pattern of hosts that means some, or an error."""

from __future__ import annotations

DOCUMENTATION = r"""
name: target
short_description: A pattern of hosts that means at least one, or an error
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - For the C(hosts) of a play. ansible-playbook takes a pattern that means no host for a success with nothing done;
    whoever misspells a host at night would believe that it is cut off.
  - Returns the pattern as it is, so that the play works on what it means and C(--limit) allows.
  - Fails where the pattern is empty, where a part of it or of C(--limit) means no host of the inventory, and where the
    limit leaves none of the hosts.
options:
  _terms:
    description: The pattern, as in C(hosts). A list of patterns is one, too.
    type: list
    elements: str
    required: true
  partial_limit:
    description:
      - It is enough that C(--limit) leaves some hosts, though parts of it mean none. For plays that a rulebook runs,
        which are limited to the hosts of several alerts, so that one alert about no host does not keep the others from
        being answered.
    type: bool
    default: false
    vars:
      - name: guard_partial_limit
"""

EXAMPLES = r"""
- name: Isolate a container
  hosts: "{{ lookup('ironpost.container_guard.target', guard_target | default('')) }}"
  gather_facts: false
  tasks:
    - name: Isolate
      ironpost.container_guard.isolation:
        container: "{{ guard_container }}"
"""

RETURN = r"""
_raw:
  description: The pattern.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager, split_host_pattern
from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):  # type: ignore[misc]  # ansible-core has no type information
    """Look at the inventory and the limit before a play starts."""

    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[str]:
        """Run the lookup."""
        self.set_options(var_options=variables, direct=kwargs)
        known = variables or {}
        patterns = [part for term in terms for part in _parts(term)]
        if not patterns:
            raise AnsibleError("guard_target is not set, or empty. Say on which hosts: -e guard_target=HOST")
        hosts = self._inventory(known.get("groups") or {})
        limit = known.get("ansible_limit") or ""
        for what, parts in (("guard_target", patterns), ("--limit", _parts(limit))):
            unknown = [part for part in parts if part[0] not in "!&@" and not self._means(hosts, part)]
            if unknown and not (what == "--limit" and self.get_option("partial_limit")):
                raise AnsibleError(f"{what} names no host of the inventory: {', '.join(unknown)}. Nothing was touched")
        pattern = ",".join(patterns)
        if limit:
            hosts.subset(limit)
        if not self._means(hosts, pattern):
            reason = f", as far as --limit {limit} allows" if limit else ""
            raise AnsibleError(f"guard_target {pattern} means no host of the inventory{reason}. Nothing was touched")
        return [pattern]

    def _inventory(self, groups: dict[str, list[str]]) -> InventoryManager:
        # As ansible.builtin.inventory_hostnames does: a lookup is not handed the inventory itself.
        found = InventoryManager(self._loader, parse=False)
        for group, hosts in groups.items():
            found.add_group(group)
            for host in hosts:
                found.add_host(host, group=group)
        return found

    def _means(self, hosts: InventoryManager, pattern: str) -> bool:
        try:
            return bool(hosts.get_hosts(pattern))
        except AnsibleError:
            return False


def _parts(pattern: t.Any) -> list[str]:
    return [part for part in split_host_pattern(pattern or "") if part.strip()]
