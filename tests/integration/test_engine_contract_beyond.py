# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the guard knows of engines beyond the calls that it makes: what others may do to a container, and see of it."""

from __future__ import annotations

import itertools
import json
import time
import typing as t

import docker.errors
import docker.types
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.tests.engine_contract import PLAIN, only, refused
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, SLEEP, HostWorld

SECOND = 10**9  # in nanoseconds, as the API takes durations


def answers(status: int, text: str) -> pytest.RaisesExc[docker.errors.APIError]:
    """Expect an error of the engine, from the SDK itself."""
    return pytest.RaisesExc(docker.errors.APIError, match=text, check=lambda error: error.status_code == status)


@pytest.mark.fact("C.pause.2", "C.pause.4")
def test_what_else_a_paused_or_stopped_container_refuses(docker_world: HostWorld) -> None:
    container = docker_world.make_container("c", state="paused")
    with answers(409, "is paused"):
        docker_world.exec(container, "true")
    with answers(409, "Unpause and then stop the container|[Cc]annot remove a paused container|container is paused"):
        docker_world.api.remove_container(container)
    docker_world.engine.kill(container)
    with answers(409, "is not running"):
        docker_world.exec(container, "true")


@pytest.mark.fact("C.pause.6")
def test_the_kernel_answers_for_a_paused_container(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN}, command=("nc", "-l", "-p", "7"))
    peer = docker_world.make_container("peer", {network: PLAIN})
    address = docker_world.key(container, network)["IPAddress"]
    docker_world.until(lambda: ":7 " in docker_world.exec(container, "netstat", "-tln")[1], "it listens")
    docker_world.engine.pause(container)
    assert docker_world.exec(peer, "ping", "-c", "1", "-W", "2", address)[0] == 0
    # It is connected, and waits for an answer.
    talk = docker_world.api.exec_create(peer, ["nc", address, "7"])["Id"]
    docker_world.api.exec_start(talk, detach=True)

    def is_connected() -> bool:
        lines = docker_world.exec(peer, "netstat", "-tn")[1].splitlines()
        return any(f"{address}:7" in line and "SYN_SENT" not in line for line in lines)

    docker_world.until(is_connected, "it is connected")
    assert docker_world.state(container) == "paused"


@pytest.mark.fact("A6")
def test_a_paused_container_turns_unhealthy(docker_world: HostWorld) -> None:
    check: t.Any = {"test": ["CMD", "true"], "interval": SECOND, "timeout": SECOND, "retries": 1}
    made = docker_world.api.create_container(IMAGE, list(SLEEP), labels=docker_world.labels, healthcheck=check)
    container = str(made["Id"])
    docker_world.engine.start(container)

    def health() -> str:
        return str(docker_world.engine.inspect_container(container)["State"]["Health"]["Status"])

    # Just after a check, as on 20.10 a pause in the middle of the start of another command may never be undone (seen).
    docker_world.until(lambda: health() == "healthy", "it is healthy")
    docker_world.engine.pause(container)
    docker_world.until(lambda: health() == "unhealthy", "it is unhealthy")
    assert docker_world.state(container) == "paused"


@pytest.mark.fact("C.mode.2")
def test_a_container_of_the_network_of_the_host_cannot_move_to_another(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", network_mode="host")
    host = only(docker_world.keys(container))["NetworkID"]
    docker_world.engine.stop(container, 0)
    docker_world.engine.disconnect(host, container)
    docker_world.engine.connect(network, container, PLAIN)
    with refused(500, "interface|network"):
        docker_world.engine.start(container)


@pytest.mark.fact("C.connect.9")
def test_what_an_address_outside_the_subnet_leaves(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c")
    with refused(400 if docker_world.engine_from(26) else 500, "subnet"):
        docker_world.engine.connect(network, container, EndpointSettings(ipv4_address="203.0.113.1"))
    left = docker_world.keys(container).get(docker_world.name("n"))
    assert (left and left["EndpointID"]) == (None if docker_world.engine_from(26) else "")
    assert docker_world.interfaces(container) == {"lo", "eth0"}


def has_mtu(world: HostWorld, container: str, mtu: int) -> bool:
    """Whether that is the MTU of its only interface. By an exit code, as 20.10 loses an output under load (seen)."""
    (name,) = world.interfaces(container) - {"lo"}
    return world.exec(container, "grep", "-qx", str(mtu), f"/sys/class/net/{name}/mtu")[0] == 0


@pytest.mark.fact("C.connect.17")
@pytest.mark.parametrize("option", ["ifname", "sysctls"])
def test_what_is_asked_of_an_interface_comes_back(docker_world: HostWorld, option: str) -> None:
    network, prefix = docker_world.make_network("n"), "com.docker.network.endpoint"
    value = "shop0" if option == "ifname" else "net.ipv4.conf.IFNAME.log_martians=1"
    asked = EndpointSettings(driver_opts={f"{prefix}.{option}": value})
    container = docker_world.make_container("c", {network: asked})

    def works() -> bool:
        if option == "ifname":
            return "shop0" in docker_world.interfaces(container)
        (name,) = docker_world.interfaces(container) - {"lo"}
        return docker_world.exec(container, "grep", "-qx", "1", f"/proc/sys/net/ipv4/conf/{name}/log_martians")[0] == 0

    for _ in range(2):
        assert works() == docker_world.engine_from(28)
        assert docker_world.key(container, network)["DriverOpts"] == asked.driver_opts
        docker_world.engine.disconnect(network, container)
        docker_world.engine.connect(network, container, asked)


@pytest.mark.fact("C.connect.18")
def test_what_was_done_inside_to_an_interface_goes_with_it(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    container = docker_world.make_container("c", {network: PLAIN}, cap_add=["NET_ADMIN"])
    (name,) = docker_world.interfaces(container) - {"lo"}
    gateway = docker_world.key(container, network)["Gateway"]
    for command in (
        ("link", "set", name, "mtu", "1300"),
        ("route", "add", "203.0.113.0/24", "via", gateway),
    ):
        assert docker_world.exec(container, "ip", *command) == (0, "")

    assert has_mtu(docker_world, container, 1300)
    assert docker_world.exec(container, "sh", "-c", "ip route | grep -q ^203.0.113.0/24")[0] == 0
    docker_world.engine.disconnect(network, container)
    docker_world.engine.connect(network, container, PLAIN)
    assert has_mtu(docker_world, container, 1500)
    assert docker_world.exec(container, "sh", "-c", "ip route | grep -q ^203.0.113.0/24")[0] == 1


@pytest.mark.fact("C.connect.18")
def test_the_mtu_of_a_network_comes_back(docker_world: HostWorld) -> None:
    made = docker_world.api.create_network(
        docker_world.name("n"), options={"com.docker.network.driver.mtu": "1400"}, labels=docker_world.labels
    )
    network = str(made["Id"])
    container = docker_world.make_container("c", {network: PLAIN})
    for _ in range(2):
        assert has_mtu(docker_world, container, 1400)
        docker_world.engine.disconnect(network, container)
        docker_world.engine.connect(network, container, PLAIN)


# --- who depends on it, and on whom it has a hold ---------------------------------------------------------------------

OFF_THE_BRIDGE = "not attached to default bridge network|does not belong to the default network"
NOT_RUNNING = "Cannot link to a non running container"


@pytest.mark.fact("C.links.1")
@pytest.mark.parametrize(("ends_it", "text"), [(False, OFF_THE_BRIDGE), (True, NOT_RUNNING)], ids=["off", "killed"])
def test_c4_whoever_links_to_it_cannot_run_commands_nor_start(
    docker_world: HostWorld, ends_it: bool, text: str
) -> None:
    """C4: --link on the default bridge; the bystander fails for as long as the other one is away."""
    target = docker_world.make_container("db")
    bystander = docker_world.make_container("web", links={docker_world.name("db"): "database"})
    bridge = only(docker_world.keys(target))["NetworkID"]
    docker_world.engine.pause(target)
    assert docker_world.exec(bystander, "true") == (0, ""), "a pause does no harm"
    docker_world.engine.unpause(target)
    if ends_it:
        docker_world.engine.kill(target)
    else:
        docker_world.engine.disconnect(bridge, target)
    with answers(500, text):
        docker_world.exec(bystander, "true")
    docker_world.engine.stop(bystander, 0)
    with refused(500, text):
        docker_world.engine.start(bystander)
    assert docker_world.state(bystander) == "exited"
    if ends_it:
        docker_world.engine.start(target)
    else:
        docker_world.engine.connect(bridge, target, PLAIN)
    docker_world.engine.start(bystander)
    assert docker_world.exec(bystander, "true") == (0, "")


@pytest.mark.fact("C.links.1")
def test_c4_whoever_links_to_it_turns_unhealthy(docker_world: HostWorld) -> None:
    """C4: as health checks are commands that are run in it."""
    target = docker_world.make_container("db")
    check: t.Any = {"test": ["CMD", "true"], "interval": SECOND, "timeout": SECOND, "retries": 1}
    made = docker_world.api.create_container(
        IMAGE,
        list(SLEEP),
        labels=docker_world.labels,
        healthcheck=check,
        host_config=docker_world.api.create_host_config(links={docker_world.name("db"): "database"}),
    )
    bystander = str(made["Id"])
    docker_world.engine.start(bystander)

    def health() -> str:
        return str(docker_world.engine.inspect_container(bystander)["State"]["Health"]["Status"])

    docker_world.until(lambda: health() == "healthy", "it is healthy")
    docker_world.engine.disconnect(only(docker_world.keys(target))["NetworkID"], target)
    docker_world.until(lambda: health() == "unhealthy", "it is unhealthy")


@pytest.mark.fact("C.links.2")
def test_c4_the_list_tells_who_links_to_it(docker_world: HostWorld) -> None:
    """C4: by a name of two parts; inspect tells it of the bystander alone, and of links of other networks not there."""
    target = docker_world.make_container("db")
    db, web = docker_world.name("db"), docker_world.name("web")
    bystander = docker_world.make_container("web", links={db: "database"})
    (entry,) = docker_world.engine.list_containers(target)
    assert sorted(entry["Names"]) == sorted([f"/{db}", f"/{web}/database"])
    assert docker_world.engine.inspect_container(target)["HostConfig"]["Links"] is None
    assert docker_world.engine.inspect_container(bystander)["HostConfig"]["Links"] == [f"/{db}:/{web}/database"]
    assert only(docker_world.keys(bystander))["Links"] is None


@pytest.mark.fact("C.links.3")
def test_c4_links_on_other_networks_harm_nobody(docker_world: HostWorld) -> None:
    network = docker_world.make_network("n")
    target = docker_world.make_container("db", {network: PLAIN})
    link = f"{docker_world.name('db')}:database"
    bystander = docker_world.make_container("web", {network: EndpointSettings(links=(link,))})
    docker_world.engine.disconnect(network, target)
    docker_world.engine.kill(target)
    assert docker_world.exec(bystander, "true") == (0, "")
    docker_world.engine.stop(bystander, 0)
    docker_world.engine.start(bystander)
    (entry,) = docker_world.engine.list_containers(target)
    assert entry["Names"] == [f"/{docker_world.name('db')}"]
    assert docker_world.key(bystander, network)["Links"] == [link]


@pytest.mark.fact("C.mounts.1")
@pytest.mark.parametrize("source", ["/var/run/docker.sock", "/run/docker.sock", "/var/run", "/run", "/"])
@pytest.mark.parametrize("by_bind", [True, False], ids=["bind", "mount"])
def test_c4_a_socket_that_is_mounted_is_shown_as_it_was_asked_for(
    docker_world: HostWorld, source: str, by_bind: bool
) -> None:
    """C4: in Mounts, whichever way it was asked for, with links in paths not followed."""
    options: dict[str, t.Any] = (
        {"binds": [f"{source}:/held:ro"]}
        if by_bind
        else {"mounts": [docker.types.Mount("/held", source, type="bind", read_only=True)]}
    )
    container = docker_world.make_container("c", **options)
    found = docker_world.engine.inspect_container(container)
    (mount,) = found["Mounts"]
    assert (mount["Type"], mount["Source"], mount["Destination"]) == ("bind", source, "/held")
    assert bool(found["HostConfig"]["Binds"]) == by_bind
    inside = {"/": "/held/run/docker.sock", "/run": "/held/docker.sock", "/var/run": "/held/docker.sock"}
    assert docker_world.exec(container, "test", "-S", inside.get(source, "/held")) == (0, "")


# --- look-up ----------------------------------------------------------------------------------------------------------


@pytest.mark.fact("C.lookup.2")
def test_an_ambiguous_id(docker_world: HostWorld) -> None:
    first_by_digit: dict[str, str] = {}
    for number in itertools.count():  # at most 17: there are 16 digits
        container = docker_world.make_container(f"c{number}", state="created")
        if first_by_digit.setdefault(container[0], container) != container:
            break
    with refused(400 if docker_world.engine_from(26) else 500, "[Mm]ultiple IDs found"):
        docker_world.engine.inspect_container(container[0])


@pytest.mark.fact("C.lookup.3")
def test_paused_ones_are_not_among_the_running(docker_world: HostWorld) -> None:
    docker_world.make_container("paused", state="paused")
    container = docker_world.make_container("running")
    label = next(f"{name}={value}" for name, value in docker_world.labels.items())
    found = docker_world.api.containers(filters={"status": "running", "label": label})
    assert [entry["Id"] for entry in found] == [container]


@pytest.mark.fact("C.lookup.4")
def test_names_are_filtered_by_any_part_of_them(docker_world: HostWorld) -> None:
    one, other = (docker_world.make_container(name, state="created") for name in ("web", "web2"))
    name = docker_world.name("web")
    assert {entry["Id"] for entry in docker_world.api.containers(all=True, filters={"name": name})} == {one, other}
    anchored = docker_world.api.containers(all=True, filters={"name": f"^/{name}$"})
    assert [entry["Id"] for entry in anchored] == [one]


@pytest.mark.fact("C.lookup.5")
def test_a_tag_that_moved(docker_world: HostWorld) -> None:
    repository = docker_world.prefix
    docker_world.api.tag(IMAGE, repository, "latest")
    try:
        container = docker_world.make_container("c", image=f"{repository}:latest")
        docker_world.api.commit(container, repository, "latest")
        (entry,) = docker_world.engine.list_containers(container)
        assert entry["Image"].startswith("sha256:")
        assert docker_world.engine.inspect_container(container)["Config"]["Image"] == f"{repository}:latest"
    finally:
        docker_world.api.remove_image(f"{repository}:latest")


@pytest.mark.fact("C.events.5")
def test_a_filter_that_no_engine_knows(docker_world: HostWorld) -> None:
    container = docker_world.make_container("c")
    asked = docker_world.api.get(
        f"{docker_world.api.base_url}/v{docker_world.api.api_version}/events",
        params={"filters": json.dumps({"typo": ["x"]}), "since": "0", "until": f"{time.time():.9f}"},
        timeout=30,
    )
    assert asked.status_code == 200
    assert container in asked.text, "it is no filter at all"
