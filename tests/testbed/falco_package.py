# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts on a test host what the package of Falco does, with a stand-in for its program."""

from __future__ import annotations

import base64
import io
import pathlib
import tarfile
import typing as t

import yaml

from ansible_collections.ironpost.container_guard.tests.testbed.errors import TestbedError

PROGRAM = pathlib.Path(__file__).with_name("falco.py")
LIBRARY = "usr/local/lib/falco-stand-in"
# As the package has it, but for its length. Before 0.38 there was no config_files.
CONFIG = """\
# Owners edit this file, and have it kept when the package is upgraded.
watch_config_files: true
json_output: false
append_output:
  - suggested_output: true
stdout_output:
  enabled: true
http_output:
  enabled: false
  url: ""
"""
CURRENT = CONFIG + "config_files:\n  - /etc/falco/config.d\n"
_LAUNCHER = """\
#!/bin/sh
exec env PYTHONPATH=/{library} FALCO_STAND_IN_VERSION={version} python3 /{library}/falco.py "$@"
"""
UNIT = "/usr/lib/systemd/system/falco-modern-bpf.service"
EVENTS = "/run/falco-events"
"""A named pipe through which the stand-in is told what happens in the kernel, where systemd runs it."""
_UNIT = f"""\
[Service]
ExecStart=/bin/sh -c 'exec /usr/bin/falco <>{EVENTS}'
[Install]
WantedBy=multi-user.target
Alias=falco.service
"""
_UNPACK = """
import base64, io, sys, tarfile
tarfile.open(fileobj=io.BytesIO(base64.b64decode(sys.argv[1]))).extractall("/")
"""


class Machine(t.Protocol):
    """A host, in a container or a virtual one."""

    def exec(self, *command: str) -> tuple[int, str]:
        """Run a command on it."""


def install(host: Machine, files: t.Mapping[str, str] | None = None, version: str = "") -> None:
    """Put it there, as if nobody had changed it since.

    Args:
        host: where.
        files: further ones below C(/etc/falco), or others in place of C(falco.yaml), by their paths.
        version: that it says it has.

    Raises:
        TestbedError: it cannot be put there.
    """
    remove(host)
    launcher = _LAUNCHER.format(library=LIBRARY, version=version or "0.44.0")
    texts = {"etc/falco/falco.yaml": CURRENT, f"{LIBRARY}/falco.py": PROGRAM.read_text(encoding="utf-8")}
    texts.update((f"etc/falco/{path}", text) for path, text in (files or {}).items())
    # The pure part of PyYAML is enough, on any Python.
    for path in pathlib.Path(yaml.__file__).parent.glob("*.py"):
        texts[f"{LIBRARY}/yaml/{path.name}"] = path.read_text(encoding="utf-8")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz") as archive:
        for name, text in {**texts, "usr/bin/falco": launcher}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(text.encode()), 0o755 if name == "usr/bin/falco" else 0o644
            archive.addfile(member, io.BytesIO(text.encode()))
    packed = base64.b64encode(buffer.getvalue()).decode()
    status, output = host.exec("python3", "-W", "ignore", "-c", _UNPACK, packed)
    if status:
        raise TestbedError(f"Falco cannot be put there: {output}")


def install_service(host: Machine) -> None:
    """Put it on a host with systemd, enabled and running as its package leaves it. Raises TestbedError."""
    install(host)
    enable = f"printf '%s' \"$0\" >{UNIT} && mkfifo -m 600 {EVENTS} && systemctl enable --now {pathlib.Path(UNIT).stem}"
    status, output = host.exec("sh", "-c", enable, _UNIT)
    if status:
        raise TestbedError(f"Falco cannot be run there: {output}")


def remove(host: Machine) -> None:
    """Take it away again, with its configuration, and its service if there is one."""
    host.exec("sh", "-c", f"test ! -e {UNIT} || systemctl disable --now {pathlib.Path(UNIT).stem}")
    host.exec("rm", "-rf", "/etc/falco", "/usr/bin/falco", f"/{LIBRARY}", UNIT, EVENTS, "/var/log/falco")
