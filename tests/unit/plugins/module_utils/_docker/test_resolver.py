# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which container is meant: exactly one, or a reason why none."""

from __future__ import annotations

import datetime
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker import resolver as resolver_module
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.process import Process
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import (
    CLOCK_TOLERANCE,
    ResolutionError,
    Resolver,
)
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine

ID = "0123456789ab" + "c" * 52
CREATED = datetime.datetime(2026, 1, 1, 12, 0, tzinfo=datetime.UTC)


@pytest.fixture
def engine() -> FakeEngine:
    engine = FakeEngine()
    engine.add_container("web", container_id=ID, image="nginx:1", labels={"env": "prod"}, created=CREATED)
    engine.add_container("bystander")
    return engine


def kind_of(error: pytest.ExceptionInfo[ResolutionError]) -> str:
    assert error.value.message
    assert error.value.remedy or error.value.kind == "not_found"
    return error.value.kind


@pytest.mark.parametrize("length", [12, 24, 31, 64])
def test_by_id(engine: FakeEngine, length: int) -> None:
    container = Resolver(engine).by_id(ID[:length])
    assert (container.id, container.name, container.images) == (ID, "web", ("nginx:1",))
    assert container.labels == {"env": "prod"}
    assert container.created == CREATED


def test_one_list_and_one_inspect_by_the_full_id_serve_all_questions(engine: FakeEngine) -> None:
    resolver = Resolver(engine)
    resolver.by_id(ID[:12])
    resolver.by_name("web")
    assert engine.calls == [
        ("list_containers", ()),
        ("inspect_container", (ID,)),
    ]


def test_by_id_of_none(engine: FakeEngine) -> None:
    with pytest.raises(ResolutionError, match="no container on this host has the id ffffffffffff") as caught:
        Resolver(engine).by_id("f" * 12)
    assert kind_of(caught) == "not_found"


def test_by_id_of_two(engine: FakeEngine) -> None:
    engine.add_container("twin", container_id=ID[:12] + "d" * 52)
    with pytest.raises(ResolutionError, match="2 containers match the id") as caught:
        Resolver(engine).by_id(ID[:12])
    assert kind_of(caught) == "ambiguous"
    assert "web" in caught.value.message
    assert "twin" in caught.value.message
    assert Resolver(engine).by_id(ID[:13]).name == "web"


@pytest.mark.parametrize("state", ["created", "running", "paused", "restarting", "exited"])
def test_a_container_in_any_state_is_found(state: str) -> None:
    engine = FakeEngine()
    container = engine.add_container("web", state=state, restart_policy=("always", 0))
    assert Resolver(engine).by_name("web").id == container


def test_a11_a_container_named_like_the_id_of_another(engine: FakeEngine) -> None:
    """A11: the engine's own look-up would take the impostor; an id means the container of that id."""
    impostor = engine.add_container(ID[:12])
    assert engine.inspect_container(ID[:12])["Id"] == impostor
    assert Resolver(engine).by_id(ID[:12]).id == ID
    assert Resolver(engine).by_name(ID[:12]).id == impostor


def test_a11_a_person_who_gives_that_reference_has_to_choose(engine: FakeEngine) -> None:
    engine.add_container(ID[:12])
    with pytest.raises(ResolutionError) as caught:
        Resolver(engine).by_reference(ID[:12])
    assert kind_of(caught) == "ambiguous"
    assert Resolver(engine).by_reference(ID).name == "web"


def test_a_name_like_an_id_of_a_container_that_is_gone(engine: FakeEngine) -> None:
    """An alert about a container that is gone must not hit the one that took its id as a name."""
    engine.add_container("f" * 12)
    with pytest.raises(ResolutionError) as caught:
        Resolver(engine).by_id("f" * 12)
    assert kind_of(caught) == "not_found"


def test_by_name_is_exact(engine: FakeEngine) -> None:
    engine.add_container("web-canary")
    assert Resolver(engine).by_name("web").id == ID
    for name in ("we", "WEB", "web-"):
        with pytest.raises(ResolutionError) as caught:
            Resolver(engine).by_name(name)
        assert kind_of(caught) == "not_found"


def test_by_name_does_not_match_the_name_of_a_legacy_link() -> None:
    """C: a linked container is listed under /other/alias too."""
    engine = FakeEngine()
    database = engine.add_container("db", link_names=["/shop/database"])
    engine.add_container("database")
    assert Resolver(engine).by_name("database").id != database
    assert Resolver(engine).by_name("db").id == database


def test_a_name_taken_over_after_the_alert_is_stale(engine: FakeEngine) -> None:
    seen_at = CREATED - CLOCK_TOLERANCE - datetime.timedelta(microseconds=1)
    with pytest.raises(ResolutionError, match="created after the alert") as caught:
        Resolver(engine).by_name("web", seen_at)
    assert kind_of(caught) == "stale"


@pytest.mark.parametrize("ahead", [-CLOCK_TOLERANCE, datetime.timedelta(0), datetime.timedelta(days=1)])
def test_a_name_seen_since_its_creation_is_not_stale(engine: FakeEngine, ahead: datetime.timedelta) -> None:
    assert Resolver(engine).by_name("web", CREATED + ahead).id == ID


def test_a_restart_makes_no_name_stale(engine: FakeEngine) -> None:
    """The same container started again is still the one that was seen."""
    engine.stop(ID, 0)
    engine.start(ID)
    assert Resolver(engine).by_name("web", CREATED).id == ID


def test_removed_just_now(engine: FakeEngine) -> None:
    engine.before("inspect_container", lambda: engine.remove_container(ID))
    with pytest.raises(ResolutionError, match="was removed just now") as caught:
        Resolver(engine).by_id(ID)
    assert kind_of(caught) == "not_found"


def test_removed_and_its_id_taken_as_a_name_just_now(engine: FakeEngine) -> None:
    """A11: between list and inspect the container goes and another takes its full id for a name."""

    def swap() -> None:
        engine.remove_container(ID)
        engine.add_container(ID)

    engine.before("inspect_container", swap)
    with pytest.raises(ResolutionError) as caught:
        Resolver(engine).by_id(ID)
    assert kind_of(caught) == "not_found"


def test_errors_of_the_engine_pass(engine: FakeEngine) -> None:
    engine.fail_next("list_containers", EngineTimeout("no answer"))
    with pytest.raises(EngineTimeout):
        Resolver(engine).by_id(ID)


def test_by_reference(engine: FakeEngine) -> None:
    for reference in (ID, ID[:12], "web", "/web"):
        assert Resolver(engine).by_reference(reference).id == ID


@pytest.mark.parametrize("reference", ["", "x", "-web", "web; rm -rf /", "../web", "{{ web }}", "web\n", "a" * 300])
def test_by_reference_of_what_is_no_name(engine: FakeEngine, reference: str) -> None:
    with pytest.raises(ResolutionError) as caught:
        Resolver(engine).by_reference(reference)
    assert kind_of(caught) == "invalid_container"
    assert engine.calls == []
    assert caught.value.message.isprintable()


def test_a_moved_tag_gives_both_references() -> None:
    """C: when a tag moved, the list shows a sha256 and Config.Image keeps the tag: match both."""
    engine = FakeEngine()
    engine.add_container("web", image="nginx:1", listed_image="sha256:abc")
    assert Resolver(engine).by_name("web").images == ("nginx:1", "sha256:abc")


def lists(engine: FakeEngine) -> int:
    return engine.calls.count(("list_containers", ()))


def test_batches_share_an_inventory(engine: FakeEngine) -> None:
    inventory = Inventory(engine)
    for _batch in range(3):
        Resolver(engine, inventory).by_name("web")
    assert lists(engine) == 1


def test_a_container_started_since_the_list_is_found(engine: FakeEngine) -> None:
    inventory = Inventory(engine)
    inventory.all()
    new = engine.add_container("new")
    assert Resolver(engine, inventory).by_id(new[:12]).id == new
    assert lists(engine) == 2


@pytest.mark.parametrize("listed_before", [False, True])
def test_many_alerts_about_what_is_gone_are_one_list(engine: FakeEngine, listed_before: bool) -> None:
    inventory = Inventory(engine)
    if listed_before:
        inventory.all()
    resolver = Resolver(engine, inventory)
    for number in range(1000):
        with pytest.raises(ResolutionError) as caught:
            resolver.by_id(f"{number:012}")
        assert kind_of(caught) == "not_found"
    assert lists(engine) == 1 + listed_before


def test_a_batch_is_decided_on_one_listing(engine: FakeEngine) -> None:
    """Whatever others learn meanwhile: a name cannot mean one container for one alert and two for the next."""
    inventory = Inventory(engine)
    resolver = Resolver(engine, inventory)
    assert resolver.by_name("web").id == ID
    engine.add_container("web")
    inventory.refresh()
    with pytest.raises(ResolutionError):
        resolver.by_name("gone")
    assert resolver.by_name("web").id == ID
    with pytest.raises(ResolutionError) as caught:
        Resolver(engine, inventory).by_name("web")
    assert kind_of(caught) == "ambiguous"


def test_an_engine_that_no_longer_lists_is_asked_once(engine: FakeEngine) -> None:
    """A frozen engine must not cost a timeout for each alert; and what could not be listed is not called gone."""
    inventory = Inventory(engine)
    inventory.all()
    resolver = Resolver(engine, inventory)
    assert resolver.by_id(ID).id == ID
    for _call in range(2):
        engine.fail_next("list_containers", EngineTimeout("no answer"))
    for _alert in range(2):
        with pytest.raises(EngineTimeout):
            resolver.by_name("gone")
    assert lists(engine) == 2
    assert resolver.by_id(ID).id == ID


def test_a_name_that_was_given_to_it_after_the_alert_is_stale() -> None:
    """Blue and green: web-new was there when the alert was about the one that was called web then."""
    moment = [CREATED]
    engine = FakeEngine(clock=lambda: moment[0])
    blue = engine.add_container("web", created=CREATED)
    green = engine.add_container("web-new", created=CREATED)
    alerted = CREATED + datetime.timedelta(hours=1)
    moment[0] = alerted + datetime.timedelta(minutes=1)
    engine.rename_container(blue, "web-old")
    engine.rename_container(green, "web")
    with pytest.raises(ResolutionError, match="was renamed after the alert") as caught:
        Resolver(engine).by_name("web", alerted)
    assert kind_of(caught) == "stale"
    assert Resolver(engine).by_name("web", moment[0]).id == green
    assert Resolver(engine).by_name("web").id == green


def test_events_are_asked_for_once_and_by_names_only(engine: FakeEngine) -> None:
    resolver = Resolver(engine)
    resolver.by_id(ID)
    resolver.by_name("web")
    assert ("past_events", ()) not in engine.calls
    for _time in range(3):
        resolver.by_name("web", CREATED)
    assert engine.calls.count(("past_events", ())) == 1


def test_an_engine_that_tells_no_events_leaves_when_it_was_created(engine: FakeEngine) -> None:
    engine.fail_next("past_events", EngineForbidden("the proxy refuses"))
    resolver = Resolver(engine)
    assert resolver.by_name("web", CREATED).id == ID
    with pytest.raises(ResolutionError, match="was created after the alert"):
        resolver.by_name("web", CREATED - datetime.timedelta(hours=1))


def test_containers_of_other_names_are_not_even_inspected(engine: FakeEngine) -> None:
    engine.fail_next("inspect_container", EngineTimeout("no answer"))
    unreadable: dict[str, EngineError] = {}
    assert Resolver(engine).all(unreadable, lambda name: name == "web") == []
    assert list(unreadable) == ["web"]
    assert [name for name, _arguments in engine.calls].count("inspect_container") == 1


def test_the_owner_of_a_network() -> None:
    engine = FakeEngine()
    owner = engine.add_container("vpn")
    sidecar = engine.add_container("web", network_mode=f"container:{owner}")
    resolver = Resolver(engine)
    found = resolver.network_owner(sidecar)
    assert found is not None
    assert found.id == owner
    assert resolver.network_owner(owner) is None
    assert resolver.network_owner("f" * 64) is None


def test_a_lazy_engine_is_connected_by_the_first_question() -> None:
    real, connected = FakeEngine(), []
    real.add_container("web", container_id=ID)

    def connect() -> FakeEngine:
        connected.append(True)
        if len(connected) == 1:
            raise EngineUnreachable("no socket")
        return real

    engine = connected_when_asked(connect)
    resolver = Resolver(engine)
    assert connected == []
    for _ in range(2):
        with pytest.raises(EngineUnreachable):
            resolver.by_id(ID)
    assert len(connected) == 1, "one batch does not wait for it once for each alert"
    resolver = Resolver(engine)
    assert resolver.by_id(ID).name == "web"
    assert resolver.by_name("web").name == "web"
    assert len(connected) == 2


class TestByAddress:
    """An address is handed on from one container to the next."""

    SEEN = datetime.datetime(2026, 4, 5, 12, 0, tzinfo=datetime.UTC)
    BEFORE, AFTER = SEEN - datetime.timedelta(hours=1), SEEN + datetime.timedelta(hours=1)

    def world(self, *, now: datetime.datetime) -> FakeEngine:
        self.now = now
        engine = FakeEngine(clock=lambda: self.now)
        engine.add_network("net", "10.9.0.0/24")
        return engine

    def add(self, engine: FakeEngine, name: str, address: str) -> str:
        return engine.add_container(name, networks={"net": EndpointSettings(ipv4_address=address)})

    def test_the_one_that_has_it(self) -> None:
        engine = self.world(now=self.BEFORE)
        web = self.add(engine, "web", "10.9.0.4")
        self.add(engine, "other", "10.9.0.5")
        for addresses in (["10.9.0.4", "203.0.113.9"], ["203.0.113.9", "10.9.0.4"]):
            assert Resolver(engine).by_address(addresses, self.SEEN).id == web

    def test_nobody_has_it(self) -> None:
        engine = self.world(now=self.BEFORE)
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["203.0.113.9"], self.SEEN)
        assert kind_of(error) == "not_found"

    def test_both_ends_are_containers(self) -> None:
        engine = self.world(now=self.BEFORE)
        self.add(engine, "a", "10.9.0.4")
        self.add(engine, "b", "10.9.0.5")
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["10.9.0.4", "10.9.0.5"], self.SEEN)
        assert kind_of(error) == "ambiguous"

    def test_two_share_a_network(self) -> None:
        engine = self.world(now=self.BEFORE)
        owner = self.add(engine, "owner", "10.9.0.4")
        engine.add_container("sidecar", network_mode=f"container:{owner}")
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["10.9.0.4"], self.SEEN)
        assert kind_of(error) == "ambiguous"
        assert "sidecar" in error.value.message

    def test_created_started_or_connected_after_the_alert_is_stale(self) -> None:
        engine = self.world(now=self.AFTER)
        self.add(engine, "young", "10.9.0.4")
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["10.9.0.4"], self.SEEN)
        assert kind_of(error) == "stale"

        engine = self.world(now=self.BEFORE)
        restarted = self.add(engine, "restarted", "10.9.0.4")
        assert Resolver(engine).by_address(["10.9.0.4"], self.SEEN).id == restarted
        engine.kill(restarted)
        self.now = self.AFTER
        engine.start(restarted)
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["10.9.0.4"], self.SEEN)
        assert kind_of(error) == "stale"

        engine = self.world(now=self.BEFORE)
        moved = engine.add_container("moved")
        self.now = self.AFTER
        engine.connect("net", moved, EndpointSettings(ipv4_address="10.9.0.4"))
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_address(["10.9.0.4"], self.SEEN)
        assert kind_of(error) == "stale"

    def test_what_an_isolated_container_held_means_that_one(self) -> None:
        engine = self.world(now=self.BEFORE)
        isolated = self.add(engine, "isolated", "10.9.0.4")
        engine.disconnect("net", isolated)
        held = {"10.9.0.4": {isolated}}
        assert Resolver(engine).by_address(["10.9.0.4"], self.SEEN, held).id == isolated
        self.now = self.AFTER
        self.add(engine, "successor", "10.9.0.4")
        assert Resolver(engine).by_address(["10.9.0.4"], self.SEEN, held).id == isolated

    def test_an_address_of_version_6_is_compared_as_one(self) -> None:
        engine = FakeEngine(clock=lambda: self.BEFORE)
        engine.add_network("net", ["10.9.0.0/24", "fd00:9::/64"])
        web = engine.add_container("web", networks={"net": EndpointSettings(ipv6_address="fd00:9::4")})
        assert Resolver(engine).by_address(["fd00:9::4"], self.SEEN).id == web


class TestByPid:
    """A process number is handed on, too."""

    @pytest.fixture
    def process(self, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., None]:
        def set_to(groups: tuple[tuple[str, ...], ...] | None, started: datetime.datetime = CREATED) -> None:
            found = None if groups is None else Process(started, groups)
            monkeypatch.setattr(resolver_module, "process_of", {4711: found}.get)

        return set_to

    def test_its_container(self, engine: FakeEngine, process: t.Callable[..., None]) -> None:
        process(((ID, "e" * 64),))
        assert Resolver(engine).by_pid(4711, CREATED).id == ID

    @pytest.mark.parametrize(
        ("groups", "kind"), [(None, "not_found"), ((), "no_container"), ((("e" * 64,),), "no_container")]
    )
    def test_of_none(
        self,
        engine: FakeEngine,
        process: t.Callable[..., None],
        groups: tuple[tuple[str, ...], ...] | None,
        kind: str,
    ) -> None:
        process(groups)
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_pid(4711)
        assert error.value.kind == kind

    def test_one_that_began_after_the_alert_is_stale(self, engine: FakeEngine, process: t.Callable[..., None]) -> None:
        process(((ID,),), CREATED + 2 * CLOCK_TOLERANCE)
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_pid(4711, CREATED)
        assert kind_of(error) == "stale"

    def test_hierarchies_that_contradict_each_other(self, engine: FakeEngine, process: t.Callable[..., None]) -> None:
        other = engine.add_container("other")
        process(((ID,), (other,)))
        with pytest.raises(ResolutionError) as error:
            Resolver(engine).by_pid(4711)
        assert kind_of(error) == "ambiguous"
