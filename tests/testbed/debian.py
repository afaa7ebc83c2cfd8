# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Systems of Debian, unpacked with debootstrap, as there is no registry to pull them from."""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import subprocess
import tempfile
import typing as t

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError
from ansible_collections.ironpost.container_guard.tests.testbed.recipe import MIRROR

# The unpacked system, its packages beside it, and the image made of both.
NEEDED_BYTES = 2_000_000_000
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
LOG_LINES = 15
# chroot, mknod and the owners of files need root.
AS_ROOT = ([] if os.geteuid() == 0 else ["sudo"]) + ["env", f"PATH={PATH}", "LC_ALL=C.UTF-8"]


@contextlib.contextmanager
def unpacked(suite: str, packages: t.Sequence[str]) -> t.Iterator[pathlib.Path]:
    """The directory of a system that has these packages, removed afterwards. Raises TestbedError."""
    program = shutil.which("debootstrap", path=PATH)
    if program is None or not pathlib.Path(KEYRING).exists():
        raise TestbedError(
            "debootstrap or the keys of the Debian archive are missing; run: tools/setup.sh testbed"
            " (or: apt-get install debootstrap debian-archive-keyring)"
        )
    # Not /tmp, which may be in memory, or mounted so that no program runs there.
    parent = "/var/tmp"
    check_space(parent)
    directory = pathlib.Path(tempfile.mkdtemp(prefix="container-guard-testbed-", dir=parent))
    try:
        root, log = directory / "root", directory / "log"
        command = [program, "--variant=minbase", f"--keyring={KEYRING}", f"--include={','.join(packages)}"]
        with log.open("wb") as file:
            done = subprocess.run(
                [*AS_ROOT, *command, suite, str(root), MIRROR],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        if done.returncode:
            said = log.read_text(errors="replace")
            # Of what went wrong in the new system, debootstrap itself says only where to read about it.
            if "debootstrap.log" in said:
                said += (root / "debootstrap/debootstrap.log").read_text(errors="replace")
            raise TestbedError(
                f"debootstrap could not build Debian {suite} from {MIRROR} (is it reachable?):\n" + end_of(said)
            )
        yield root
    finally:
        subprocess.run([*AS_ROOT, "rm", "-rf", "--one-file-system", str(directory)], check=False)


def check_space(path: str) -> None:
    """Raise TestbedError where there is no room for a system."""
    try:
        free = shutil.disk_usage(path).free
    except OSError:  # the directory of the engine may be closed to this user; the import will say it then
        return
    if free < NEEDED_BYTES:
        raise TestbedError(
            f"{path} has {free // 10**6} MB left and a test host needs {NEEDED_BYTES // 10**6} MB to be built;"
            " make room, for example with: docker system prune"
        )


def end_of(text: str) -> str:
    """The last lines of what a program said, indented."""
    return "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:])
