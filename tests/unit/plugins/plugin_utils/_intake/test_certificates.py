# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import time
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.certificates import read_certificates


def test_how_long_they_are_valid_and_what_they_say(authority: t.Any, lax_authority: t.Any) -> None:
    (strict,) = read_certificates(authority.path)
    (lax,) = read_certificates(lax_authority.path)
    assert (strict.says_key_usage, lax.says_key_usage) == (True, False)
    assert strict.not_before - 60 <= time.time() <= strict.not_after
    assert abs(strict.not_after - strict.not_before - 3650 * 86_400) < 2


def test_times_beyond_2049_and_chains(authority: t.Any, tmp_path: pathlib.Path) -> None:
    late, _key = authority.issue("late", days=365 * 60)  # GeneralizedTime rather than UTCTime
    chain = tmp_path / "chain.pem"
    chain.write_text(pathlib.Path(late).read_text() + "some text\n" + pathlib.Path(authority.path).read_text())
    first, second = read_certificates(str(chain))
    assert time.gmtime(first.not_after).tm_year >= 2080
    assert time.gmtime(second.not_after).tm_year < 2050


def test_without_a_certificate(authority: t.Any) -> None:
    assert read_certificates(authority.key) == []
    with pytest.raises(OSError, match="No such file"):
        read_certificates("/nowhere")


@pytest.mark.parametrize("content", ["", "!!!", "MAA=", "MIIB", "MIIBMIIBMIIBMIIBAgEBMAAwADAAMAA="])
def test_what_cannot_be_decoded(tmp_path: pathlib.Path, content: str) -> None:
    path = tmp_path / "broken.pem"
    path.write_text(f"-----BEGIN CERTIFICATE-----\n{content}\n-----END CERTIFICATE-----\n")
    with pytest.raises(ValueError, match=r"broken\.pem cannot be decoded"):
        read_certificates(str(path))
