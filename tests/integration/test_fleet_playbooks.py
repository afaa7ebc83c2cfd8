# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks over a fleet: three hosts with engines of their own, by ssh as an ordinary user, and one that is down.

What takes a run of ansible-playbook is asked once, and looked at from all sides.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import typing as t

import docker
import docker.errors
import pytest
import yaml

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import PREFIX, Ansible, PlaybookRun
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, HostWorld
from ansible_collections.ironpost.container_guard.tests.integration.rulebook import RulebookProcess, free_port
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import RECIPES

pytestmark = pytest.mark.usefixtures("usual_places")

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.conftest import Testbed

TOKEN = "a-token-of-the-test-suite"
REPOSITORY, TAG = "cg-test-shop", "4.2"
SHOP = f"{REPOSITORY}:{TAG}"
DOWN = "web-4"
POLICIES = """
policies:
  - id: container-guard-drill
    rules: ["container-guard drill"]
    target_filter: {labels: ["container-guard.drill=true"]}
    actions: [{type: pause}, {type: network_disconnect}]
protect:
  labels: [cg-test-protected]
"""


class Fleet:
    """The hosts web-1, web-2 and so on, and the controller."""

    def __init__(self, directory: pathlib.Path, worlds: t.Sequence[HostWorld]) -> None:
        self.worlds = {f"web-{number}": world for number, world in enumerate(worlds, start=1)}
        hosts = {name: world.host.operator_inventory for name, world in self.worlds.items()}
        hosts[DOWN] = {**hosts["web-1"], "ansible_port": free_port()}
        self.inventory = directory / "inventory.yml"
        # Over a connection that is kept, as in a real fleet.
        self.inventory.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": {"ansible_become": True}}}))
        self._ansible = Ansible(directory, inventory=self.inventory)
        self._directory = directory

    def play(self, playbook: str, *options: str, **variables: t.Any) -> PlaybookRun:
        """Run one of our playbooks on those that are up, unless guard_target says otherwise."""
        return self._ansible.run(PREFIX + playbook, {"guard_target": f"all:!{DOWN}", **variables}, *options)

    def deploy(self) -> None:
        policies = self._directory / "policies"
        policies.mkdir()
        (policies / "all.yml").write_text(POLICIES)
        run = self.play("deploy_policies", policies_src=str(policies))
        assert run.status == 0, run.output

    def left(self) -> dict[str, list[str]]:
        """The files of the guard on each host."""
        find = "find /etc/container-guard /var/lib/container-guard -type f 2>/dev/null"
        return {name: world.host.exec("sh", "-c", find)[1].split() for name, world in self.worlds.items()}

    def containers(self, prefix: str) -> list[str]:
        """Names of containers that begin so, on all hosts."""
        names = [
            one["Names"][0].lstrip("/") for world in self.worlds.values() for one in world.engine.list_containers()
        ]
        return [name for name in names if name.startswith(prefix)]


@pytest.fixture
def fleet(testbed: Testbed, tmp_path: pathlib.Path) -> t.Iterator[Fleet]:
    worlds = [HostWorld(testbed.shared(recipe.engine)) for recipe in RECIPES]
    found = Fleet(tmp_path, worlds)
    try:
        yield found
    finally:
        for world in worlds:
            for left in world.api.containers(all=True, filters={"label": "container-guard.drill"}):
                world.api.remove_container(left["Id"], force=True)
            world.cleanup()
            with contextlib.suppress(docker.errors.ImageNotFound):
                world.api.remove_image(SHOP)
            world.__exit__()
            world.host.exec("rm", "-rf", "/var/lib/container-guard", "/etc/container-guard", "/run/container-guard")
            world.host.exec("sh", "-c", "rm -rf /dev/shm/ansible-tmp-* /home/operator/.ansible")


def outcomes(run: PlaybookRun) -> dict[str, str]:
    return {one["container"]: one["outcome"] for one in run.stats["guard_hunt"]["containers"]}


def test_hunt_status_and_remove(fleet: Fleet) -> None:
    fleet.deploy()
    shops: dict[str, str] = {}
    for world in fleet.worlds.values():
        world.api.tag(IMAGE, REPOSITORY, TAG)
        for name, image in (("shop", SHOP), ("live", IMAGE)):
            shops[world.name(name)] = world.make_container(name, image=image)
    first = fleet.worlds["web-1"]
    protected = first.make_container("ingress", image=SHOP, labels={"cg-test-protected": ""})
    bystander = first.make_container("bystander", image=SHOP, labels={"role": "canary"})

    # A dry run lists what is of the image, by whatever tag, and names the host that does not answer.
    run = fleet.play("hunt", guard_target="all", guard_images=SHOP)
    assert run.status != 0
    assert run.stats["guard_hunt"]["not_reached"].keys() == {DOWN}
    assert outcomes(run) == {
        **dict.fromkeys(shops, "would_isolate"),
        first.name("ingress"): "refused",
        first.name("bystander"): "would_isolate",
    }
    assert {tuple(one["matched_by"]) for one in run.stats["guard_hunt"]["containers"]} == {("image tag",)}
    assert f"{DOWN}: NOT REACHED" in run.output
    assert "nothing was touched. To isolate these 7: -e guard_hunt_isolate=true" in run.output

    # More than may be: none is isolated anywhere.
    wanted = {"guard_selector": {"images": [SHOP], "exclude": {"labels": ["role=canary", "cg-test-protected"]}}}
    run = fleet.play("hunt", **wanted, guard_hunt_isolate=True, guard_max=5)
    assert run.status != 0
    assert "6 containers would be isolated, and at most 5 may be" in run.output
    assert all(world.state(shops[world.name("shop")]) == "running" for world in fleet.worlds.values())

    run = fleet.play("hunt", **wanted, guard_hunt_isolate="true", guard_max="6", guard_images="", guard_labels="")
    assert run.status == 0, run.output
    assert outcomes(run) == dict.fromkeys(shops, "isolated")
    assert all(world.state(shops[world.name("shop")]) == "paused" for world in fleet.worlds.values())
    assert {first.state(one) for one in (protected, bystander)} == {"running"}
    trace_id = run.stats["guard_hunt"]["trace_id"]

    # One is undone behind our back, and a host is down.
    first.engine.unpause(shops[first.name("live")])
    run = fleet.play("status", guard_target="", guard_fail_on="breach,unreachable")
    assert run.status != 0
    status = run.stats["guard_status"]
    assert (status["isolated"], status["breaches"]) == (6, 1)
    assert status["failed"] == {"breach": ["web-1"], "unreachable": [DOWN]}
    (digest,) = status["policy_sets"]
    assert (len(status["policy_sets"][digest]), digest[:7]) == (3, "sha256:")
    (row,) = [line for line in status["lines"] if first.name("live") in line]
    assert "NO: unpaused" in row
    assert all(text in row for text in ("web-1", trace_id, "hunted", "by hand"))
    assert any(line.startswith(f"{DOWN}: NOT REACHED") for line in status["lines"])

    run = fleet.play("remove")
    assert run.status != 0
    assert "Nothing was removed: release these first" in run.output
    assert first.name("live") in run.output
    assert all("/etc/container-guard/policy_set.json" in files for files in fleet.left().values())

    run = fleet.play("release", guard_alert_trace_id=trace_id)
    assert run.status == 0, run.output
    assert all(world.state(shops[world.name("shop")]) == "running" for world in fleet.worlds.values())

    run = fleet.play("remove")
    assert run.status == 0, run.output
    assert all(files == ["/var/lib/container-guard/actions.jsonl"] for files in fleet.left().values())
    assert {one["left"] == [] for one in run.stats["guard_removals"]["hosts"].values()} == {True}


def test_a_drill_through_the_rulebook(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    fleet.deploy()
    variables = {"guard": {"token": TOKEN, "hosts": [*fleet.worlds]}}
    with RulebookProcess("ironpost.container_guard.respond", fleet.inventory, tmp_path, variables) as rulebook:
        asked = {"guard_drill_url": f"http://127.0.0.1:{rulebook.port}/alerts", "guard_drill_token": TOKEN}
        run = fleet.play("drill", guard_target="all", guard_drill_image="", guard_drill_timeout="900", **asked)
        found = run.stats["guard_drill"]["hosts"]
        for name in fleet.worlds:
            assert not found[name]["failed_at"], run.output
            assert all(found[name][step] for step in ("verified", "released", "cleaned"))
            assert found[name]["posted_to_contained"] > 0
            assert found[name]["policy_id"] == "container-guard-drill"
        assert (run.status != 0, found[DOWN]["failed_at"]) == (True, "victim")
        assert "4 hosts drilled, 3 passed; contained after" in run.output

        # A host without the policies, and one of which the source does not know.
        last = [*fleet.worlds][-1]
        run = fleet.play("remove", "--limit", last, guard_keep_records=False)
        assert run.status == 0, run.output
        assert fleet.left()[last] == []
        run = fleet.play("drill", "--limit", last, guard_drill_timeout=4, **asked)
        assert run.status != 0
        found = run.stats["guard_drill"]["hosts"]
        assert (found[last]["failed_at"], found[last]["cleaned"]) == ("policy", True), run.output
        assert "no policy set is deployed" in found[last]["why"]
    run = fleet.play("drill", "--limit", last, **asked)
    assert run.stats["guard_drill"]["hosts"][last]["failed_at"] == "alert"
    assert "the event source does not answer" in run.output
    assert TOKEN not in run.output
    assert fleet.containers("container-guard-drill") == []
    journals = [name for files in fleet.left().values() for name in files if "/isolations/" in name]
    assert journals == []
    assert "-e guard_drill_url=" in fleet.play("drill").output
    assert json.dumps(found)
