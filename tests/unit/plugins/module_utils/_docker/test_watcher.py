# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An inventory that is kept right by events, whatever happens to them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
import typing as t

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineTimeout,
    EngineUnreachable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.watcher import Watcher
from ansible_collections.ironpost.container_guard.tests.fakes.engine import REPLAYED_EVENTS, FakeEngine

ID = "0123456789ab" + "c" * 52
SOON = 0.001
PLAIN = EndpointSettings()
PACKAGE = "ansible_collections.ironpost.container_guard.plugins.module_utils"

T = t.TypeVar("T")


class Watched:
    """A fake engine whose containers are followed."""

    def __init__(self, ttl: float = 60, clock: t.Callable[[], float] = time.monotonic) -> None:
        self.engine = FakeEngine()
        self.inventory = Inventory(self.engine, ttl=ttl, clock=clock)
        self.events: list[tuple[str, str]] = []
        self.watcher = Watcher(self.inventory, self.engine, self.on_event, shortest_delay=SOON, clock=clock)

    def on_event(self, event: dict[str, t.Any]) -> None:
        self.events.append((event["Action"], event["Actor"]["ID"]))

    def __enter__(self) -> Watched:
        self.watcher.start()
        assert self.watcher.wait_in_step(30)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.watcher.stop(30)

    def known(self) -> dict[str, t.Any]:
        return dict(self.inventory.listing().entries)

    def true(self) -> dict[str, t.Any]:
        while True:
            with contextlib.suppress(EngineTimeout):  # a failure that the watcher did not come to
                return {entry["Id"]: entry for entry in self.engine.list_containers()}

    def break_off(self, count: int) -> None:
        """Break the stream for the so manieth time, and wait until it is followed again."""
        self.engine.break_streams(EngineUnreachable("dead"))
        until(lambda: self.watcher.state.reconnects == count)

    @property
    def lists(self) -> int:
        return self.engine.calls.count(("list_containers", ()))


def until(condition: t.Callable[[], T], seconds: float = 30) -> T:
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return answer


@pytest.fixture
def watched() -> t.Iterator[Watched]:
    with Watched() as watched:
        yield watched


def test_changes_are_known_without_listing(watched: Watched) -> None:
    engine = watched.engine
    web = engine.add_container("web", container_id=ID)
    engine.pause(web)
    engine.rename_container(web, "renamed")
    engine.wait_followed()
    (entry,) = watched.inventory.by_name("renamed")
    assert (entry["Id"], entry["State"]) == (ID, "paused")
    engine.disconnect("bridge", web)
    engine.wait_followed()
    assert watched.known()[web]["NetworkSettings"]["Networks"] == {}
    engine.remove_container(web)
    engine.wait_followed()
    assert watched.known() == {}
    assert watched.lists == 1


def test_what_the_events_say_of_a_container_is_read_from_the_engine(watched: Watched) -> None:
    """The engine tells of a pause before its list shows it, and inspect waits for it (measured)."""
    web = watched.engine.add_container("web")
    watched.engine.wait_followed()
    watched.engine.calls.clear()
    watched.engine.pause(web)
    watched.engine.wait_followed()
    assert watched.engine.calls == [("pause", (web,)), ("inspect_container", (web,)), ("list_containers", (web,))]


def test_a_container_created_anew_under_the_same_name(watched: Watched) -> None:
    old = watched.engine.add_container("web")
    watched.engine.remove_container(old)
    new = watched.engine.add_container("web")
    watched.engine.wait_followed()
    assert [entry["Id"] for entry in watched.inventory.by_name("web")] == [new]


def test_it_subscribes_before_it_lists() -> None:
    watched = Watched()
    watched.engine.add_container("web", container_id=ID)
    # It is listed, and gone before the list is kept: only an event can tell.
    watched.engine.before("list_containers", lambda: watched.engine.pause(ID))
    with watched:
        watched.engine.wait_followed()
        assert [method for method, _ in watched.engine.calls[:2]] == ["events", "list_containers"]
        assert watched.known() == watched.true()


def test_events_older_than_the_list_do_not_undo_it() -> None:
    """A life that ended before the list was taken is replayed after it."""
    watched = Watched()

    def live_and_die() -> None:
        container = watched.engine.add_container("brief", container_id=ID)
        watched.engine.rename_container(container, "other")
        watched.engine.remove_container(container)
        watched.engine.add_container("brief")

    watched.engine.before("list_containers", live_and_die)
    seen: list[bool] = []
    watched.watcher = Watcher(
        watched.inventory,
        watched.engine,
        lambda _: seen.append(bool(watched.inventory.by_id(ID)) or len(watched.inventory.by_name("brief")) != 1),
    )
    with watched:
        watched.engine.wait_followed()
    assert len(seen) >= 5
    assert not any(seen)


def test_events_of_the_moment_before_the_start_are_replayed() -> None:
    """The list is behind them (measured: 60 ms for the end of a process)."""
    watched = Watched()
    web = watched.engine.add_container("web")
    with watched:
        watched.engine.wait_followed()
        assert ("list_containers", (web,)) in watched.engine.calls


def test_a_break_is_made_up_for(watched: Watched) -> None:
    web = watched.engine.add_container("web")
    watched.engine.wait_followed()
    broken = EngineUnreachable("dead")
    watched.engine.fail_next("events", EngineUnreachable("still dead"))
    watched.engine.break_streams(broken)
    watched.engine.pause(web)
    until(lambda: watched.watcher.state.reconnects == 1)
    watched.engine.wait_followed()
    assert watched.known() == watched.true()
    assert watched.lists >= 2
    state = watched.watcher.state
    assert str(state.last_error) == "still dead"
    assert state.connected_since
    assert watched.inventory.fresh


def test_a_replay_tells_of_each_event_once(watched: Watched) -> None:
    """C: since is inclusive."""
    web = watched.engine.add_container("web")
    watched.engine.pause(web)
    watched.engine.wait_followed()
    for count in range(1, 4):
        watched.engine.before("events", lambda: watched.engine.unpause(web))
        watched.break_off(count)
        watched.engine.pause(web)
        watched.engine.wait_followed()
    told = [action for action, container in watched.events if container == web]
    assert told == ["create", "start", "pause", *["unpause", "pause"] * 3]


def test_an_event_that_could_not_be_followed_up_is_told_after_the_break(watched: Watched) -> None:
    web = watched.engine.add_container("web")
    watched.engine.wait_followed()
    watched.engine.fail_next("inspect_container", EngineTimeout("no answer"))
    watched.engine.pause(web)
    until(lambda: ("pause", web) in watched.events)
    assert watched.watcher.state.reconnects == 1
    assert watched.events.count(("pause", web)) == 1


def test_more_than_the_engine_remembers_is_made_up_for(watched: Watched) -> None:
    web = watched.engine.add_container("web")
    gone = watched.engine.add_container("gone")
    watched.engine.wait_followed()

    def overflow() -> None:
        watched.engine.remove_container(gone)
        watched.engine.rename_container(web, "renamed")
        for _command in range(REPLAYED_EVENTS):
            watched.engine.run_command(web, "true")

    watched.engine.before("events", overflow)
    watched.break_off(1)
    watched.engine.wait_followed()
    assert watched.known() == watched.true()
    assert ("destroy", gone) not in watched.events


def test_a_silence_is_no_break(watched: Watched) -> None:
    since = watched.watcher.state.connected_since
    watched.engine.break_streams(None)
    until(lambda: watched.watcher.state.renewals == 1)
    state = watched.watcher.state
    assert (state.connected_since, state.reconnects, state.last_error) == (since, 0, None)
    assert watched.lists == 2


def test_a_silence_of_a_frozen_engine_is_noticed(watched: Watched) -> None:
    """All that tells it from a quiet one is that it does not answer."""
    watched.engine.fail_next("events", EngineTimeout("no answer"))
    watched.engine.break_streams(None)
    until(lambda: watched.watcher.state.reconnects == 1)
    assert isinstance(watched.watcher.state.last_error, EngineTimeout)
    assert watched.watcher.state.renewals == 0


def test_a_change_that_is_not_told_is_found_when_the_stream_is_renewed(watched: Watched) -> None:
    """Killing a restarting container, connecting a stopped one (measured)."""
    web = watched.engine.add_container("web", state="restarting", restart_policy=("always", 0))
    watched.engine.wait_followed()
    watched.engine.kill(web)
    assert watched.known()[web]["State"] == "restarting"
    watched.engine.break_streams(None)
    until(lambda: watched.watcher.state.renewals == 1)
    assert watched.known()[web]["State"] == "exited"


def test_a_busy_stream_is_renewed_too() -> None:
    """Its silence never comes, and a list is not believed for ever."""
    now = 0.0
    with Watched(clock=lambda: now) as watched:
        web = watched.engine.add_container("web")
        watched.engine.wait_followed()
        now = 61.0
        watched.engine.pause(web)
        until(lambda: watched.watcher.state.renewals == 1)
        assert watched.known() == watched.true()


def test_while_nothing_is_followed_the_list_ages_and_look_ups_ask() -> None:
    now = 0.0
    with Watched(clock=lambda: now) as watched:
        now = 1000.0
        assert (watched.inventory.age, watched.inventory.fresh) == (0, True)
        back = threading.Event()
        watched.engine.before("events", lambda: back.wait(30))
        watched.engine.break_streams(EngineUnreachable("dead"))
        until(lambda: not watched.watcher.state.connected_since)
        assert (watched.inventory.age, watched.inventory.fresh) == (1000, False)
        assert not watched.watcher.wait_in_step(0)
        new = watched.engine.add_container("new")
        assert [entry["Id"] for entry in watched.inventory.by_name("new")] == [new]
        back.set()
        assert watched.watcher.wait_in_step(30)


def test_the_engine_is_down_when_the_watch_begins() -> None:
    watched = Watched()
    for _attempt in range(5):
        watched.engine.fail_next("events", EngineUnreachable("dead"))
    with watched:
        assert watched.watcher.state.reconnects == 0
        assert str(watched.watcher.state.last_error) == "dead"


def test_a_callback_that_raises_ends_nothing() -> None:
    watched = Watched()

    def fail(event: dict[str, t.Any]) -> None:
        raise KeyError(event["Action"])

    watched.watcher = Watcher(watched.inventory, watched.engine, fail)
    with watched:
        web = watched.engine.add_container("web", state="created")
        watched.engine.start(web)
        watched.engine.wait_followed()
        state = watched.watcher.state
        assert watched.known() == watched.true()
        assert (state.reconnects, state.last_error) == (0, None)
        assert state.callback_errors == 3  # create, connect, start
        assert repr(state.last_callback_error) == "KeyError('start')"


def test_a_defect_does_not_leave_an_inventory_that_is_believed(watched: Watched) -> None:
    watched.engine.fail_next("inspect_container", ZeroDivisionError("oops"))
    watched.engine.add_container("web", state="created")
    until(lambda: watched.watcher.state.reconnects == 1)
    assert watched.watcher.state.last_error is not None
    assert watched.watcher.state.last_error.kind == "internal_error"
    assert watched.known() == watched.true()


def test_events_that_name_no_container_make_it_list(watched: Watched) -> None:
    """A tag that moved changes by which image many containers are listed."""
    watched.engine.tag_image("nginx:1")
    watched.engine.wait_followed()
    assert watched.lists == 2


def test_commands_run_in_containers_are_not_followed(watched: Watched) -> None:
    web = watched.engine.add_container("web")
    watched.engine.wait_followed()
    watched.engine.calls.clear()
    for _command in range(1000):
        watched.engine.run_command(web, "health")
    watched.engine.wait_followed()
    assert watched.engine.calls == []


def test_stop_while_it_waits_for_events(watched: Watched) -> None:
    assert watched.watcher.stop(30)
    assert not watched.watcher.wait_in_step(0)
    assert watched.watcher.state.connected_since == ""
    assert watched.watcher.state.last_error is None
    assert watched.inventory.age != 0


def test_stop_between_two_attempts() -> None:
    watched = Watched()
    watched.watcher = Watcher(watched.inventory, watched.engine, shortest_delay=3600)
    watched.engine.fail_next("events", EngineUnreachable("dead"))
    watched.watcher.start()
    until(lambda: watched.watcher.state.last_error)
    assert watched.watcher.stop(5)


def test_stop_while_it_subscribes() -> None:
    watched = Watched()
    arrived, answer = threading.Event(), threading.Event()

    def subscribe() -> None:
        arrived.set()
        assert answer.wait(30)

    watched.engine.before("events", subscribe)
    watched.watcher.start()
    assert arrived.wait(30)
    assert not watched.watcher.stop(0)
    answer.set()
    assert watched.watcher.stop(30)
    assert watched.lists == 0
    assert not watched.inventory.fresh


def test_stop_in_the_callback() -> None:
    watched = Watched()
    stopped = threading.Event()

    def stop(event: dict[str, t.Any]) -> None:
        watched.watcher.stop()
        stopped.set()

    watched.watcher = Watcher(watched.inventory, watched.engine, stop)
    with watched:
        watched.engine.add_container("web")
        assert stopped.wait(30)


def test_stop_before_it_began() -> None:
    assert Watched().watcher.stop()


def test_memory_is_bounded_over_many_events() -> None:
    blocks = []
    with Watched() as watched:
        web = watched.engine.add_container("web", state="paused")
        for _round in range(100):
            for _event in range(500):
                watched.engine.unpause(web)
                watched.engine.pause(web)
            watched.engine.wait_followed()
            # The test's own records are not to be counted.
            watched.engine.calls.clear()
            watched.events.clear()
            blocks.append(sys.getallocatedblocks())
        assert watched.known() == watched.true()
    # In the first rounds what is remembered for a replay fills up. 90,000 events later there is no more.
    assert blocks[-1] - blocks[9] < 1000


def test_removed_containers_leave(watched: Watched) -> None:
    for number in range(1000):
        watched.engine.remove_container(watched.engine.add_container(f"brief-{number}"))
    watched.engine.wait_followed()
    assert watched.known() == {}


def test_modules_do_not_load_it() -> None:
    """Each module is a process of its own, and pays for what it imports."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import sys, {PACKAGE}._module.alert_response; print('\\n'.join(sys.modules))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert f"{PACKAGE}._docker.inventory" in loaded
    assert f"{PACKAGE}._docker.watcher" not in loaded


_steps = st.sampled_from(
    [
        *("create", "start", "stop", "kill", "crash", "come_back", "pause", "unpause", "rename", "remove"),
        *("update", "connect", "disconnect", "command", "take the name over", "tag"),
        *("break", "silence", "overflow", "list fails", "inspect fails"),
    ]
)


@given(st.lists(st.tuples(_steps, st.integers(0, 3)), max_size=40))
def test_after_anything_the_inventory_is_what_the_engine_lists(steps: list[tuple[str, int]]) -> None:
    with Watched() as watched:
        engine = watched.engine
        network = engine.add_network("shop", "198.18.0.0/24")
        for number, (step, chosen) in enumerate(steps):
            containers = sorted(watched.engine._containers)
            container = containers[chosen % len(containers)] if containers else ""
            with contextlib.suppress(EngineError):
                _take(step, engine, container, network, f"name-{number}")
        engine.wait_followed()
        assert watched.known() == watched.true()
        assert watched.watcher.state.connected_since


def _take(step: str, engine: FakeEngine, container: str, network: str, name: str) -> None:
    """One step. Those of which the engine tells nothing are left out: see the tests of renewals."""
    if step == "create":
        engine.add_container(name, state="created", restart_policy=("always", 0))
    elif step == "tag":
        engine.tag_image(name)
    elif step == "break":
        engine.break_streams(EngineUnreachable("dead"))
    elif step == "silence":
        engine.break_streams(None)
    elif step == "list fails":
        engine.fail_next("list_containers", EngineTimeout("no answer"))
    elif step == "inspect fails":
        engine.fail_next("inspect_container", EngineTimeout("no answer"))
    elif not container:
        return
    elif step == "stop":
        engine.stop(container, 0)
    elif step == "kill" and engine.state_of(container) != "restarting":
        engine.kill(container)
    elif step == "crash" and engine.state_of(container) == "running":
        engine.crash(container)
    elif step == "come_back" and engine.state_of(container) == "restarting":
        engine.come_back(container)
    elif step == "rename":
        engine.rename_container(container, name)
    elif step == "take the name over":
        engine.remove_container(container)
        engine.add_container(name, state="running")
    elif step == "remove":
        engine.remove_container(container)
    elif step == "update":
        engine.set_restart_policy(container, "no", 0)
    elif step == "connect" and engine.state_of(container) in ("running", "paused"):
        engine.connect(network, container, PLAIN)
    elif step == "disconnect":
        engine.disconnect(network, container)
    elif step == "overflow":
        engine.break_streams(EngineUnreachable("dead"))
        for _command in range(REPLAYED_EVENTS):
            engine.run_command(container, "true")
    elif step == "command":
        engine.run_command(container, "true")
    elif step in ("start", "pause", "unpause"):
        getattr(engine, step)(container)
