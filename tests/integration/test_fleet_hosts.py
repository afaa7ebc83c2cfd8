# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts of a fleet made ready, and given their policies: over ssh, by an ordinary user who has sudo."""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import PREFIX, Ansible, PlaybookRun
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

pytestmark = pytest.mark.usefixtures("usual_places")

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.conftest import Testbed

STATE_DIR, SET = "/var/lib/container-guard", "/etc/container-guard/policy_set.json"
DOWN = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
POLICY = "{id: shells, rules: [Terminal*], target_filter: {container_names: [shop-*]}, actions: [{type: pause}]}"


class Fleet:
    """Hosts web-1 and so on, and web-0, which is down."""

    def __init__(self, directory: pathlib.Path, *hosts: Host) -> None:
        self.directory = directory
        self.hosts = hosts
        self._ansible = Ansible(directory, *(f"web-{number}" for number in range(len(hosts) + 1)))
        self._ansible.set_variables("web-0", DOWN)
        for number, host in enumerate(hosts, 1):
            self._ansible.set_variables(f"web-{number}", {"ansible_connection": "ssh", **host.operator_inventory})

    def play(self, name: str, limit: str, *options: str, **variables: t.Any) -> PlaybookRun:
        return self._ansible.run(PREFIX + name, variables, "--become", "--limit", limit, *options)

    def holds(self, condition: str) -> list[bool]:
        """On which hosts it holds, as a shell understands it."""
        return [host.exec("sh", "-c", condition)[0] == 0 for host in self.hosts]

    def clean(self) -> None:
        assert all(self.holds(f"rm -rf {STATE_DIR} {pathlib.Path(SET).parent}"))


def changed(run: PlaybookRun) -> dict[str, int]:
    """By host, how much was changed."""
    return {host: int(number) for host, number in re.findall(r"^(web-\d) .*changed=(\d+)", run.output, re.MULTILINE)}


def table(run: PlaybookRun) -> list[str]:
    """The lines of the last list that was shown."""
    shown = run.output.rpartition('"msg": [\n')[2].partition("\n    ]")[0]
    found = json.loads(f"[{shown}]")
    assert isinstance(found, list)
    return found


@pytest.fixture
def fleet(testbed: Testbed, tmp_path: pathlib.Path) -> t.Iterator[Fleet]:
    found = Fleet(tmp_path, *(testbed.shared(engine) for engine in ("20.10", "26.1", "28.5")))
    found.clean()
    yield found
    found.clean()


@pytest.fixture
def with_faults(testbed: Testbed, tmp_path: pathlib.Path) -> t.Iterator[Fleet]:
    """Two healthy hosts, and one for this run alone, whose Docker SDK and engine may be hurt."""
    found = Fleet(tmp_path, testbed.shared("20.10"), testbed.shared("26.1"), testbed.private("28.5"))
    found.clean()
    yield found
    found.hosts[2].heal()
    found.clean()


@contextlib.contextmanager
def without_sdk(host: Host) -> t.Iterator[None]:
    package = "/usr/lib/python3/dist-packages/docker"
    assert host.exec("mv", package, f"{package}.away")[0] == 0
    try:
        yield
    finally:
        assert host.exec("mv", f"{package}.away", package)[0] == 0


def test_preflight_tells_for_all_hosts_what_is_missing_and_makes_them_ready_only_when_told(with_faults: Fleet) -> None:
    _healthy, bare, sick = with_faults.hosts
    sick.exec("install", "-d", "-m", "0777", STATE_DIR)
    sick.stop_engine()
    with without_sdk(bare):
        run = with_faults.play("preflight", "all")
    assert run.status != 0
    lines = table(run)
    assert re.match(r"host +python +user +sdk +engine", lines[0])
    assert lines[1].startswith("web-0  it is not reached: Failed to connect")
    assert re.match(r"web-1 .* root .* 20\.10\.\S+ +off +made when needed .* agrees", lines[2])
    assert re.match(r"web-2 .* root +none +- +- +made when needed .* agrees", lines[3])
    assert re.match(r"web-3 .* root .* unreachable +- +0777 .* agrees", lines[4])
    for what, remedy in (
        ("web-2: the Python there has no docker SDK", "apt-get install -y python3-docker"),
        ("web-3: no Docker Engine answers", "systemctl start docker"),
        ("web-3: others may write to the state directory", f"chmod 0700 {STATE_DIR}"),
    ):
        assert lines[lines.index(f"missing on {what}") + 1] == f"    {remedy}"
    assert lines[-1] == "not ready: web-0, web-2, web-3"
    ready = [run.stats["guard_preflight"][f"web-{number}"]["ready"] for number in range(4)]
    assert ready == [False, True, False, False]
    assert set(changed(run).values()) == {0}
    untouched = f"test ! -e /etc/container-guard && test $(stat -c %a {STATE_DIR}) = 777"
    assert with_faults.holds(untouched)[2]

    sick.start_engine(live_restore=True)
    checked = with_faults.play("preflight", "web-1,web-3", "--check", guard_install="true")
    assert checked.status == 0, checked.output
    assert with_faults.holds(untouched)[2]
    made = with_faults.play("preflight", "web-1,web-3", guard_install="true")
    assert made.status == 0, made.output
    assert table(made)[-1] == "ready: web-1, web-3"
    assert made.stats["guard_preflight"]["web-3"]["found"]["live_restore"] == "on"
    assert changed(made) == {"web-1": 2, "web-3": 2}
    private = f"test $(stat -c %a:%U {STATE_DIR}) = 700:root && test -d /etc/container-guard"
    assert with_faults.holds(private) == [True, False, True]
    again = with_faults.play("preflight", "web-1,web-3", guard_install="true")
    assert changed(again) == {"web-1": 0, "web-3": 0}


def test_policies_reach_the_fleet_by_batches_and_a_second_run_changes_nothing(fleet: Fleet) -> None:
    policies = fleet.directory / "policies"
    policies.mkdir()
    (policies / "shells.yml").write_text(POLICY)
    source = fleet.directory / "source/policy_set.json"
    # Relative to the directory of the run.
    deployment = {
        "policies_src": "policies",
        "policies_source_path": "source/policy_set.json",
        "guard_serial": "1,100%",
    }

    # The canary is down: nothing goes on, and the source, which is first, has the set.
    run = fleet.play("deploy_policies", "all", **deployment)
    assert run.status != 0
    assert table(run)[1].startswith("web-0  not reached: Failed to connect")
    assert [line.split("  ")[1] for line in table(run)[2:5]] == ["not touched so far"] * 3
    assert run.output.count("PLAY [") == 1
    assert not any(fleet.holds(f"test -e {SET}"))
    digest = json.loads(source.read_text())["digest"]

    run = fleet.play("deploy_policies", "web-1,web-2,web-3", "--diff", **deployment)
    assert run.status == 0, run.output
    assert run.output.count("PLAY [") == 2
    assert run.stats["policies_digests"] == {f"web-{number}": digest for number in (1, 2, 3)}
    assert all(fleet.holds(f"grep -q {digest} {SET}"))
    assert table(run)[-1] == f"{digest} is on web-1, web-2, web-3"
    assert [line.split()[2] for line in table(run)[1:4]] == ["yes"] * 3
    assert changed(run) == {f"web-{number}": 1 for number in (1, 2, 3)}

    # Again, with a host that is down: what was reached is unchanged, and the run fails.
    before = [line.split()[3] for line in table(run)[1:4]]
    run = fleet.play("deploy_policies", "all", **{**deployment, "guard_serial": ""})
    assert run.status != 0
    assert table(run)[-1] == f"failed or not reached: web-0. {digest} is on web-1, web-2, web-3"
    assert [line.split()[2:] for line in table(run)[2:5]] == [["no", when] for when in before]
    assert set(changed(run).values()) == {0}
    assert run.stats["policies_digests"]["web-0"] == ""
