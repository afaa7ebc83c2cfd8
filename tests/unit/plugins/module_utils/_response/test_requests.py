# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Requests on many containers of the fake engine: which are meant, and what comes of each."""

from __future__ import annotations

import dataclasses
import datetime
import pathlib
import threading
import typing as t
import unittest.mock

import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, EngineTimeout
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause, Claim
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import RELEASING, Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.walk import Walk
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import NO_FILTER, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.requests import (
    Requests,
    Result,
    Selection,
    Target,
    claim_filter,
    claimed,
    expired_at,
)
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

PAUSE, CUT, KILL = Action("pause"), Action("network_disconnect"), Action("kill")
BOTH = (PAUSE, CUT)
CAUSE = Cause(reason="INC-1", trace_id="t-1")
LONG_AGO = "2020-01-01T00:00:00Z"
OVER = expired_at(datetime.datetime.now(datetime.UTC))


class Host:
    """A host with a fake engine. Each request is of its own, as each run of a module is."""

    def __init__(self, state_dir: pathlib.Path) -> None:
        self.engine = FakeEngine()
        self.engine.add_network("front", "10.1.0.0/24")
        self.journal = Journal(str(state_dir), lock_timeout=5)
        self.protect = NO_FILTER
        self.concurrency = 4

    def add(self, name: str, **options: t.Any) -> str:
        """A container on the network front."""
        if "network_mode" not in options:
            options.setdefault("networks", {"front": EndpointSettings()})
        return self.engine.add_container(name, **options)

    def requests(self, check: bool = False) -> Requests:
        resolver = Resolver(self.engine)
        isolator = Isolator(self.engine, self.journal, truth=FakeTruth(self.engine), retry=NO_RETRY, settle_timeout=0.2)
        policies = PolicyEngine(PolicySet.of([], self.protect)) if self.protect else None
        protection = Protection(resolver, policies, running_in=set)
        return Requests(isolator, self.journal, resolver, protection, self.concurrency, check)

    @property
    def selection(self) -> Selection:
        return Selection(Resolver(self.engine), self.journal)

    def isolate(self, *names: str, actions: t.Sequence[Action] = BOTH, **options: t.Any) -> list[Result]:
        return self.requests().isolate(self.selection.named(names), actions, CAUSE, **options)

    def repair(self, check: bool = False, **options: t.Any) -> list[Result]:
        return self.requests(check).repair(self.selection.to_repair(), **options)

    def release(self, *names: str, **options: t.Any) -> list[Result]:
        targets = self.selection.named(names, releasing=True) if names else self.selection.recorded()
        return self.requests().release(targets, **options)

    def entry(self, container_id: str) -> Entry:
        entry = self.journal.load(container_id)
        assert entry is not None
        return entry

    def let_expire(self, container_id: str) -> None:
        """The time of its isolation is over."""
        entry = self.entry(container_id)
        claims = tuple(dataclasses.replace(claim, expires_at=LONG_AGO) for claim in entry.claims)
        self.journal.store(dataclasses.replace(entry, claims=claims))

    def interrupt_release(self, container_id: str) -> None:
        """All claims are taken, and nothing was given back before it was killed."""
        self.journal.store(dataclasses.replace(self.entry(container_id), claims=(), phase=RELEASING))

    def isolate_and_lose(self, name: str) -> str:
        """A container of that name that is isolated and then removed."""
        container = self.add(name)
        assert self.isolate(name)[0].ok
        self.engine.remove_container(container)
        return container

    @property
    def isolated(self) -> list[str]:
        """Names in the journal."""
        return sorted(entry.snapshot.name for entry in self.journal.entries()[0])

    def networks(self, container_id: str) -> list[str]:
        return sorted(self.engine.inspect_container(container_id)["NetworkSettings"]["Networks"])


@pytest.fixture
def host(tmp_path: pathlib.Path) -> Host:
    return Host(tmp_path / "state")


def outcomes(results: t.Sequence[Result]) -> dict[str, str]:
    """By name: the outcome, or the kind of the error of an attempt that did not begin."""
    return {
        result.target.name: result.outcome.outcome if result.outcome else result.error.kind if result.error else ""
        for result in results
    }


def names(targets: t.Sequence[Target]) -> list[str]:
    return [target.name for target in targets]


def messages(results: t.Sequence[Result]) -> list[str]:
    return [
        result.error.message
        if result.error
        else str(((result.outcome and result.outcome.error) or {}).get("message", ""))
        for result in results
    ]


class TestNamed:
    def test_one_unknown_name_does_not_keep_the_others_from_being_isolated(self, host: Host) -> None:
        host.add("web-1")
        host.add("web-2")
        results = host.isolate("web-1", "nobody", "web-2")
        assert outcomes(results) == {"web-1": "isolated", "nobody": "not_found", "web-2": "isolated"}
        assert [result.ok for result in results] == [True, False, True]
        assert host.isolated == ["web-1", "web-2"]

    def test_one_that_is_named_by_id_and_by_name_is_worked_on_once(self, host: Host) -> None:
        container = host.add("web")
        (result,) = host.isolate("web", container, container[:12], "/web")
        assert result.ok

    @pytest.mark.parametrize("reference", ["", "a b", "../etc", "*"])
    def test_what_is_no_reference_is_said_of_that_one(self, host: Host, reference: str) -> None:
        host.add("web")
        assert sorted(outcomes(host.isolate(reference, "web")).values()) == ["invalid_container", "isolated"]

    def test_one_that_was_removed_is_known_by_name_and_by_id(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        host.engine.remove_container(container)
        for reference in ("web", container, container[:12]):
            (target,) = host.selection.named([reference])
            assert (target.container, target.error and target.error.kind) == (None, "container_gone")
            assert target.entry == host.entry(container)

    def test_a_damaged_entry_concerns_its_own_container_only(self, host: Host, tmp_path: pathlib.Path) -> None:
        damaged = host.add("web-1")
        host.add("web-2")
        host.isolate("web-1")
        (tmp_path / "state" / "isolations" / f"{damaged}.json").write_text("{}")
        assert outcomes(host.isolate("web-1", "web-2")) == {"web-1": "failed", "web-2": "isolated"}
        assert host.engine.state_of(damaged) == "paused"


class TestMatching:
    @pytest.fixture(autouse=True)
    def containers(self, host: Host) -> None:
        host.add("web-1", image="nginx:1.27", labels={"env": "prod"})
        host.add("web-2", image="nginx:1.27", labels={"env": "test"}, state="exited")
        host.add("db-1", image="docker.io/library/postgres:16", labels={"env": "prod", "tier": ""})

    @pytest.mark.parametrize(
        ("wanted", "exclude", "found"),
        [
            (TargetFilter(container_names=("web-*",)), NO_FILTER, ["web-1", "web-2"]),
            (TargetFilter(image_patterns=("postgres:*",)), NO_FILTER, ["db-1"]),
            (TargetFilter(labels=("env=prod",)), NO_FILTER, ["db-1", "web-1"]),
            (TargetFilter(labels=("tier",)), NO_FILTER, ["db-1"]),
            (TargetFilter(container_names=("web-*",), labels=("env=prod",)), NO_FILTER, ["web-1"]),
            (TargetFilter(container_names=("*",)), TargetFilter(labels=("env=prod",)), ["web-2"]),
            (TargetFilter(container_names=("*",)), TargetFilter(("db-*",), ("nginx:*",)), []),
            (TargetFilter(container_names=("nobody",)), NO_FILTER, []),
        ],
    )
    def test_what_matches(self, host: Host, wanted: TargetFilter, exclude: TargetFilter, found: list[str]) -> None:
        assert names(host.selection.matching(wanted, exclude)) == found

    def test_all_that_match_are_isolated_running_or_not(self, host: Host) -> None:
        targets = host.selection.matching(TargetFilter(container_names=("web-*",)), NO_FILTER)
        assert outcomes(host.requests().isolate(targets, BOTH, CAUSE)) == {"web-1": "isolated", "web-2": "isolated"}
        assert host.isolated == ["web-1", "web-2"]


class TestMany:
    def test_one_that_fails_does_not_stop_the_others(self, host: Host) -> None:
        host.add("web-1")
        host.add("host", network_mode="host")
        host.add("web-2")
        host.concurrency = 1
        results = host.isolate("web-1", "host", "web-2", actions=[CUT])
        assert outcomes(results) == {"web-1": "isolated", "host": "refused", "web-2": "isolated"}

    def test_what_the_engine_refuses_for_one_is_that_ones_failure(self, host: Host) -> None:
        host.add("web-1")
        host.add("web-2")
        host.concurrency = 1
        for _ in range(3):
            host.engine.fail_next("disconnect", EngineError("the engine answers: no", status=409))
        assert outcomes(host.isolate("web-1", "web-2")) == {"web-1": "failed", "web-2": "isolated"}

    def test_a_defect_of_the_guard_is_said_of_one_container(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        web = host.add("web-1")
        host.add("web-2")
        load = Journal.load

        def defective(journal: Journal, container_id: str) -> Entry | None:
            if container_id == web:
                raise AttributeError("oops")
            return load(journal, container_id)

        targets = host.selection.named(["web-1", "web-2"])
        monkeypatch.setattr(Journal, "load", defective)
        results = host.requests().isolate(targets, BOTH, CAUSE)
        assert outcomes(results) == {"web-1": "internal_error", "web-2": "isolated"}
        assert messages(results)[0] == "internal error: AttributeError('oops')"

    def test_results_come_in_the_order_that_was_asked_for(self, host: Host) -> None:
        wanted = [f"web-{number}" for number in (3, 1, 2, 5, 4)]
        for name in wanted:
            host.add(name)
        assert [result.target.name for result in host.isolate(*wanted)] == wanted
        assert [result.target.name for result in host.release(*reversed(wanted))] == wanted[::-1]

    @pytest.mark.parametrize("concurrency", [1, 3])
    def test_so_many_at_a_time_and_no_more(self, host: Host, concurrency: int) -> None:
        """Each pause waits until as many as are allowed are under way; with more than that it would see them."""
        count = concurrency * 2
        host.concurrency = concurrency
        together = threading.Barrier(concurrency)
        lock = threading.Lock()
        under_way: list[str] = []
        most = 0

        def pausing() -> None:
            nonlocal most
            with lock:
                under_way.append("pause")
                most = max(most, len(under_way))
            together.wait(timeout=30)
            with lock:
                under_way.pop()

        for number in range(count):
            host.add(f"web-{number}")
            host.engine.before("pause", pausing)
        results = host.isolate(*(f"web-{number}" for number in range(count)), actions=[PAUSE])
        assert all(result.ok for result in results)
        assert most == concurrency

    def test_an_owner_and_all_that_use_its_network_at_once(self, host: Host) -> None:
        owner = host.add("owner")
        for number in range(3):
            host.add(f"sidecar-{number}", network_mode=f"container:{owner}")
        everybody = ["owner", *(f"sidecar-{number}" for number in range(3))]
        for _ in range(3):
            assert all(result.ok for result in host.isolate(*everybody))
            assert host.networks(owner) == []
            assert all(result.ok for result in host.release(*everybody))
            assert (host.isolated, host.networks(owner)) == ([], ["front"])

    def test_who_shares_the_network_is_warned_of(self, host: Host) -> None:
        owner = host.add("owner")
        host.add("sidecar", network_mode=f"container:{owner}")
        (result,) = host.isolate("owner")
        assert result.outcome is not None
        assert "container sidecar shares its network: cut off with it, and not paused or ended" in (
            result.outcome.warnings
        )

    def test_one_that_is_isolated_is_said_to_be_although_its_peers_cannot_be_read(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.add("web")

        def unknown(resolver: Resolver, container_id: str) -> t.NoReturn:
            raise EngineError("no answer")

        monkeypatch.setattr(Resolver, "network_peers", unknown)
        (result,) = host.isolate("web", actions=[PAUSE])
        assert result.outcome is not None
        assert (result.outcome.outcome, result.outcome.changed) == ("isolated", True)
        assert result.outcome.warnings == ("which containers share its network or link to it is not known: no answer",)

    def test_check_mode_changes_nothing(self, host: Host, tmp_path: pathlib.Path) -> None:
        host.add("web-1")
        host.add("web-2")
        results = host.requests(check=True).isolate(host.selection.named(["web-1", "web-2"]), BOTH, CAUSE)
        assert [(result.ok, result.outcome and result.outcome.changed) for result in results] == [(True, True)] * 2
        assert host.engine.changes == []
        assert not (tmp_path / "state").exists()


class TestProtection:
    def test_what_is_protected_is_refused_and_the_others_are_isolated(self, host: Host) -> None:
        host.protect = TargetFilter(labels=("safe",))
        host.add("db", labels={"safe": "yes"})
        host.add("web")
        results = host.isolate("db", "web")
        assert outcomes(results) == {"db": "refused", "web": "isolated"}
        outcome = results[0].outcome
        assert outcome is not None
        assert outcome.error is not None
        assert (outcome.changed, outcome.error["kind"]) == (False, "protected")
        assert outcome.error["message"] == "container db is not isolated: protected: labels [safe] matches [safe=yes]"
        assert outcome.error["remedy"] == "Nothing was touched. Use force if you are sure"

    def test_force_isolates_it(self, host: Host) -> None:
        host.protect = TargetFilter(labels=("safe",))
        host.add("db", labels={"safe": "yes"})
        assert outcomes(host.isolate("db", force=True)) == {"db": "isolated"}

    def test_it_is_released_without_force(self, host: Host) -> None:
        host.add("db", labels={"safe": "yes"})
        host.isolate("db")
        host.protect = TargetFilter(labels=("safe",))
        assert outcomes(host.release("db")) == {"db": "released"}

    def test_a_network_that_a_protected_one_uses_is_not_cut(self, host: Host) -> None:
        host.protect = TargetFilter(labels=("safe",))
        owner = host.add("owner")
        host.add("agent", network_mode=f"container:{owner}", labels={"safe": ""})
        results = host.isolate("owner")
        assert outcomes(results) == {"owner": "refused"}
        assert "container agent shares its network and is protected" in messages(results)[0]
        assert outcomes(host.isolate("owner", actions=[PAUSE])) == {"owner": "isolated"}

    def test_auto_remove_is_ended_by_force_only(self, host: Host) -> None:
        container = host.add("brief", auto_remove=True)
        assert outcomes(host.isolate("brief", actions=[KILL])) == {"brief": "refused"}
        assert host.engine.state_of(container) == "running"
        host.isolate("brief", actions=[KILL], force=True)
        assert outcomes(host.isolate("brief")) == {"brief": "container_gone"}


class TestRepair:
    def test_an_isolation_that_holds_is_left_alone(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        before, entry = len(host.engine.changes), host.entry(container)
        (result,) = host.repair()
        assert result.outcome is not None
        assert (result.outcome.outcome, result.outcome.changed) == ("held", False)
        assert (len(host.engine.changes), host.entry(container)) == (before, entry)

    @pytest.mark.parametrize("undo", ["unpause", "reconnect", "restart_policy", "restart"])
    def test_what_somebody_undid_is_done_again(self, host: Host, undo: str) -> None:
        container = host.add("web", restart_policy=("always", 0))
        host.isolate("web", release_after=3600)
        entry = host.entry(container)
        if undo == "unpause":
            host.engine.unpause(container)
        elif undo == "reconnect":
            host.engine.connect("front", container, EndpointSettings())
        elif undo == "restart_policy":
            host.engine.set_restart_policy(container, "always", 0)
        else:
            host.engine.kill(container)
            host.engine.start(container)
        (result,) = host.repair()
        assert result.outcome is not None
        assert (result.outcome.outcome, result.outcome.changed) == ("isolated", True)
        assert (host.engine.state_of(container), host.networks(container)) == ("paused", [])
        repaired = host.entry(container)
        # Neither the snapshot nor who asked, nor when it ends.
        assert repaired == dataclasses.replace(entry, started_at=repaired.started_at)
        assert (repaired.started_at != entry.started_at) == (undo == "restart")
        (again,) = host.repair()
        assert again.outcome is not None
        assert (again.outcome.outcome, again.outcome.changed, again.outcome.steps) == ("held", False, ())

    def test_one_that_took_the_name_is_isolated_in_its_place(self, host: Host) -> None:
        gone = host.add("web")
        host.isolate("web", release_after=3600)
        host.engine.remove_container(gone)
        successor = host.add("web")
        (result,) = host.repair()
        assert result.ok
        assert result.outcome is not None
        assert result.outcome.container_id == successor
        assert result.outcome.warnings[0] == (
            f"it took the name of container {gone[:12]}, which was isolated and is gone"
        )
        assert host.journal.load(gone) is None
        entry = host.entry(successor)
        (claim,) = entry.claims
        assert (entry.hold.actions(), entry.cause, claim.release_after) == (
            ("pause", "network_disconnect"),
            CAUSE,
            3600,
        )
        assert outcomes(host.release()) == {"web": "released"}
        assert (host.engine.state_of(successor), host.networks(successor)) == ("running", ["front"])

    def test_a_successor_that_is_protected_is_left_alone(self, host: Host) -> None:
        gone = host.add("web")
        host.isolate("web")
        host.engine.remove_container(gone)
        successor = host.add("web", labels={"safe": ""})
        host.protect = TargetFilter(labels=("safe",))
        assert outcomes(host.repair()) == {"web": "refused"}
        assert host.engine.state_of(successor) == "running"
        assert host.entry(gone), "the first isolation is still on record"
        assert outcomes(host.repair(force=True)) == {"web": "isolated"}

    def test_one_that_is_isolated_and_protected_since_stays_isolated(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        host.engine.unpause(container)
        host.protect = TargetFilter(container_names=("web",))
        assert outcomes(host.repair()) == {"web": "isolated"}

    def test_one_that_is_gone_without_a_successor_is_said_to_be(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        host.engine.remove_container(container)
        assert outcomes(host.repair()) == {"web": "container_gone"}
        assert host.isolated == ["web"]

    def test_an_owner_that_is_off_for_a_sidecar_is_repaired_with_it(self, host: Host) -> None:
        owner = host.add("owner")
        host.add("sidecar", network_mode=f"container:{owner}")
        host.isolate("sidecar")
        host.engine.connect("front", owner, EndpointSettings())
        assert outcomes(host.repair()) == {"owner": "isolated", "sidecar": "isolated"}
        assert host.networks(owner) == []

    def test_one_that_is_released_meanwhile_is_not_isolated_again(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        targets = host.selection.to_repair()
        host.release()
        assert outcomes(host.requests().repair(targets)) == {"web": "refused"}
        assert host.engine.state_of(container) == "running"

    def test_a_successor_that_is_released_meanwhile_is_not_isolated_again(
        self, host: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        host.isolate_and_lose("web")
        successor = host.add("web")

        def released(*_arguments: object) -> str:
            """Another run, once this one has seen the isolation of the one that is gone."""
            assert all(result.ok for result in host.release("web"))
            return ""

        monkeypatch.setattr(Protection, "reason", released)
        results = host.repair()
        assert (outcomes(results), messages(results)) == ({"web": "refused"}, ["container web was released meanwhile"])
        assert (host.isolated, host.engine.state_of(successor)) == ([], "running")

    def test_check_mode_changes_nothing(self, host: Host) -> None:
        first = host.add("web-1")
        gone = host.add("web-2")
        host.isolate("web-1", "web-2")
        host.engine.unpause(first)
        host.engine.remove_container(gone)
        host.add("web-2")
        before = len(host.engine.changes)
        results = host.repair(check=True)
        assert [(result.ok, result.outcome and result.outcome.changed) for result in results] == [(True, True)] * 2
        assert len(host.engine.changes) == before
        assert host.entry(gone)


class TestRelease:
    def test_all_that_are_isolated_each_by_its_snapshot(self, host: Host) -> None:
        containers = {name: host.add(name, restart_policy=("always", 0)) for name in ("web-1", "web-2", "web-3")}
        host.isolate("web-1", "web-2")
        assert outcomes(host.release()) == {"web-1": "released", "web-2": "released"}
        assert host.isolated == []
        for container in containers.values():
            assert (host.engine.state_of(container), host.networks(container)) == ("running", ["front"])
        assert host.release() == []

    def test_those_that_use_the_network_of_another_come_before_that(self, host: Host) -> None:
        owner = host.add("owner")
        host.add("sidecar", network_mode=f"container:{owner}")
        host.isolate("owner", "sidecar")
        host.concurrency = 1
        assert outcomes(host.release("owner", "sidecar")) == {"owner": "released", "sidecar": "released"}
        assert (host.isolated, host.networks(owner)) == ([], ["front"])

    def test_only_what_is_there_for_its_own_sake_is_meant(self, host: Host) -> None:
        owner = host.add("owner")
        host.add("sidecar", network_mode=f"container:{owner}")
        host.isolate("sidecar")
        assert (host.isolated, names(host.selection.recorded())) == (["owner", "sidecar"], ["sidecar"])
        assert outcomes(host.release()) == {"sidecar": "released"}
        assert host.isolated == []

    def test_one_that_cannot_come_back_does_not_keep_the_others(self, host: Host) -> None:
        network = host.engine.add_network("back", "10.2.0.0/24")
        host.add("web-1", networks={"back": EndpointSettings()})
        host.add("web-2")
        host.isolate("web-1", "web-2")
        host.engine.remove_network(network)
        results = host.release()
        assert outcomes(results) == {"web-1": "refused", "web-2": "released"}
        (message,) = filter(None, messages(results))  # both were isolated at the same time
        assert message.startswith("container web-1 cannot be released: network back no longer exists;")
        assert host.isolated == ["web-1"]

    def test_one_that_is_gone_is_forgotten_by_force_only(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        host.engine.remove_container(container)
        assert outcomes(host.release()) == {"web": "container_gone"}
        (checked,) = host.requests(check=True).release(host.selection.recorded(), force=True)
        assert (checked.ok, host.isolated) == (True, ["web"])
        (forgotten,) = host.release("web", force=True)
        assert forgotten.outcome is not None
        assert (forgotten.outcome.outcome, forgotten.outcome.changed) == ("released", True)
        assert forgotten.outcome.warnings == ("it was removed while it was isolated; the isolation is forgotten",)
        assert host.isolated == []

    def test_restart_starts_each_anew(self, host: Host) -> None:
        containers = [host.add("web-1"), host.add("web-2")]
        host.isolate("web-1", "web-2")
        before = [host.entry(container).started_at for container in containers]
        assert all(result.ok for result in host.release(restart=True))
        after = [host.engine.inspect_container(container)["State"]["StartedAt"] for container in containers]
        assert all(one != other for one, other in zip(before, after, strict=True))

    @pytest.mark.parametrize("which", [OVER, claim_filter(policy="another"), lambda _claim: True])
    def test_what_an_interrupted_release_left_is_always_meant(
        self, host: Host, which: t.Callable[[Claim], bool]
    ) -> None:
        container = host.add("web")
        host.isolate("web")
        host.interrupt_release(container)
        assert names(claimed(host.selection.named(["web"], releasing=True), which)) == ["web"]
        targets = host.selection.recorded(which)
        assert outcomes(host.requests().release(targets, which=which)) == {"web": "released"}
        assert (host.isolated, host.engine.state_of(container)) == ([], "running")

    def test_what_an_interrupted_release_left_of_one_that_is_gone_is_forgotten(self, host: Host) -> None:
        host.interrupt_release(host.isolate_and_lose("web"))
        assert outcomes(host.requests().release(host.selection.recorded(OVER), which=OVER)) == {"web": "released"}
        assert host.isolated == []

    def test_one_that_is_off_for_others_only_is_not_meant(self, host: Host) -> None:
        owner = host.add("owner")
        host.add("sidecar", network_mode=f"container:{owner}")
        host.isolate("sidecar")
        assert claimed(host.selection.named(["owner"], releasing=True), lambda _claim: True) == []

    def test_a_damaged_entry_is_said_and_the_others_are_released(self, host: Host, tmp_path: pathlib.Path) -> None:
        damaged = host.add("web-1")
        host.add("web-2")
        host.isolate("web-1", "web-2")
        (tmp_path / "state" / "isolations" / f"{damaged}.json").write_text("{}")
        results = host.release()
        assert outcomes(results) == {"?": "journal_damaged", "web-2": "released"}
        assert damaged in messages(results)[0]


class TestExpired:
    def test_only_those_whose_time_is_over(self, host: Host) -> None:
        over, later, never = host.add("over"), host.add("later"), host.add("never")
        host.isolate("over", "later", release_after=3600)
        host.isolate("never")
        host.let_expire(over)
        targets = claimed(host.selection.recorded(), OVER)
        assert names(targets) == ["over"]
        assert outcomes(host.requests().release(targets)) == {"over": "released"}
        assert (host.isolated, host.engine.state_of(later), host.engine.state_of(never)) == (
            ["later", "never"],
            "paused",
            "paused",
        )

    def test_one_that_is_named_is_not_released_before_its_time(self, host: Host) -> None:
        host.add("web")
        host.add("free")
        host.isolate("web", release_after=3600)
        assert claimed(host.selection.named(["web", "free", "nobody"]), OVER) == []

    def test_an_entry_that_cannot_be_read_is_told_as_it_may_be_over(self, host: Host, tmp_path: pathlib.Path) -> None:
        container = host.add("web")
        host.isolate("web", release_after=3600)
        (tmp_path / "state" / "isolations" / f"{container}.json").write_text("{}")
        (target,) = claimed(host.selection.recorded(), OVER)
        assert target.error is not None
        assert target.error.kind == "journal_damaged"

    def test_the_end_is_as_far_away_as_was_asked(self, host: Host) -> None:
        container = host.add("web")
        (result,) = host.isolate("web", release_after=3600)
        entry = host.entry(container)
        assert result.outcome is not None
        assert result.outcome.expires_at == entry.expires_at
        ends, since = parse_timestamp(entry.expires_at), parse_timestamp(entry.since)
        assert ends is not None
        assert since is not None
        assert 3599 < (ends - since).total_seconds() < 3660


class TestWhatIsGone:
    def test_repair_does_not_put_off_the_end_of_an_isolation_that_is_over(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web", release_after=3600)
        host.let_expire(container)
        host.repair()
        assert names(claimed(host.selection.recorded(), OVER)) == ["web"]

    @pytest.mark.parametrize("how", ["forgotten", "recreated"])
    def test_an_owner_comes_back_when_the_sidecar_for_which_it_left_is_gone(self, host: Host, how: str) -> None:
        owner = host.add("owner")
        sidecar = host.add("sidecar", network_mode=f"container:{owner}")
        host.isolate("sidecar")
        host.engine.remove_container(sidecar)
        if how == "recreated":
            host.add("sidecar", network_mode=f"container:{owner}")
            assert outcomes(host.repair()) == {"owner": "held", "sidecar": "isolated"}
        assert outcomes(host.release(force=True)) == {"sidecar": "released"}
        assert (host.isolated, host.networks(owner)) == ([], ["front"])

    def test_one_that_is_gone_and_named_twice_is_forgotten_once(self, host: Host) -> None:
        container = host.add("web")
        host.isolate("web")
        host.engine.remove_container(container)
        (result,) = host.release("web", container, force=True)
        assert result.ok

    @pytest.mark.parametrize(
        ("glob", "exclude", "expected"),
        [
            ("web-*", NO_FILTER, {"web-1": "isolated"}),
            ("*", TargetFilter(container_names=("stu*",)), {"web-1": "isolated"}),
            ("*", NO_FILTER, {"web-1": "isolated", "stuck": "engine_timeout"}),
        ],
    )
    def test_one_that_hangs_does_not_keep_the_others(
        self, host: Host, glob: str, exclude: TargetFilter, expected: dict[str, str]
    ) -> None:
        host.add("web-1")
        host.add("stuck")  # listed first, as it is newer
        host.engine.fail_next("inspect_container", EngineTimeout("no answer"))
        targets = host.selection.matching(TargetFilter(container_names=(glob,)), exclude)
        assert outcomes(host.requests().isolate(targets, BOTH, Cause())) == expected

    @pytest.mark.parametrize("isolated", [False, True])
    def test_a_release_by_name_forgets_all_that_had_it(self, host: Host, isolated: bool) -> None:
        gone = [host.isolate_and_lose("web"), host.isolate_and_lose("web")]
        container = host.add("web")
        if isolated:
            host.isolate("web")
        results = host.release("web")
        assert [result.outcome and result.outcome.container_id for result in results] == [container, *gone]
        assert [result.ok for result in results] == [True] * 3
        assert [result.outcome.warnings for result in results[1:] if result.outcome] == [
            (f"container {one[:12]} of that name was isolated and is gone; its isolation is forgotten",) for one in gone
        ]
        assert (host.isolated, host.engine.state_of(container)) == ([], "running")

    def test_those_that_are_gone_are_forgotten_before_their_successor_is_released(self, host: Host) -> None:
        """So that a repair, which looks at them under the lock of the successor, cannot isolate that afterwards."""
        host.isolate_and_lose("web")
        successor = host.add("web")
        host.isolate("web")
        left: list[list[str]] = []
        host.engine.before("unpause", lambda: left.append([e.snapshot.id for e in host.journal.entries()[0]]))
        host.concurrency = 1
        host.release("web")
        assert left == [[successor]]

    def test_all_of_one_name_are_known_when_no_container_has_it(self, host: Host) -> None:
        gone = [host.isolate_and_lose("web"), host.isolate_and_lose("web")]
        assert [result.error and result.error.kind for result in host.release("web")] == ["container_gone"] * 2
        assert host.isolated == ["web", "web"]
        results = host.release("web", force=True)
        assert [result.outcome and result.outcome.container_id for result in results] == gone
        assert host.isolated == []

    def test_one_that_is_named_beside_its_successor_is_forgotten_with_it(self, host: Host) -> None:
        gone = host.isolate_and_lose("web")
        host.add("web")
        assert [result.ok for result in host.release(gone, "web")] == [True, True]
        assert host.isolated == []

    def test_one_of_which_the_engine_does_not_tell_is_not_gone(self, host: Host) -> None:
        former = host.add("web")
        host.isolate("web")
        host.engine.rename_container(former, "former")
        host.add("web")
        host.engine.fail_next("inspect_container", None)
        host.engine.fail_next("inspect_container", EngineTimeout("no answer"))
        assert outcomes(host.release("web")) == {"web": "released"}
        assert host.entry(former)

    @pytest.mark.parametrize(
        ("policy", "kind"), [("shells", "still_held"), ("miners", "not_claimed")], ids=["of some", "of nobody"]
    )
    @pytest.mark.parametrize("succeeded", [False, True])
    def test_what_others_claim_is_not_forgotten(self, host: Host, succeeded: bool, policy: str, kind: str) -> None:
        container = host.add("web")
        for cause in (CAUSE, Cause(policy_id="shells")):
            host.requests().isolate(host.selection.named(["web"]), BOTH, cause)
        host.engine.remove_container(container)
        if succeeded:
            host.add("web")
        results = host.release("web", force=not succeeded, which=claim_filter(policy=policy))
        assert results[-1].error is not None
        assert results[-1].error.kind == kind
        assert len(host.entry(container).claims) == 2

    def test_the_journal_is_read_once_and_only_to_release(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [f"web-{number}" for number in range(5)]
        for name in wanted:
            host.add(name)
        reading = unittest.mock.Mock(side_effect=host.journal.entries)
        monkeypatch.setattr(host.journal, "entries", reading)
        host.isolate(*wanted)
        assert reading.call_count == 0
        host.release(*wanted)
        assert reading.call_count == 1


class TestPods:
    """Containers that use the network of one of them, released by one request."""

    def pod(self, host: Host) -> list[str]:
        owner = host.add("owner")
        pod = [owner, *(host.add(name, network_mode=f"container:{owner}") for name in ("one", "other"))]
        for container in pod:
            host.engine.set_restart_policy(container, "always", 0)
        return pod

    @pytest.mark.parametrize(
        "isolated",
        [("owner", "one", "other"), ("one", "other"), ("owner", "one"), ("owner",)],
        ids=["all", "both sidecars", "owner and one", "owner"],
    )
    @pytest.mark.parametrize("actions", [(CUT, KILL), BOTH, (KILL,)], ids=["cut and kill", "pause and cut", "kill"])
    @pytest.mark.parametrize("force", [False, True], ids=["", "force"])
    def test_one_that_is_down_is_released_by_one_request(
        self, host: Host, actions: tuple[Action, ...], isolated: tuple[str, ...], force: bool
    ) -> None:
        pod = self.pod(host)
        assert all(result.ok for result in host.isolate(*isolated, actions=actions))
        for container in pod:  # as by a reboot, after which the engine starts what the guard does not hold
            if host.journal.load(container) and host.engine.state_of(container) != "exited":
                host.engine.kill(container)
        results = host.release(*isolated, force=force)
        assert [(result.outcome and result.outcome.outcome, result.error) for result in results] == [
            ("released", None)
        ] * len(isolated), results
        assert all(result.ok and result.outcome and result.outcome.changed for result in results if result.intended)
        names = dict(zip(("owner", "one", "other"), pod, strict=True))
        assert [host.engine.state_of(names[name]) for name in isolated] == ["running"] * len(isolated)
        assert host.engine.inspect_container(pod[0])["NetworkSettings"]["Networks"]
        assert host.journal.entries() == ([], [])

    def test_what_came_of_both_attempts_is_told(self, host: Host) -> None:
        self.pod(host)
        host.isolate("owner", "one", actions=(CUT, KILL))
        owner, one = host.release("owner", "one")
        assert owner.outcome is not None
        assert one.outcome is not None
        assert [step.action for step in owner.outcome.steps] == ["start"]
        assert (owner.outcome.changed, owner.outcome.claims, owner.outcome.error) == (True, (), None)
        assert owner.outcome.after["networks"] == ["front"]
        assert [step.action for step in one.outcome.steps] == ["release_network", "set_restart_policy", "start"]
        assert (one.outcome.changed, [lost["what"] for lost in one.outcome.not_restored]) == (True, ["processes"])

    def test_one_that_is_of_no_pod_is_tried_once(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        tried: list[str] = []
        walk = Isolator.walk

        def counted(self: Isolator, container_id: str, *arguments: t.Any, **options: t.Any) -> Walk:
            tried.append(container_id)
            return walk(self, container_id, *arguments, **options)

        monkeypatch.setattr(Isolator, "walk", counted)
        host.engine.add_network("back", "10.2.0.0/24")
        pod, alone = self.pod(host), host.add("alone", networks={"back": EndpointSettings()})
        host.isolate("owner", "one", "alone", actions=(CUT, KILL))
        host.engine.remove_network("back")
        tried.clear()
        assert [result.ok for result in host.release("owner", "one", "alone")] == [True, True, False]
        assert [tried.count(container) for container in (pod[0], pod[1], alone)] == [2, 2, 1]

    def test_what_is_still_in_the_way_is_told_once(self, host: Host) -> None:
        self.pod(host)
        host.isolate("owner", "one", "other", actions=(CUT, KILL))
        owner, one = host.release("owner", "one")
        assert one.ok
        assert owner.outcome is not None
        assert (owner.outcome.outcome, (owner.outcome.error or {})["kind"]) == ("held", "still_held")

    def test_one_that_was_made_anew_is_released_by_name_and_stays_so(self, host: Host) -> None:
        pod = self.pod(host)
        host.isolate("one")
        for container in reversed(pod):
            host.engine.remove_container(container)
        new = self.pod(host)
        assert [(result.ok, result.outcome and result.outcome.outcome) for result in host.release("one")] == [
            (True, "released")
        ] * 2
        assert host.journal.entries() == ([], [])
        assert host.repair() == []
        assert {host.engine.state_of(container) for container in new} == {"running"}

    def test_one_that_is_gone_is_forgotten_by_force(self, host: Host) -> None:
        pod = self.pod(host)
        host.isolate("one", "other")
        for container in reversed(pod):
            host.engine.remove_container(container)
        assert all(result.ok for result in host.release(force=True))
        assert host.journal.entries() == ([], [])

    def test_check_mode_foresees_that_an_isolation_cannot_be_forgotten(self, host: Host) -> None:
        pod = self.pod(host)
        host.isolate("one")
        host.engine.remove_container(pod[1])
        host.engine.remove_network(host.engine.inspect_network("front")["Id"])
        results = [
            host.requests(check).release(host.selection.recorded(), force=True)[0].error for check in (True, False)
        ]
        assert [error and "network front no longer exists" in error.message for error in results] == [True, True]
