# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All test hosts: made and started where they are missing, and removed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import functools
import os
import pathlib
import typing as t

import docker

from ansible_collections.ironpost.container_guard.tests.testbed import image, podman, vm_image
from ansible_collections.ironpost.container_guard.tests.testbed import systemd_host as systemd
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import LABEL, PREFIX, Host
from ansible_collections.ironpost.container_guard.tests.testbed.podman import PodmanHost
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import PACKAGES, Recipe
from ansible_collections.ironpost.container_guard.tests.testbed.systemd_host import SystemdHost
from ansible_collections.ironpost.container_guard.tests.testbed.vm import VirtualMachine

# debootstrap keeps one core busy: on two cores, three at a time are no faster than two.
BUILDS_AT_A_TIME = 2
CONTROL_PORT = 5000
"""That of the control node which is reached from this machine: of the event source."""


def up(wanted: t.Sequence[Recipe], say: t.Callable[[str], None] = print, complete: bool = False) -> list[Host]:
    """Build the images that are missing and start the hosts that do not run.

    Args:
        wanted: the hosts.
        say: is told what takes long.
        complete: build the images of the virtual machine and of Podman, too, which tests start when they need them.

    Raises:
        TestbedError: it says why and what to do.
    """
    with _one_at_a_time(), _machine() as api:
        _remove_abandoned(api)
        builds = [
            functools.partial(_build, api, recipe, say) for recipe in wanted if not image.is_built(api, recipe.image)
        ]
        if complete and not vm_image.current().is_built:
            builds.append(functools.partial(_build_machine, say))
        if complete and not image.is_built(api, podman.IMAGE):
            builds.append(functools.partial(_build_podman, api, say))
        _on_each(builds, lambda build: build(), BUILDS_AT_A_TIME)
        hosts = [Host(recipe) for recipe in wanted]
        _on_each(hosts, lambda host: _start(host, say))
        return hosts


def down(say: t.Callable[[str], None] = print, images: bool = False) -> None:
    """Stop and remove every test host, and the images if wanted. Raises TestbedError."""
    with _one_at_a_time(), _machine() as api:
        for host in _existing(api):
            with contextlib.closing(host):
                say(f"stopping {host.name} ...")
                host.stop()
        for name in [*image.remove_all(api), *vm_image.remove_all()] if images else ():
            say(f"removed {name}")


def private_host(recipe: Recipe, name: str = "") -> Host:
    """A host for this process alone, not started yet. If the process is killed, the next one removes it.

    Args:
        recipe: its engine.
        name: tells several of one recipe apart.
    """
    return Host(recipe, f"-{os.getpid()}" + (f"-{name}" if name else ""))


def virtual_machine(say: t.Callable[[str], None] = print) -> VirtualMachine:
    """A virtual machine for this process alone, not started yet. Raises TestbedError."""
    found = vm_image.current()
    with _one_at_a_time():
        if not found.is_built:
            _build_machine(say)
    return VirtualMachine(found)


def podman_host(say: t.Callable[[str], None] = print) -> PodmanHost:
    """A host with Podman for this process alone, not started yet. Raises TestbedError."""
    with _one_at_a_time(), _machine() as api:
        if not image.is_built(api, podman.IMAGE):
            _build_podman(api, say)
    return PodmanHost(f"-{os.getpid()}")


def systemd_host(published: int, say: t.Callable[[str], None] = print) -> SystemdHost:
    """A host with systemd and a published port for this process alone, not started yet. Raises TestbedError."""
    with _one_at_a_time(), _machine() as api:
        _build_systemd(api, say)
    return SystemdHost(published, f"-{os.getpid()}")


def control_node(say: t.Callable[[str], None] = print) -> SystemdHost:
    """The host with systemd that outlives this process, as those of up() do: started where it is missing.

    Raises TestbedError.
    """
    with _one_at_a_time(), _machine() as api:
        _build_systemd(api, say)
        host = SystemdHost(CONTROL_PORT)
        if not host.is_there:
            host.stop()
            host = SystemdHost(CONTROL_PORT)
            host.start()
            say(f"started {host.name} with systemd")
    return host


def _build_systemd(api: docker.APIClient, say: t.Callable[[str], None]) -> None:
    if not image.is_built(api, systemd.IMAGE):
        say("building a host with systemd (about two minutes) ...")
        image.build(api, systemd.IMAGE, systemd.SUITE, systemd.PACKAGES)


def _build_podman(api: docker.APIClient, say: t.Callable[[str], None]) -> None:
    say("building a host with Podman (about a minute) ...")
    image.build(api, podman.IMAGE, podman.SUITE, podman.PACKAGES)


def _build(api: docker.APIClient, recipe: Recipe, say: t.Callable[[str], None]) -> None:
    say(f"building {recipe.suite} with Docker {recipe.engine} (about a minute) ...")
    image.build(api, recipe.image, recipe.suite, PACKAGES)


def _build_machine(say: t.Callable[[str], None]) -> None:
    say(f"building a virtual machine with {vm_image.SUITE} (about a minute) ...")
    vm_image.current().build()


def _start(host: Host, say: t.Callable[[str], None]) -> None:
    if host.start():
        say(f"started {host.name} with Docker {host.version}")


def _on_each(items: t.Sequence[t.Any], work: t.Callable[[t.Any], None], at_a_time: int = 8) -> None:
    with concurrent.futures.ThreadPoolExecutor(at_a_time) as pool:
        for future in [pool.submit(work, item) for item in items]:
            future.result()


def _existing(api: docker.APIClient) -> list[Host]:
    found = []
    for entry in api.containers(all=True, filters={"label": LABEL}):
        engine, name = entry["Labels"][LABEL], entry["Names"][0].lstrip("/")
        if name.startswith(PREFIX + engine):
            found.append(Host(Recipe(engine, ""), name.removeprefix(PREFIX + engine)))
    return found


def _remove_abandoned(api: docker.APIClient) -> None:
    for host in _existing(api):
        with contextlib.closing(host):
            _engine, owner, *_name = [*host.name.removeprefix(PREFIX).split("-"), ""]
            if owner and not pathlib.Path("/proc", owner).exists():
                host.stop()


@contextlib.contextmanager
def _one_at_a_time() -> t.Iterator[None]:
    """Let two test runs that start together not build or start the same host."""
    with open(__file__, encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _machine() -> t.Iterator[docker.APIClient]:
    """The engine of this machine."""
    host = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not host.startswith("unix://"):
        raise TestbedError(f"the testbed needs a Docker Engine on this machine, and DOCKER_HOST is {host}; unset it")
    try:
        with contextlib.closing(docker.APIClient(base_url=host, version="auto", timeout=600)) as api:
            yield api
    except docker.errors.DockerException as error:
        raise TestbedError(f"the Docker Engine at {host} says: {error}") from error
