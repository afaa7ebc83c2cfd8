# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_options import FilterOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.filter_settings import Settings


@pytest.fixture
def config(tmp_path: pathlib.Path) -> pathlib.Path:
    path = tmp_path / "filters.yml"
    path.write_text("hosts: [web-1]")
    return path


def test_a_file_is_read_once_and_again_where_it_was_changed(config: pathlib.Path) -> None:
    settings = Settings(str(config), {"GUARD_HOSTS": "db-1", "GUARD_FOLD_WINDOW": "5"})
    assert settings.options.names.hosts == ("web-1",)
    assert settings.options.fold_window == 10.0, "the environment is for those without a file"
    assert not settings.refresh()
    config.write_text("hosts: [web-1, web-2]")
    assert settings.refresh()
    assert settings.options.names.hosts == ("web-1", "web-2")
    assert not settings.refresh()


def test_the_environment_may_name_the_file(config: pathlib.Path) -> None:
    assert Settings(None, {"GUARD_CONFIG": str(config)}).options.names.hosts == ("web-1",)


def test_the_environment_may_hold_the_options(caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(None, {"GUARD_HOSTS": "web-1", "GUARD_FOLD_WINDOWS": "5"})
    assert settings.options.names.hosts == ("web-1",)
    assert "Did you mean GUARD_FOLD_WINDOW?" in caplog.text
    assert not settings.refresh()


@pytest.mark.parametrize("bad", ["hots: [web-1]", "hosts: [", "x" * 2_000_000])
def test_a_file_that_cannot_be_used_is_told_and_the_options_before_stay(
    config: pathlib.Path, caplog: pytest.LogCaptureFixture, bad: str
) -> None:
    settings = Settings(str(config), {})
    config.write_text(bad)
    assert not settings.refresh()
    assert settings.options.names.hosts == ("web-1",)
    assert f"{config} cannot be used" in caplog.text
    assert len(caplog.text) < 1_000
    config.write_text("hosts: [web-2]")
    assert settings.refresh()
    assert settings.options.names.hosts == ("web-2",)


def test_a_file_that_comes_late_is_read_then(tmp_path: pathlib.Path, caplog: pytest.LogCaptureFixture) -> None:
    config = tmp_path / "late.yml"
    settings = Settings(str(config), {})
    assert settings.options == FilterOptions()
    assert "No such file" in caplog.text
    config.write_text("hosts: [web-1]")
    assert settings.refresh()


@pytest.mark.parametrize("config", ["filters.yml", "", 5, ["/etc"], {"a": 1}, "/\0"])
def test_a_path_that_is_none_is_told(config: object, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(config, {"GUARD_HOSTS": "web-1"})
    assert settings.options == FilterOptions()
    assert not settings.refresh()
    assert caplog.records[0].levelname == "ERROR"


def test_an_environment_that_cannot_be_used_is_told(caplog: pytest.LogCaptureFixture) -> None:
    assert Settings(None, {"GUARD_FOLD_WINDOW": "long"}).options == FilterOptions()
    assert "fold_window is 'long'" in caplog.text
