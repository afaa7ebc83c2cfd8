# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the virtual machine boots: a disk, a kernel, and the keys to log in with. Kept between runs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

from ansible_collections.ironpost.container_guard.tests.testbed import debian
from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import MIRROR

SUITE = "trixie"
PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "dbus", "libpam-systemd", "kmod", "iproute2", "iptables", "procps", "zstd"),
    *("openssh-server", "sudo", "docker.io", "python3", "python3-docker", "linux-image-cloud-amd64", "initramfs-tools"),
    *("python3-aiohttp", "python3-apt"),  # what the role host_service would install
)
DISK_SIZE = "6G"
FURNISH = pathlib.Path(__file__).with_name("furnish_vm.sh")
CACHE = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache", "container-guard/testbed")


@dataclasses.dataclass(frozen=True)
class MachineImage:
    """One image. The same recipe is never built twice, as its directory is named after all that goes into it."""

    directory: pathlib.Path

    @property
    def disk(self) -> pathlib.Path:
        """The file system, raw, with holes. Never written to after it was made."""
        return self.directory / "disk"

    @property
    def kernel(self) -> pathlib.Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> pathlib.Path:
        return self.directory / "initrd"

    @property
    def user_key(self) -> pathlib.Path:
        """Private key with which C(root) and C(operator) log in."""
        return self.directory / "keys/user"

    @property
    def host_key(self) -> str:
        """Public key of its sshd."""
        return (self.directory / "keys/host.pub").read_text()

    @property
    def is_built(self) -> bool:
        return self.directory.exists()

    def build(self) -> None:
        """Build it, which takes about a minute. Raises TestbedError."""
        CACHE.mkdir(mode=0o700, parents=True, exist_ok=True)
        debian.check_space(str(CACHE))
        # Half an image is none: it gets its name when it is whole.
        unfinished = pathlib.Path(tempfile.mkdtemp(prefix="unfinished-", dir=CACHE))
        image = MachineImage(unfinished)
        try:
            keys = unfinished / "keys"
            keys.mkdir()
            for name in ("host", "user"):
                _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "testbed-vm", "-f", str(keys / name))
            with debian.unpacked(SUITE, PACKAGES) as root:
                _run(*debian.AS_ROOT, str(FURNISH), str(root), str(keys))
                # It makes the file system without mounting one.
                _run(*debian.AS_ROOT, "mke2fs", "-q", "-t", "ext4", "-d", str(root), str(image.disk), DISK_SIZE)
                for link, file in (("vmlinuz", image.kernel), ("initrd.img", image.initrd)):
                    _run(*debian.AS_ROOT, "cp", str(root / os.readlink(root / link)), str(file))
            owner = f"{os.geteuid()}:{os.getegid()}"
            _run(*debian.AS_ROOT, "chown", owner, *map(str, (image.disk, image.kernel, image.initrd)))
            unfinished.rename(self.directory)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def current() -> MachineImage:
    """The image of the recipe as it is now, built or not."""
    parts = json.dumps([SUITE, MIRROR, PACKAGES, DISK_SIZE]).encode() + FURNISH.read_bytes()
    return MachineImage(CACHE / f"vm-{hashlib.sha256(parts).hexdigest()[:12]}")


def remove_all() -> list[str]:
    """Remove the images, also of former recipes, and return where they were."""
    found = [*CACHE.glob("vm-*"), *CACHE.glob("unfinished-*")]
    for directory in found:
        shutil.rmtree(directory)
    return list(map(str, found))


def _run(*command: str) -> None:
    done = subprocess.run(
        command, check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise TestbedError(f"the virtual machine cannot be made: {command[0]}:\n{debian.end_of(done.stdout)}")
