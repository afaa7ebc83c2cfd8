# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The root file system of a test host made a small one, which can be full or read-only."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.host import Host

# The file system below cannot be limited. So all that anybody writes to goes to one small tmpfs, through overlays.
# The engine keeps its own, as it has volumes there, or gets a directory on that disk, as on most hosts.
_LIMIT = """
set -eu
mkdir /mnt/disk /mnt/engine /mnt/containerd
mount -t tmpfs -o size={size}m,nr_inodes=8k disk /mnt/disk
engine=/var/lib/docker
[ -z "{shared}" ] || {{ engine=/mnt/disk/docker; mkdir $engine; }}
mount --bind $engine /mnt/engine
mount --bind /var/lib/containerd /mnt/containerd
cp /etc/hostname /etc/hosts /etc/resolv.conf /mnt
for directory in etc home opt root srv tmp usr var; do
  mkdir -p /mnt/disk/$directory/upper /mnt/disk/$directory/work
  mount -t overlay \
    -o lowerdir=/$directory,upperdir=/mnt/disk/$directory/upper,workdir=/mnt/disk/$directory/work disk /$directory
done
cp /mnt/hostname /mnt/hosts /mnt/resolv.conf /etc
chmod 1777 /tmp
mount --bind /mnt/engine /var/lib/docker
mount --bind /mnt/containerd /var/lib/containerd
"""
# To the last byte and the last inode: a file system that is merely full still takes empty files.
_FILL = """
import errno, os
os.makedirs("/mnt/disk/filled", exist_ok=True)
with open("/mnt/disk/filled/bytes", "ab", buffering=0) as file:
    for size in (65536, 4096, 1):
        try:
            while True:
                file.write(bytes(size))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
try:
    for number in range(10000):
        open(f"/mnt/disk/filled/{number}", "x").close()
except OSError as error:
    assert error.errno == errno.ENOSPC, error
"""
_PROTECT = """
set -eu
for where in / /etc /home /opt /root /srv /tmp /usr /var; do
  mount -o remount,bind,{} $where
done
"""


class SmallDisk:
    """The disk of one private host, which is to be stopped afterwards: it stays small until then.

    What is in memory on real hosts is so here, too, and goes on working: /run and /dev/shm.

    Attributes:
        host: the host.
    """

    def __init__(self, host: Host, shared: bool = False) -> None:
        """Make it small. The engine of the host is restarted.

        Args:
            host: the host.
            shared: the engine keeps what it has to remember on it, too. It goes on writing when it is read-only.
        """
        self.host = host
        host.stop_engine()
        self._do(_LIMIT.format(size=64 if shared else 8, shared="yes" if shared else ""))
        host.start_engine()
        host.start()  # it has its images anew

    def fill(self) -> None:
        """Fill it until nobody, root included, can write a byte, or make a file or a directory."""
        status, output = self.host.exec("python3", "-c", _FILL)
        if status:
            raise TestbedError(f"{self.host}: {output}")

    def make_read_only(self) -> None:
        """Make it read-only, as the kernel does where a disk is broken."""
        self._do(_PROTECT.format("ro"))

    def heal(self) -> None:
        """Make it writable, with room."""
        self._do(_PROTECT.format("rw") + "rm -rf /mnt/disk/filled\n")

    def _do(self, script: str) -> None:
        status, output = self.host.exec("sh", "-c", script)
        if status:
            raise TestbedError(f"{self.host}: {output}")
