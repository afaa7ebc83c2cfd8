# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The containers of the demo, and what the Docker Engine says about them.

Through the Docker SDK, without any code of the guard, so that the guard is not its own witness.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import pathlib
import shutil
import socket
import sys
import tempfile
import time
import typing as t
from collections.abc import Iterator

import docker
import docker.errors
import docker.types
import requests

from demo_lib.processes import end_processes, ignore_signals, uninterrupted
from demo_lib.screen import UnmetError, detail, different, done, expect, expect_quietly, paragraph, wait_for

IMAGE = "container-guard/busybox:latest"
# By these an interrupted demo is found: its containers and networks, and its directories.
LABEL = "container-guard.demo"
PREFIX = "container-guard-demo-"

TARGET, BYSTANDER = "guard-demo-target", "guard-demo-bystander"
FRONT, BACK, ALIAS = "guard-demo-front", "guard-demo-back", "shop-database"
COUNT = "n=0; while true; do n=$((n+1)); echo $n; sleep 0.1; done"
# In order of preference. Container managers like these ranges too, so what is in use is left out.
POOLS = ("10.88.0.0/16", "10.213.0.0/16", "172.30.0.0/16", "192.168.192.0/20")

Json = dict[str, t.Any]


class Lab:
    """All that the demo makes. As a context, it begins without the leftovers of an earlier demo, and leaves none."""

    def __init__(self) -> None:
        self.api = connect()
        self.directory = pathlib.Path()
        self.bystander = ""

    def __enter__(self) -> t.Self:
        # A name in the abstract namespace is freed by the kernel, however the demo ends.
        self._lock = socket.socket(socket.AF_UNIX)
        try:
            self._lock.bind("\0container-guard-demo")
        except OSError:
            raise UnmetError("Another demo is running on this machine. Wait for it to end") from None
        try:
            leftovers = self.remove_everything()
            if leftovers:
                paragraph("", f"An interrupted demo had left, and this one has removed: {', '.join(leftovers)}.")
            self.directory = pathlib.Path(tempfile.mkdtemp(prefix=PREFIX))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ignore_signals()
        self.remove_everything()
        self._lock.close()

    def make_containers(self) -> tuple[str, str]:
        """Start the target and the bystander, and return their ids. That of the bystander sorts first, as its name."""
        self._make_network(FRONT)
        subnet = self._make_network(BACK)
        bystander, target = sorted(self._make_container() for _ in range(2))
        self.bystander = bystander
        self.api.rename(bystander, BYSTANDER)
        self.api.rename(target, TARGET)
        self.api.connect_container_to_network(bystander, BACK)
        # The default in dynamic allocation is to count upwards from the start of the subnet.
        self.api.connect_container_to_network(target, BACK, ipv4_address=str(subnet[77]), aliases=[ALIAS])
        for container in (bystander, target):
            self.api.start(container)
        return target, bystander

    def _make_container(self) -> str:
        host_config = self.api.create_host_config(
            network_mode=FRONT,
            restart_policy={"Name": "unless-stopped"},
            log_config=docker.types.LogConfig(type="json-file"),
        )
        with uninterrupted():
            created = self.api.create_container(
                IMAGE, ["sh", "-c", COUNT], labels={LABEL: "true"}, host_config=host_config, stop_signal="SIGKILL"
            )
        return str(created["Id"])

    def _make_network(self, name: str) -> ipaddress.IPv4Network:
        for subnet in self._free_subnets():
            ipam = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=str(subnet))])
            try:
                with uninterrupted():
                    self.api.create_network(
                        name, ipam=ipam, internal=True, labels={LABEL: "true"}, check_duplicate=True
                    )
            except docker.errors.APIError as error:
                # Somebody took it meanwhile, or the engine is on another machine and knows of routes that we do not.
                if "overlap" not in str(error):
                    raise
            else:
                return subnet
        raise UnmetError(f"There is no free subnet for a network in any of {', '.join(POOLS)}")

    def _free_subnets(self) -> Iterator[ipaddress.IPv4Network]:
        taken = list(routes())
        for network in self.api.networks():
            for config in (network["IPAM"] or {}).get("Config") or ():
                with contextlib.suppress(ValueError, KeyError):  # IPv6
                    taken.append(ipaddress.IPv4Network(config["Subnet"]))
        for pool in POOLS:
            for subnet in ipaddress.IPv4Network(pool).subnets(new_prefix=24):
                if not any(subnet.overlaps(other) for other in taken):
                    yield subnet

    def inspect(self, container: str) -> Json:
        """What the engine says about a container, but for commands that we run in it ourselves."""
        return {**self.api.inspect_container(container), "ExecIDs": None}

    def attack(self, target: str, command: list[str]) -> None:
        """Run a command whose binary was put into the target, and leave it running."""
        placed = self.run(target, "cp", "/bin/busybox", command[0])
        expect_quietly(placed, f"{command[0]} could be put into the target", "cp failed")
        self.api.exec_start(self.api.exec_create(target, command)["Id"], detach=True)
        search = f"ps | grep -q '[{command[0][0]}]{command[0][1:]}'"  # which does not find itself
        wait_for(lambda: self.run(target, "sh", "-c", search), f"{command[0]} runs in the target", 10)

    def run(self, container: str, *command: str) -> bool:
        """Run a command in a container to its end. Whether it succeeded."""
        exec_id = self.api.exec_create(container, list(command))["Id"]
        self.api.exec_start(exec_id)
        return bool(self.api.exec_inspect(exec_id)["ExitCode"] == 0)

    def pings(self, name: str) -> bool:
        """Whether a ping from the bystander is answered within a second."""
        return self.run(self.bystander, "ping", "-c", "1", "-W", "1", name)

    def counted(self, container: str) -> list[int]:
        """What the process of a container has printed: the natural numbers, as long as it goes on."""
        return [int(line) for line in self.api.logs(container).split()]

    def engine_events(self, container: str, since: int) -> list[tuple[int, str]]:
        """What the engine did to a container: time in nanoseconds since the epoch, and what."""
        found = {}
        # The engine takes seconds; a window that ends in the past ends the stream.
        for event in self.api.events(since=since // 10**9, until=int(time.time()) + 1, decode=True):
            about = event["Actor"]["Attributes"].get("container", event["Actor"]["ID"])
            if about == container and event["timeNano"] >= since and event["Action"] in ("pause", "disconnect"):
                network = event["Actor"]["Attributes"].get("name", "")
                # It tells some events twice.
                found.setdefault("paused" if event["Action"] == "pause" else f"off {network}", event["timeNano"])
        return [(moment, what) for what, moment in found.items()]

    def expect_isolated(self, target: str, addresses: tuple[str, ...]) -> int:
        """Raise UnmetError unless the target is frozen and off every network. Returns how far its process counted."""
        found = self.inspect(target)
        expect(found["State"]["Paused"], "The target is paused", f"it is {found['State']['Status']}")
        attached = list(found["NetworkSettings"]["Networks"])
        attached += [name for name in (FRONT, BACK) if target in self.api.inspect_network(name)["Containers"]]
        expect(not attached, "It is on no network, nor does any network list it", f"it is on {', '.join(attached)}")
        answered, counts = [], []
        for address in addresses:
            if self.pings(address):
                answered.append(address)
            counts.append(len(self.counted(target)))  # at intervals of a second, which the ping waits
        expect(not answered, "The bystander gets no answer to its pings any more", f"{', '.join(answered)} answered")
        still = len(set(counts)) == 1
        expect(still, f"Its process stands still, having counted to {counts[0]}", f"it had counted to {counts}")
        return counts[0]

    def expect_untouched(self, bystander: str, before: Json) -> None:
        """Raise UnmetError unless all that the engine says about the bystander is as it was."""
        differences = different(before, self.inspect(bystander))
        expect(not differences, "The bystander is untouched: docker inspect says the same", "; ".join(differences))

    def expect_as_before(self, target: str, before: Json, stood_at: int) -> None:
        """Raise UnmetError unless the target is as it was, and goes on where it stood still."""
        found = self.inspect(target)
        networks, networks_before = (
            {
                name: {key: value for key, value in endpoint.items() if key != "EndpointID"}
                for name, endpoint in one["NetworkSettings"]["Networks"].items()
            }
            for one in (found, before)
        )
        differences = different(networks_before, networks)
        what = "Networks, static address and alias are back: docker inspect says the same"
        expect(not differences, what, "; ".join(differences))
        differences = different(before["HostConfig"], found["HostConfig"])
        policy = found["HostConfig"]["RestartPolicy"]["Name"]
        expect(not differences, f"So is the restart policy, {policy}", "; ".join(differences))
        differences = different(before["State"], found["State"])
        expect_quietly(not differences, "The process is the same", "; ".join(differences))
        wait_for(lambda: len(self.counted(target)) > stood_at, "The process goes on after the release", 10)
        count = self.counted(target)
        expect_quietly(count == list(range(1, len(count) + 1)), "The process goes on counting", f"{count[-20:]}")
        done(f"The process, still {found['State']['Pid']}, goes on counting at {stood_at + 1}.")

    def expect_answers(self, names: tuple[str, ...]) -> None:
        """Raise UnmetError unless pings from the bystander are answered, by names or addresses."""
        for name in names:
            wait_for(lambda name=name: self.pings(name), f"{name} answers a ping from {BYSTANDER}", 10)
        done("The bystander gets answers to its pings, to:")
        detail(", ".join(names))

    def remove_everything(self) -> list[str]:
        """Remove what demos made, this one and earlier ones, and say what that was."""
        removed = end_processes()
        for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
            if directory.lstat().st_uid == os.getuid():
                shutil.rmtree(directory)
                removed.append(str(directory))
        for container in self.api.containers(all=True, filters={"label": f"{LABEL}=true"}):
            with contextlib.suppress(docker.errors.NotFound):
                self.api.remove_container(container["Id"], force=True, v=True)
            removed.append(container["Names"][0].lstrip("/"))
        for network in self.api.networks(filters={"label": f"{LABEL}=true"}):
            # An interrupted connect may leave an endpoint without a container.
            for endpoint in self.api.inspect_network(network["Id"])["Containers"].values():
                self.api.disconnect_container_from_network(endpoint["Name"], network["Id"], force=True)
            self.api.remove_network(network["Id"])
            removed.append(network["Name"])
        return removed


def connect() -> docker.APIClient:
    """A client of the engine. Raises UnmetError where it does not answer."""
    where = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    try:
        api = docker.from_env(timeout=30).api
        api.inspect_image(IMAGE)
    except docker.errors.ImageNotFound:
        raise UnmetError(f"The image {IMAGE} is missing. Make it with: tools/setup.sh victim") from None
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise UnmetError(
            f"The Docker Engine at {where} does not answer: {root_cause(error)}. Start it with: make engine"
        ) from None
    return api


def root_cause(error: BaseException) -> str:
    """What the engine said, or why it said nothing: "Connection aborted" does not tell, "Permission denied" does."""
    if isinstance(error, docker.errors.APIError):
        return str(error.explanation)
    return root_cause(error.__context__) if error.__context__ else str(error)


def routes() -> Iterator[ipaddress.IPv4Network]:
    """What this machine has routes to, but for the default route."""
    with contextlib.suppress(FileNotFoundError), open("/proc/net/route", encoding="ascii") as table:
        for line in table.readlines()[1:]:
            fields = line.split()
            address, mask = (socket.inet_ntoa(int(fields[n], 16).to_bytes(4, sys.byteorder)) for n in (1, 7))
            if mask != "0.0.0.0":  # noqa: S104 - a mask, not an address to listen on
                yield ipaddress.IPv4Network(f"{address}/{mask}")
