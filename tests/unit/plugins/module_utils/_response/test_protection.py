# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not be isolated, and why."""

from __future__ import annotations

import io
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response import protection as module
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import (
    PART_LABEL,
    Protection,
    containers_of_this_process,
)
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

BOTH = (Action("pause"), Action("network_disconnect"))
PROXY = "tcp://127.0.0.1:2375"
ID = "6bc1b4be90d6" + "0" * 52


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def reason(
    engine: FakeEngine, name: str, *actions: Action, protect: TargetFilter | None = None, **options: t.Any
) -> str:
    resolver = Resolver(engine)
    policies = PolicyEngine(PolicySet.of([], protect)) if protect else None
    options.setdefault("running_in", set)
    return Protection(resolver, policies, **options).reason(resolver.by_name(name), actions or BOTH)


@pytest.mark.parametrize(
    ("protect", "why"),
    [
        (TargetFilter(container_names=("falco*",)), "container_names [falco*] matches [falco-1]"),
        (TargetFilter(image_patterns=("falcosecurity/*",)), "image_patterns [falcosecurity/*] matches"),
        (TargetFilter(labels=("safe",)), "labels [safe] matches [safe=yes]"),
        (TargetFilter(container_names=("traefik",), labels=("safe",)), "labels [safe] matches [safe=yes]"),
        (TargetFilter(container_names=("traefik",)), ""),
    ],
)
def test_what_the_policy_set_protects(engine: FakeEngine, protect: TargetFilter, why: str) -> None:
    engine.add_container("falco-1", image="falcosecurity/falco:0.41", labels={"safe": "yes"})
    found = reason(engine, "falco-1", protect=protect)
    assert found.startswith(f"protected: {why}") if why else found == ""


class TestParts:
    @pytest.mark.parametrize("value", ["", "socket-proxy", "false"])
    def test_the_label_counts_whatever_its_value(self, engine: FakeEngine, value: str) -> None:
        engine.add_container("proxy", labels={PART_LABEL: value})
        assert reason(engine, "proxy") == f"protected: it is a part of the guard (label {PART_LABEL})"

    @pytest.mark.parametrize("docker_host", [PROXY, PROXY + "/", "tcp://proxy.example.com:2375", "tcp://[::1]:2375"])
    def test_the_container_through_which_the_engine_is_reached(self, engine: FakeEngine, docker_host: str) -> None:
        engine.add_container("proxy", published={"2375/tcp": 2375})
        engine.add_container("web", published={"80/tcp": 8080})
        why = "protected: it publishes port 2375, by which the guard reaches the engine"
        assert reason(engine, "proxy", docker_host=docker_host) == why
        assert reason(engine, "web", docker_host=docker_host) == ""

    @pytest.mark.parametrize(
        "docker_host", ["", "unix:///var/run/docker.sock", "unix:///run/proxy:2375", "tcp://proxy"]
    )
    def test_a_socket_is_nobodys_port(self, engine: FakeEngine, docker_host: str) -> None:
        engine.add_container("proxy", published={"2375/tcp": 2375})
        assert reason(engine, "proxy", docker_host=docker_host) == ""

    def test_the_container_that_this_process_runs_in(self, engine: FakeEngine) -> None:
        own = engine.add_container("controller")
        engine.add_container("web")
        assert reason(engine, "controller", running_in=lambda: {own}) == "protected: this process runs in it"
        assert reason(engine, "web", running_in=lambda: {own}) == ""


class TestPeers:
    @pytest.fixture(autouse=True)
    def containers(self, engine: FakeEngine) -> None:
        owner = engine.add_container("owner", published={"2375/tcp": 2375})
        engine.add_container("web", network_mode=f"container:{owner}")
        engine.add_container("agent", network_mode=f"container:{owner}", labels={"safe": ""})
        engine.add_container("other")

    @pytest.mark.parametrize("name", ["owner", "web"])
    def test_no_network_is_cut_that_a_protected_one_uses(self, engine: FakeEngine, name: str) -> None:
        protect = TargetFilter(labels=("safe",))
        why = "container agent shares its network and is protected: labels [safe] matches [safe=]"
        assert reason(engine, name, protect=protect) == why
        assert reason(engine, name, Action("pause"), protect=protect) == ""
        assert reason(engine, "other", protect=protect) == ""

    @pytest.mark.parametrize("action", ["stop", "kill"])
    def test_nor_is_its_owner_ended(self, engine: FakeEngine, action: str) -> None:
        why = "container agent shares its network and is protected: labels [safe] matches [safe=]"
        assert reason(engine, "owner", Action(action), protect=TargetFilter(labels=("safe",))) == why

    def test_nor_that_of_the_proxy(self, engine: FakeEngine) -> None:
        assert "container owner shares its network and is protected: it publishes port 2375" in reason(
            engine, "web", docker_host=PROXY
        )


class TestOwnContainer:
    """Whether a process can tell which container it runs in, from files as they are there."""

    @pytest.mark.parametrize(
        ("cgroup", "mountinfo", "found"),
        [
            (f"12:pids:/docker/{ID}\n0::/system.slice/containerd.service\n", "", {ID}),
            (f"0::/system.slice/docker-{ID}.scope\n", "", {ID}),
            (
                "0::/\n",
                f"712 701 8:1 /var/lib/docker/containers/{ID}/hostname /etc/hostname rw - ext4 /dev/sda1 rw\n",
                {ID},
            ),
            ("0::/\n", f"712 701 8:1 /var/lib/docker/containers/{ID}/mounts/shm /x rw - ext4 /dev/sda1 rw\n", set()),
            ("0::/user.slice/user-0.slice/session-1.scope\n", "", set()),
            (f"0::/docker/{ID}f\n", "", set()),
        ],
    )
    def test_control_groups_and_mounts(
        self, monkeypatch: pytest.MonkeyPatch, cgroup: str, mountinfo: str, found: set[str]
    ) -> None:
        files = {"/proc/self/cgroup": cgroup, "/proc/self/mountinfo": mountinfo}
        monkeypatch.setattr(module, "open", lambda path, **_options: io.StringIO(files[path]), raising=False)
        assert containers_of_this_process() == found

    def test_a_machine_without_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(path: str, **_options: t.Any) -> t.NoReturn:
            raise FileNotFoundError(path)

        monkeypatch.setattr(module, "open", missing, raising=False)
        assert containers_of_this_process() == set()
