# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module drill: what of it is done on the host."""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import now, utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.victim import MAX_LIFETIME, Victims
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common

PRESENT, ABSENT = "present", "absent"


def argument_spec() -> common.Spec:
    """Options of the module. Those of posting are the controller's, and never reach a host."""
    return {
        "state": {"type": "str", "choices": [PRESENT, ABSENT], "default": PRESENT},
        "container": {"type": "str"},
        "image": {"type": "str", "default": ""},
        "lifetime": {"type": "int", "default": 600},
        "host": {"type": "str", "default": ""},
        "url": {"type": "str"},
        "token": {"type": "str", "no_log": True},
        "cafile": {"type": "path"},
        "certfile": {"type": "path"},
        "keyfile": {"type": "path"},
        **common.engine_spec(),
    }


def main() -> None:
    """Entry point."""
    module = common.GuardModule(
        argument_spec=argument_spec(), required_if=[["state", ABSENT, ["container"]]], supports_check_mode=True
    )
    common.run(module, make_or_remove)


def make_or_remove(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does on the host. Raises GuardError."""
    params = module.params
    lifetime = common.in_range(params, "lifetime", 60, MAX_LIFETIME)
    container_id = text.container_id(params["container"] or "")
    if params["state"] == ABSENT and len(container_id) != 64:
        raise common.invalid_option("container is not a full id", "Give the id that the module returned")
    if module.check_mode:
        return {"changed": True, "container": {}, "removed": [], "time": now()}
    victims = Victims(common.engine_of(params))
    if params["state"] == ABSENT:
        forgotten = victims.remove_forgotten(utc_now())
        removed = [*([container_id] if victims.remove(container_id) else []), *forgotten]
        return {"changed": bool(removed), "container": {}, "removed": removed, "time": now()}
    victim = victims.make(params["image"], lifetime)
    # The last that is done: the controller compares the clocks by it.
    return {"changed": True, "container": victim.to_dict(), "removed": [], "time": now()}
