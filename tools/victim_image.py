"""Build container-guard/busybox:latest, the container that tests and the demo isolate, without a registry."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
from pathlib import Path

import docker

REPOSITORY, TAG = "container-guard/busybox", "latest"
KEY_LABEL = "container-guard.victim-key"
BUSYBOX = Path("/bin/busybox")

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n"
GROUP = b"root:x:0:\nnogroup:x:65534:\n"


def root_filesystem(busybox: bytes, applets: list[str]) -> bytes:
    """Return a tar archive of BusyBox, a link for each of its applets and the few files that they expect."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:

        def add(name: str, mode: int, data: bytes = b"", **attributes: object) -> None:
            member = tarfile.TarInfo(name)
            member.mode, member.size = mode, len(data)
            for attribute, value in attributes.items():
                setattr(member, attribute, value)
            archive.addfile(member, io.BytesIO(data))

        for directory, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("www", 0o755)):
            add(directory, mode, type=tarfile.DIRTYPE)
        add("bin/busybox", 0o755, busybox)
        add("etc/passwd", 0o644, PASSWD)
        add("etc/group", 0o644, GROUP)
        for applet in applets:
            add(f"bin/{applet}", 0o777, type=tarfile.SYMTYPE, linkname="busybox")
    return buffer.getvalue()


def main() -> None:
    """Import the image, unless the engine has it already from this BusyBox and this file."""
    busybox = BUSYBOX.read_bytes()
    key = hashlib.sha256(busybox + Path(__file__).read_bytes()).hexdigest()
    api = docker.from_env(timeout=60).api
    try:
        labels = api.inspect_image(f"{REPOSITORY}:{TAG}")["Config"]["Labels"] or {}
    except docker.errors.ImageNotFound:
        labels = {}
    if labels.get(KEY_LABEL) == key:
        return

    print(f"importing {REPOSITORY}:{TAG} ...", flush=True)
    listing = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout
    applets = [applet for applet in listing.split() if applet != "busybox"]
    api.import_image_from_data(
        root_filesystem(busybox, applets),
        repository=REPOSITORY,
        tag=TAG,
        changes=[f"LABEL {KEY_LABEL}={key}", "ENV PATH=/bin", 'CMD ["sleep", "infinity"]'],
    )


if __name__ == "__main__":
    try:
        main()
    except (OSError, subprocess.CalledProcessError, docker.errors.DockerException) as error:
        sys.exit(f"error: cannot build {REPOSITORY}:{TAG}: {error}")
