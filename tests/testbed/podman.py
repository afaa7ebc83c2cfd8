# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with Podman, whose socket answers as if it were a Docker Engine. The guard must not take it for one."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time

import docker

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import (
    LABEL,
    PATIENCE,
    PREFIX,
    RUN,
    answers_ping,
    import_victim,
    init_archive,
    privileged,
)
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import EXCLUDED, MIRROR, REPOSITORY

SUITE = "trixie"
PACKAGES = ("podman", "crun", "netavark", "aardvark-dns", "nftables", "iproute2", "procps", "python3")
IMAGE = (
    f"{REPOSITORY}-podman:"
    + (hashlib.sha256(json.dumps([SUITE, MIRROR, PACKAGES, EXCLUDED]).encode()).hexdigest()[:12])
)
# The storage of the host is a volume, on which nothing but whole copies is sure to work, and systemd does not run.
_SERVE = """
import os, pathlib, sys
sys.path.insert(0, "/usr/local/lib/testbed")
import init
init.prepare_cgroups()
etc = pathlib.Path("/etc/containers")
etc.joinpath("storage.conf").write_text(
    '[storage]\\ndriver = "vfs"\\nrunroot = "/run/containers/storage"\\ngraphroot = "/var/lib/containers/storage"\\n'
)
etc.joinpath("containers.conf").write_text('[engine]\\ncgroup_manager = "cgroupfs"\\nevents_logger = "file"\\n')
os.execvp("podman", ["podman", "system", "service", "--time=0", f"unix://{sys.argv[1]}"])
"""
_POLL = 0.05


class PodmanHost:
    """One host of this process, with a process namespace of its own.

    Attributes:
        name: of the host, and of the container that it is.
        docker_host: URL of the socket that Docker's clients may use.
    """

    def __init__(self, suffix: str) -> None:
        """Describe it; start() makes it be."""
        self.name = f"{PREFIX}podman{suffix}"
        self._directory = RUN / self.name
        self._socket = self._directory / "podman.sock"
        self.docker_host = f"unix://{self._socket}"
        self._api = docker.APIClient(base_url=os.environ.get("DOCKER_HOST"), version="auto", timeout=120)

    def __repr__(self) -> str:
        return self.name

    def start(self) -> None:
        """Start it, with the image that tests make containers of. Raises TestbedError."""
        RUN.mkdir(mode=0o755, exist_ok=True)
        self._directory.mkdir(mode=0o700)
        host_config = privileged(
            self._api,
            self._directory,
            tmpfs={"/run": "exec"},
        )
        self._api.create_container(
            IMAGE,
            ["python3", "-c", _SERVE, str(self._socket)],
            name=self.name,
            labels={LABEL: "podman"},
            environment={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
            volumes=["/var/lib/containers"],
            host_config=host_config,
        )
        self._api.put_archive(self.name, "/usr/local/lib", init_archive())
        self._api.start(self.name)
        self._wait()
        import_victim(self.name, self.docker_host, PATIENCE)

    def stop(self) -> None:
        """Stop it and remove all that is left of it."""
        with contextlib.suppress(docker.errors.NotFound):
            self._api.remove_container(self.name, force=True, v=True)
        shutil.rmtree(self._directory, ignore_errors=True)
        self._api.close()

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not answers_ping(self.docker_host, PATIENCE):
            ended = not self._api.inspect_container(self.name)["State"]["Running"]
            if ended or time.monotonic() > deadline:
                said = self._api.logs(self.name, tail=15).decode(errors="replace")
                raise TestbedError(f"{self.name} {'ended' if ended else 'does not answer'}:\n{said}")
            time.sleep(_POLL)
