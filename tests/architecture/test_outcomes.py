# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one table of outcomes, and the page that is made of it."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils import _outcomes
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import OUTCOMES, in_check_mode
from ansible_collections.ironpost.container_guard.tools.outcomes_page import PAGE, page


def test_the_page_is_what_the_table_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "make it anew: python tools/outcomes_page.py"


def test_the_page_is_found_from_the_readme() -> None:
    assert "docs/outcomes.md" in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")


def test_every_word_is_in_the_table() -> None:
    # Words for other columns have a space or are listed here.
    others = {_outcomes.NEVER, _outcomes.NOT_TOLD}
    words = {value for name, value in vars(_outcomes).items() if name.isupper() and isinstance(value, str)}
    assert {word for word in words - others if " " not in word} == set(OUTCOMES)


def test_nothing_dangerous_is_green_and_what_is_to_be_tried_again_is_no_answer() -> None:
    for name, meaning in OUTCOMES.items():
        assert not (meaning.answers and meaning.again != _outcomes.NEVER), name
        assert meaning.green == meaning.answers or name.startswith("would_"), name
    for name in ("limit", "failed", "unknown", "busy", "refused", "unresolved", "too_many_matches"):
        assert not OUTCOMES[name].green, name


def test_check_mode_has_names_of_its_own() -> None:
    for done, foreseen in (
        ("isolated", "would_isolate"),
        ("released", "would_release"),
        ("collected", "would_collect"),
    ):
        assert in_check_mode(done) == foreseen
    assert in_check_mode("protected") == "protected"
