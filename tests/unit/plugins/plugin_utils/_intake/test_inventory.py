# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import json
import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import inventory as module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.inventory import (
    Inventory,
    InventoryError,
    InventoryWatch,
    read_inventory,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options, parse_options

TOKEN = "correct-horse-battery"
FLEET = """
all:
  hosts: {lonely: }
  children:
    docker: {children: {web: {hosts: {web-1: , "web-[2:3]": }}, db: {hosts: {db-1: }}}}
    empty: {}
"""


def options(**given: object) -> Options:
    return parse_options({"token": TOKEN, **given})


async def test_an_inventory_as_ansible_reads_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "inventory.yml"
    path.write_text(FLEET)
    inventory = await read_inventory(str(path))
    assert inventory.hosts == {"lonely", "web-1", "web-2", "web-3", "db-1"}
    assert inventory.expand(["docker"]) == ("db-1", "web-1", "web-2", "web-3")
    assert inventory.expand(["db", "lonely", "nobody", "empty"]) == ("db-1", "lonely")
    assert inventory.expand(["all"]) == tuple(sorted(inventory.hosts))
    assert [name in inventory for name in ("web", "web-1", "nobody")] == [True, True, False]


async def test_one_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_arguments: object, **_options: object) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(asyncio, "create_subprocess_exec", fail)
    with pytest.raises(InventoryError, match=r"ansible-inventory cannot be run: .*Too many open files"):
        await read_inventory("web-1,")


async def test_a_list_of_hosts() -> None:
    assert (await read_inventory("web-1,web-2,")).hosts == {"web-1", "web-2"}


@pytest.mark.parametrize("content", ["#!/bin/sh\nexit 1\n", "#!/bin/sh\necho '{}'\n"], ids=["fails", "empty"])
async def test_one_that_cannot_be_read(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "inventory.sh"
    path.write_text(content)
    path.chmod(0o755)
    with pytest.raises(InventoryError, match=r"inventory\.sh has no hosts"):
        await read_inventory(str(path))


async def test_one_that_is_not_there() -> None:
    with pytest.raises(InventoryError, match=r"/nowhere has no hosts: .*/nowhere"):
        await read_inventory("/nowhere")


async def test_one_that_takes_too_long(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "inventory.sh"
    path.write_text("#!/bin/sh\nexec sleep 60\n")
    path.chmod(0o755)
    with pytest.raises(InventoryError, match="was not read within 1 seconds"):
        await asyncio.wait_for(read_inventory(str(path), timeout=1), 30)


def test_groups_that_go_round_in_a_circle() -> None:
    listed = {"all": {"children": ["a"]}, "a": {"children": ["b"]}, "b": {"children": ["a"], "hosts": ["web-1"]}}
    found = module._inventory_of(json.dumps(listed).encode())
    assert found.expand(["a"]) == found.expand(["b"]) == ("web-1",)


def test_names_that_are_not_in_it() -> None:
    inventory = Inventory({"all": frozenset(["web-1", "web-2"]), "web": frozenset(["web-1"])})
    given = options(
        hosts=["web-1", "web"],
        host_map={"x": "wbe-1"},
        lookup_hosts=["web", "all", "db"],
        senders=[{"name": "s", "tokens": ["x" * 20], "hosts": ["web-3"]}],
        files=[{"path": "/f", "host": "web-4"}],
    )
    assert inventory.missing(given) == [
        f"{option}: not in the inventory: {name}. Alerts about them reach no host"
        for option, name in [
            ("hosts", "web"),
            ("host_map", "wbe-1"),
            ("lookup_hosts", "db"),
            ("senders", "web-3"),
            ("files", "web-4"),
        ]
    ]
    many = inventory.missing(options(hosts=[f"h-{number}" for number in range(9)]))
    assert many == ["hosts: not in the inventory: h-0, h-1, h-2, h-3, h-4 and 4 more. Alerts about them reach no host"]


async def test_it_is_read_again(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "READ_AGAIN", 0.01)
    path = tmp_path / "inventory.yml"
    watch = InventoryWatch(options(inventory=str(path), hosts=["web-1"]))
    task = asyncio.create_task(watch.run())

    async def until(what: str) -> None:
        async with asyncio.timeout(60):
            while what not in str(watch.troubles() or "none"):
                await asyncio.sleep(0.05)

    try:
        await until("inventory.yml")
        assert watch.current is None
        path.write_text("all: {hosts: {web-2: }}")
        await until("hosts: not in the inventory: web-1")
        path.write_text("all: {hosts: {web-1: }}")
        await until("none")
        path.unlink()
        await until("inventory.yml")
        assert watch.current is not None  # the one before holds
        assert watch.current.hosts == {"web-1"}
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert caplog.text.count("hosts: not in the inventory: web-1") == 1
