# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes docs/reference.md from what plugins, playbooks and roles say of themselves: python tools/reference_page.py."""

from __future__ import annotations

import ast
import pathlib
import re
import typing as t

import yaml

ROOT = pathlib.Path(__file__).absolute().parents[1]
PAGE = ROOT / "docs" / "reference.md"
COLLECTION = "ironpost.container_guard"
BEFORE = """\
<!-- Written by tools/reference_page.py from the documentation of the plugins. Do not edit it by hand. -->

# Reference

One line for everything that there is. All of it, with options, return values and examples, is read by `ansible-doc`
where the collection is installed. Event source and event filters are none of Ansible's plugins: their documentation is
at the head of their files.
"""
_MARKUP = re.compile(r"\b(?:O|V|C|M|E|B|I|P|RV)\(((?:[^()\\]|\\.)*)\)")


def page() -> str:
    """The content of the page."""
    return "\n".join(
        [
            BEFORE,
            *_plugins("Modules", "plugins/modules", ""),
            *_plugins("Filters", "plugins/filter", "-t filter "),
            *_plugins("Lookup", "plugins/lookup", "-t lookup "),
            *_roles(),
            *_playbooks(),
            *_rulebooks(),
            *_event_source(),
            *_event_filters(),
        ]
    )


def _plugins(title: str, directory: str, kind: str) -> list[str]:
    paths = _files(directory, "*.py")
    rows = [(_link(path), _plain(_documentation(path)["short_description"])) for path in paths]
    return [f"## {title}\n", f"    ansible-doc {kind}{COLLECTION}.NAME\n", *_table(("name", "does"), rows)]


def _roles() -> list[str]:
    rows = []
    for path in sorted((ROOT / "roles").iterdir()):
        specs = yaml.safe_load((path / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
        rows.append((f"[`{path.name}`](../roles/{path.name}/README.md)", _plain(specs["main"]["short_description"])))
    return ["## Roles\n", f"    ansible-doc -t role {COLLECTION}.NAME\n", *_table(("name", "does"), rows)]


def _playbooks() -> list[str]:
    rows = [(_link(path), _first_sentence(_comment(path))) for path in _files("playbooks", "*.yml")]
    text = "Variables are at the head of each file, and in the pages.\n"
    command = f"    ansible-playbook -i inventory -b {COLLECTION}.NAME\n"
    return ["## Playbooks\n", command, text, *_table(("name", "does"), rows)]


def _rulebooks() -> list[str]:
    rows = [(_link(path), _first_sentence(_comment(path))) for path in _files("extensions/eda/rulebooks", "*.yml")]
    command = f"    ansible-rulebook --rulebook {COLLECTION}.NAME --inventory inventory --vars guard.yml\n"
    return ["## Rulebooks\n", command, *_table(("name", "does"), rows)]


def _event_source() -> list[str]:
    path = ROOT / "extensions/eda/plugins/event_source/alerts.py"
    rows = []
    for name, option in _documentation(path)["options"].items():
        told = option["description"]
        first = _first_sentence(_plain(told if isinstance(told, str) else told[0]))
        rows.append((f"`{name}`", option.get("type", "str"), _default(option), first))
    text = f"{_link(path)}: the variable `guard` of the rulebooks holds its options, see [Sending alerts](alerts.md).\n"
    return ["## Event source\n", text, *_table(("option", "type", "default", "is"), rows)]


def _event_filters() -> list[str]:
    paths = _files("extensions/eda/plugins/event_filter", "*.py")
    rows = [(_link(path), _plain(_documentation(path)["short_description"])) for path in paths]
    text = "Their options stand in a file or in the environment: [Alerts from any other source](filters.md).\n"
    return ["## Event filters\n", text, *_table(("name", "does"), rows)]


def _link(path: pathlib.Path) -> str:
    return f"[`{path.stem}`](../{path.relative_to(ROOT)})"


def _files(directory: str, pattern: str) -> list[pathlib.Path]:
    return sorted(path for path in (ROOT / directory).glob(pattern) if path.stem != "__init__")


def _documentation(path: pathlib.Path) -> t.Any:
    """What stands in DOCUMENTATION. The file is not imported: a plugin of EDA is none of the package."""
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "DOCUMENTATION":
            return yaml.safe_load(ast.literal_eval(statement.value))
    raise ValueError(f"{path} has no DOCUMENTATION")


def _comment(path: pathlib.Path) -> str:
    """The comment at the head of a file, behind that about the licence, until an example in it begins."""
    told: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# Copyright") or "License" in line:
            continue
        if line.startswith("# ") and not line.startswith("#  "):
            told.append(line.removeprefix("# "))
        elif told:
            break
    if not told:
        raise ValueError(f"{path} does not say what it does")
    return " ".join(told)


def _first_sentence(text: str) -> str:
    return re.split(r"\.\s+(?=[A-Z])", text, maxsplit=1)[0].rstrip(".:")


def _plain(text: str) -> str:
    """Text without the markup of Ansible."""
    return _MARKUP.sub(lambda found: f"`{found[1].removeprefix('ignore:')}`", text).replace("\\", "")


def _default(option: t.Mapping[str, t.Any]) -> str:
    if option.get("required"):
        return "required"
    default = option.get("default")
    return (
        "" if default in (None, "", [], {}) else f"`{str(default).lower() if isinstance(default, bool) else default}`"
    )


def _table(heads: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    lines = ["| {} |".format(" | ".join(heads)), "|" + "---|" * len(heads)]
    return [*lines, *("| {} |".format(" | ".join(cell.replace("|", "\\|") for cell in row)) for row in rows), ""]


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
