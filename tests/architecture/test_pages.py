# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages: all are found, links lead somewhere, and names, variables and messages in them are those of the code."""

from __future__ import annotations

import pathlib
import re
import urllib.parse

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.health import FIGURES, LABELLED
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import COUNTED, PREFIX
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.measured import METRICS
from ansible_collections.ironpost.container_guard.tools import reference_page

ROOT = reference_page.ROOT
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "roles").glob("*/README.md")])
BY_NAME = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in PAGES}
# Written in prose, or made of fragments of another time.
WRITTEN = sorted(set(BY_NAME) - {"CHANGELOG.md"})
NAMES = {
    path.stem
    for pattern in (
        "plugins/*/*.py",
        "playbooks/*.yml",
        "extensions/eda/plugins/*/*.py",
        "extensions/eda/rulebooks/*.yml",
    )
    for path in ROOT.glob(pattern)
} | {path.name for path in (ROOT / "roles").iterdir()}
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
# What a person sees in the first column: a quotation of the code, with an ellipsis for what is filled in.
SEEN = re.compile(r"^\| (.*?) \|", re.MULTILINE)
QUOTED = re.compile(r"`([^`]+)`")


def text_alone(page: str) -> str:
    """A page without its blocks of code, in which a bracket is none of a link."""
    return re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)


def anchors(page: str) -> set[str]:
    """The anchors of its headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", text_alone(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def code() -> str:
    """All of our source, with texts that are written over several lines as one."""
    paths = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("extensions/**/*.py"), *ROOT.glob("playbooks/**/*.yml")]
    paths += ROOT.glob("roles/**/*.yml")
    texts = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return re.sub(r"\s+", " ", re.sub(r'"\s*\n\s*f?"', "", texts))


def pattern(quote: str) -> str:
    """What a quoted message is in the code, where an expression stands for each ellipsis."""
    return ".{1,120}?".join(map(re.escape, quote.strip("… ").split("…")))


def test_the_reference_is_what_the_plugins_say() -> None:
    wanted = reference_page.page()
    assert reference_page.PAGE.read_text(encoding="utf-8") == wanted, "make it anew: python tools/reference_page.py"


@pytest.mark.parametrize("name", WRITTEN)
def test_a_link_leads_somewhere(name: str) -> None:
    lost = []
    for link in LINK.findall(text_alone(BY_NAME[name])):
        path, _hash, anchor = urllib.parse.unquote(link).partition("#")
        if re.match(r"[a-z]+:", path):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            lost.append(link)
    assert lost == []


def test_the_table_of_contents_has_every_page() -> None:
    links = {link.partition("#")[0] for link in LINK.findall(BY_NAME["docs/README.md"])}
    reached = {str(pathlib.PurePath("docs") / link) for link in links}
    # The pages of detectors have a table of contents of their own.
    wanted = {name for name in BY_NAME if name.startswith("docs/") and not re.match(r"docs/detectors/(?!README)", name)}
    assert wanted - {"docs/README.md"} <= reached


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_named_exists(name: str) -> None:
    named = set(re.findall(r"\bironpost\.container_guard\.([a-z_]+)", BY_NAME[name]))
    assert named - {*NAMES, "plugins", "tests"} == set()  # and Python packages


@pytest.mark.parametrize("name", WRITTEN)
def test_a_variable_that_is_typed_is_one_of_a_playbook(name: str) -> None:
    sources = [*ROOT.glob("playbooks/*.yml"), *ROOT.glob("playbooks/tasks/*.yml"), *ROOT.glob("roles/*/defaults/*.yml")]
    sources += [*ROOT.glob("roles/*/meta/*.yml"), *ROOT.glob("examples/awx-project/*.yml")]
    known = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in sources)))
    typed = set(re.findall(r"-e '?\{?\"?([a-z][a-z_]+)(?:=|\")", BY_NAME[name]))
    assert typed - known == set()


@pytest.mark.parametrize("name", WRITTEN)
def test_a_metric_that_is_named_is_one(name: str) -> None:
    named = {found.removeprefix(PREFIX) for found in re.findall(r"\bcontainer_guard_[a-z_]+[a-z]\b", BY_NAME[name])}
    assert named - {*FIGURES, *LABELLED, *COUNTED, *METRICS} == set()


def test_messages_in_troubleshooting_are_those_of_the_code() -> None:
    said = code()
    page = BY_NAME["docs/troubleshooting.md"]
    cells = [cell for cell in SEEN.findall(text_alone(page)) if cell != "you see" and not cell.startswith("-")]
    assert len(cells) > 30
    quotes = {quote for cell in cells for quote in QUOTED.findall(cell)}
    assert sorted(quote for quote in quotes if not re.search(pattern(quote), said)) == []
