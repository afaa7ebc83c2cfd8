# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the module preflight_info finds on a host."""

from __future__ import annotations

import os
import pathlib
import platform
import typing as t

import docker
import pytest

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EngineVersion
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import (
    EngineError,
    EngineForbidden,
    EngineTimeout,
    EngineUnreachable,
    EngineUnsupported,
    SdkMissing,
    SdkUnusable,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import preflight_info
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine


def of(checks: t.Iterable[preflight_info.Check]) -> dict[str, tuple[str, str]]:
    return {check.name: (check.problem, check.found) for check in checks}


def engine(version: str = "28.5.1", live_restore: bool = True) -> FakeEngine:
    found = FakeEngine(EngineVersion(version, "1.51"))
    found.has_live_restore = live_restore
    return found


def raising(error: EngineError) -> t.Callable[[], t.NoReturn]:
    def connect() -> t.NoReturn:
        raise error

    return connect


def test_a_healthy_engine() -> None:
    assert of(preflight_info.engine_checks(engine)) == {
        "sdk": ("", docker.__version__),
        "engine": ("", "28.5.1"),
        "live_restore": ("", "on"),
    }


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("20.10.24+dfsg1", ""),
        ("29.0.0", ""),
        ("19.03.15", "engine_too_old"),
        ("1.13.1", "engine_too_old"),
        ("dev", "engine_version_unknown"),
    ],
)
def test_the_version_of_the_engine(version: str, problem: str) -> None:
    assert of(preflight_info.engine_checks(lambda: engine(version)))["engine"] == (problem, version)


def test_without_live_restore() -> None:
    checks = of(preflight_info.engine_checks(lambda: engine(live_restore=False)))
    assert checks["live_restore"] == ("live_restore_off", "off")


@pytest.mark.parametrize(
    ("error", "name", "problem"),
    [
        (SdkMissing("m"), "sdk", "sdk_missing"),
        (SdkUnusable("m"), "sdk", "sdk_unusable"),
        (EngineUnreachable("m"), "engine", "engine_not_installed"),
        (EngineForbidden("m"), "engine", "engine_forbidden"),
        (EngineTimeout("m"), "engine", "engine_timeout"),
        (EngineUnsupported("m"), "engine", "engine_unsupported"),
        (EngineError("m"), "engine", "engine_error"),
    ],
)
def test_what_keeps_from_asking_the_engine(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, error: EngineError, name: str, problem: str
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    checks = of(preflight_info.engine_checks(raising(error)))
    assert list(checks) == ["sdk", "engine", "live_restore"]
    assert checks[name][0] == problem
    assert checks["live_restore"] == ("not_asked", "-")
    if name == "sdk":
        assert checks["engine"] == ("not_asked", "-")


def test_an_engine_that_is_there_and_does_not_run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "dockerd").touch(mode=0o755)
    checks = of(preflight_info.engine_checks(raising(EngineUnreachable("m"))))
    assert checks["engine"] == ("engine_unreachable", "unreachable")


def test_an_engine_that_answers_its_version_alone_is_there() -> None:
    found = engine()
    found.fail_next("live_restore", EngineForbidden("a proxy"))
    assert of(preflight_info.engine_checks(lambda: found))["live_restore"] == ("not_asked", "-")


@pytest.fixture
def state_dir(tmp_path: pathlib.Path) -> pathlib.Path:
    found = tmp_path / "state"
    found.mkdir(mode=0o700)
    return found


def test_a_state_directory_as_it_should_be(state_dir: pathlib.Path) -> None:
    assert of([preflight_info.state_dir_check(str(state_dir))]) == {"state_dir": ("", "0700")}


def test_a_state_directory_that_is_made_when_it_is_needed(tmp_path: pathlib.Path) -> None:
    assert of([preflight_info.state_dir_check(str(tmp_path / "a/b"))]) == {"state_dir": ("", "made when needed")}
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("mode", "problem"), [(0o755, "state_dir_readable"), (0o770, "state_dir_open"), (0o707, "state_dir_open")]
)
def test_a_state_directory_for_others(state_dir: pathlib.Path, mode: int, problem: str) -> None:
    state_dir.chmod(mode)
    assert of([preflight_info.state_dir_check(str(state_dir))]) == {"state_dir": (problem, f"{mode:04o}")}


def test_a_state_directory_that_is_none(tmp_path: pathlib.Path) -> None:
    (tmp_path / "state").touch()
    assert preflight_info.state_dir_check(str(tmp_path / "state")).problem == "state_dir_no_directory"
    assert preflight_info.state_dir_check(str(tmp_path / "state/below")).problem == "state_dir_no_directory"


def test_a_state_directory_of_somebody_else(state_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert preflight_info.state_dir_check(str(state_dir)).problem == "state_dir_owner"


def test_a_state_directory_that_cannot_be_written(state_dir: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    assert preflight_info.state_dir_check(str(state_dir)).problem == "state_dir_unwritable"
    assert preflight_info.state_dir_check(str(state_dir / "a/b")).problem == "state_dir_unwritable"


def test_the_space_that_is_left(tmp_path: pathlib.Path) -> None:
    assert preflight_info.space_check(str(tmp_path / "a/b"), least=0).problem == ""
    little = preflight_info.space_check(str(tmp_path), least=1 << 60)
    assert little.problem == "space_low"
    assert little.found.endswith("B")


@pytest.mark.parametrize(
    ("size", "shown"), [(0, "0 MB"), (1_499_999, "1 MB"), (999_999_999, "999 MB"), (12_345_678_901, "12 GB")]
)
def test_sizes(size: int, shown: str) -> None:
    assert preflight_info.shown_size(size) == shown


def test_the_policy_set(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "set.json"
    check, digest = preflight_info.policy_set_check(str(path))
    assert (check.problem, digest) == ("policy_set_missing", "")
    path.write_text("{")
    check, digest = preflight_info.policy_set_check(str(path))
    assert (check.problem, digest) == ("policy_set_damaged", "")
    policy_set = PolicySet.of([])
    path.write_text(Deployment(policy_set).to_json())
    check, digest = preflight_info.policy_set_check(str(path))
    assert (check.problem, digest) == ("", policy_set.digest)
    assert check.found in policy_set.digest


def test_the_python_and_the_user() -> None:
    assert preflight_info.python_check().found == platform.python_version()
    found = preflight_info.user_check(0, "root")
    assert (found.problem, found.found) == ("", "root")
    assert preflight_info.user_check(1000, "operator").problem == "not_root"


def test_the_package_manager_of_the_python_of_the_distribution(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert preflight_info.package_manager("/usr", "/usr") == ""
    for name in ("apt-get", "dnf"):
        program = tmp_path / name
        program.touch(mode=0o755)
    assert preflight_info.package_manager("/usr", "/usr") == "apt"
    assert preflight_info.package_manager("/opt/venv", "/usr") == ""
    assert preflight_info.package_manager("/usr/local", "/usr/local") == ""
    (tmp_path / "apt-get").unlink()
    assert preflight_info.package_manager("/usr", "/usr") == "dnf"
