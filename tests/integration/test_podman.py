# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What Podman says where a Docker Engine is expected."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import docker
import pytest

from ansible_collections.ironpost.container_guard.tests.integration.ansible_runs import Ansible
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import IMAGE, SLEEP
from ansible_collections.ironpost.container_guard.tests.testbed.podman import PodmanHost

NETWORK, CONTAINER = "net", "victim"


@pytest.fixture(scope="module")
def api(podman_host: PodmanHost) -> t.Iterator[docker.APIClient]:
    """Podman, and one container that runs on one network."""
    with contextlib.closing(docker.APIClient(base_url=podman_host.docker_host, version="auto", timeout=60)) as found:
        found.create_network(NETWORK)
        host_config = found.create_host_config(network_mode=NETWORK, restart_policy={"Name": "always"})
        found.create_container(IMAGE, list(SLEEP), name=CONTAINER, host_config=host_config)
        found.start(CONTAINER)
        yield found
        found.remove_container(CONTAINER, force=True)
        found.remove_network(NETWORK)


def keys(api: docker.APIClient) -> dict[str, t.Any]:
    return dict(api.inspect_container(CONTAINER)["NetworkSettings"]["Networks"])


@pytest.mark.fact("C.podman.1")
def test_the_version_names_podman_among_its_components(api: docker.APIClient) -> None:
    version = api.version()
    assert version["Components"][0]["Name"] == "Podman Engine"
    assert version["Version"] == version["Components"][0]["Version"]
    assert version["ApiVersion"] == "1.41"
    assert "Engine" not in [component["Name"] for component in version["Components"]]


@pytest.mark.fact("C.podman.2")
def test_a_container_that_runs_on_a_network_has_no_endpoint_there(api: docker.APIClient) -> None:
    assert api.inspect_container(CONTAINER)["State"]["Running"] is True
    (key,) = keys(api).values()
    assert key["IPAddress"]
    assert key["EndpointID"] == ""
    (member,) = api.inspect_network(NETWORK)["Containers"].values()
    assert (member["Name"], member["EndpointID"]) == (CONTAINER, "")


@pytest.mark.fact("C.podman.3")
def test_the_list_of_containers_has_no_host_config(api: docker.APIClient) -> None:
    (entry,) = api.containers(all=True)
    assert "HostConfig" not in entry


@pytest.mark.fact("C.podman.4")
def test_disconnected_while_paused_it_stays_a_member(api: docker.APIClient) -> None:
    api.pause(CONTAINER)
    assert api.inspect_container(CONTAINER)["State"]["Status"] == "paused"
    api.disconnect_container_from_network(CONTAINER, NETWORK)
    # A network that it was never on is shown instead, without an address.
    (name,) = keys(api)
    assert (name, keys(api)[name]["IPAddress"], keys(api)[name]["EndpointID"]) == ("bridge", "", "")
    assert [member["Name"] for member in api.inspect_network(NETWORK)["Containers"].values()] == [CONTAINER]
    api.connect_container_to_network(CONTAINER, NETWORK)
    api.unpause(CONTAINER)
    assert list(keys(api)) == [NETWORK]


# --- the guard --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["isolated", "released"])
def test_the_guard_refuses_podman_and_says_so(
    api: docker.APIClient, podman_host: PodmanHost, tmp_path: pathlib.Path, state: str
) -> None:
    before = api.inspect_container(CONTAINER)
    result = Ansible(tmp_path).isolation(CONTAINER, state, docker_host=podman_host.docker_host)
    assert result.get("failed") is True, result
    assert "Podman" in result["msg"]
    after = api.inspect_container(CONTAINER)
    assert [after[part] for part in ("State", "NetworkSettings")] == [
        before[part] for part in ("State", "NetworkSettings")
    ]


def test_isolation_info_says_that_it_is_podman(podman_host: PodmanHost, tmp_path: pathlib.Path) -> None:
    ansible = Ansible(tmp_path)
    result = ansible.module("isolation_info", docker_host=podman_host.docker_host, state_dir=str(ansible.state_dir))
    assert result.get("failed") is True, result
    assert "Podman" in result["msg"]
    assert "HostConfig" not in result["msg"]
