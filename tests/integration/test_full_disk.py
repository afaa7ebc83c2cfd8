# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containment before book-keeping: alerts are answered on a host whose disk is full or read-only, over ssh."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.remote import Json, Remote
from ansible_collections.ironpost.container_guard.tests.testbed.small_disk import SmallDisk

POLICY = "{id: quarantine, actions: [{type: pause}, {type: network_disconnect}], cooldown: 3600}"
ON_DISK, IN_MEMORY = "/var/lib/container-guard", "/run/container-guard"


@dataclasses.dataclass(frozen=True)
class SickHost:
    """A host with a small disk, to which a policy set was deployed.

    Attributes:
        disk: its disk.
        world: a corner of its engine.
        remote: Ansible.
    """

    disk: SmallDisk
    world: HostWorld
    remote: Remote

    def container(self, suffix: str) -> str:
        return self.world.make_container(suffix, {self.world.make_network(f"n-{suffix}"): PLAIN})

    def alert(self, container: str) -> None:
        """Let an alert be answered. It must be so, and told."""
        alert = {"source": "detector", "rule": "shell", "severity": "critical", "container": {"id": container}}
        status, output = self.remote.playbook("respond", {"guard_alerts": [alert]})
        assert self.world.state(container) == "paused", output
        assert self.world.interfaces(container) == {"lo"}
        assert status == 0, output

    def release(self, container: str) -> None:
        status, output = self.remote.playbook("release", {"guard_container": container})
        assert status == 0, output
        assert self.world.state(container) == "running"
        assert self.world.interfaces(container) == {"lo", "eth0"}

    def info(self) -> Json:
        (result,) = self.remote.modules(("isolation_info", {}))
        assert not result.get("failed"), result
        return result

    def isolated(self) -> set[str]:
        """What the guard says is isolated, and holds."""
        found = self.info()
        assert (found["damaged"], found["agree"], found["action_log"]["intact"]) == ([], True, True), found
        return {entry["container"]["id"] for entry in found["isolations"]}

    def files_about(self, container: str, directory: str) -> list[str]:
        status, output = self.disk.host.exec("grep", "-rl", container, directory)
        assert status in (0, 1, 2), output
        return output.splitlines() if status == 0 else []


@pytest.fixture
def sick_host(small_disk: SmallDisk, tmp_path: pathlib.Path) -> t.Iterator[SickHost]:
    remote = Remote(tmp_path, small_disk.host.inventory, "--become")
    (tmp_path / "policy.yml").write_text(POLICY)
    (deployed,) = remote.modules(("policy_set", {"src": str(tmp_path / "policy.yml")}))
    assert deployed["changed"] is True, deployed
    world = HostWorld(small_disk.host)
    with world:
        yield SickHost(small_disk, world, remote)


SICKNESSES: dict[str, t.Callable[[SmallDisk], None]] = {
    "healthy": SmallDisk.heal,
    "full": SmallDisk.fill,
    "read-only": SmallDisk.make_read_only,
}


@pytest.mark.parametrize("sickness", SICKNESSES)
def test_an_alert_isolates_and_a_person_releases(sick_host: SickHost, sickness: str) -> None:
    container = sick_host.container("c")
    SICKNESSES[sickness](sick_host.disk)
    sick_host.alert(container)
    assert sick_host.isolated() == {container}
    sick_host.release(container)
    assert sick_host.isolated() == set()
    sick_host.disk.heal()
    assert sick_host.isolated() == set()


def test_full_then_read_only_then_released(sick_host: SickHost) -> None:
    """Of three, each isolated in another state of the disk, each is released in the next one."""
    healthy, full, read_only = (sick_host.container(suffix) for suffix in ("healthy", "full", "read-only"))
    sick_host.alert(healthy)
    sick_host.disk.fill()
    sick_host.alert(full)
    assert sick_host.isolated() == {healthy, full}
    sick_host.release(healthy)
    sick_host.disk.make_read_only()
    sick_host.alert(read_only)
    sick_host.release(full)
    assert sick_host.isolated() == {read_only}
    sick_host.disk.heal()
    assert sick_host.isolated() == {read_only}
    sick_host.release(read_only)
    assert sick_host.isolated() == set()


def test_what_was_done_meanwhile_is_carried_over_when_the_disk_works_again(sick_host: SickHost) -> None:
    before, meanwhile = sick_host.container("before"), sick_host.container("meanwhile")
    sick_host.alert(before)
    sick_host.disk.fill()
    sick_host.alert(meanwhile)
    assert sick_host.files_about(meanwhile, IN_MEMORY)
    # A line may still find room at the end of a file that is there.
    assert not sick_host.files_about(meanwhile, f"{ON_DISK}/isolations")
    sick_host.disk.heal()
    # The next run that writes carries it over, whatever it is about.
    sick_host.release(before)
    assert sick_host.files_about(meanwhile, f"{ON_DISK}/isolations")
    assert not sick_host.files_about(meanwhile, IN_MEMORY)
    assert sick_host.isolated() == {meanwhile}
    sick_host.release(meanwhile)


def test_a_repeat_of_an_alert_is_held_while_the_disk_is_full(sick_host: SickHost) -> None:
    container = sick_host.container("c")
    sick_host.disk.fill()
    sick_host.alert(container)
    sick_host.alert(container)
    assert sick_host.isolated() == {container}
    # Undone by somebody: the next alert acts, whatever the cooldown.
    sick_host.world.engine.unpause(container)
    sick_host.alert(container)
