# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import pytest
import yaml

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies import toml
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.files import (
    MAX_DEPTH,
    MAX_FILE_SIZE,
    MAX_NUMBER,
    read_policy_files,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding

CONTENT = {"id": "größe", "rules": ["a", "b"], "priority": 7, "enabled": True}
YAML = "id: größe\nrules:\n  - a\n  - b\npriority: 7\nenabled: true\n"
JSON = json.dumps(CONTENT, ensure_ascii=False, indent=1)
TOML = 'id = "größe"\nrules = [\n  "a",\n  "b",\n]\npriority = 7\nenabled = true\n'


def write(directory: pathlib.Path, **files: str | bytes) -> None:
    """Write files; a key a_yml is the file a.yml."""
    for key, content in files.items():
        path = directory / ".".join(key.rsplit("_", 1))
        path.write_bytes(content if isinstance(content, bytes) else content.encode())


def read(directory: pathlib.Path) -> dict[str, t.Any]:
    """The contents of a directory in which nothing is wrong."""
    files, findings = read_policy_files(directory)
    assert [found for found in findings if found.message != "the directory is not read"] == []
    return {file.name: file.content for file in files}


def finding(directory: pathlib.Path) -> Finding:
    """The one thing that is wrong in a directory of which nothing can be read."""
    files, findings = read_policy_files(directory)
    assert files == []
    (found,) = (found for found in findings if found.message != "the directory is not read")
    return found


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.yml", YAML), ("a.yaml", YAML), ("a.YML", YAML), ("a.yml", JSON), ("a.json", JSON), ("a.toml", TOML)],
)
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["LF", "CRLF"])
def test_formats(tmp_path: pathlib.Path, name: str, text: str, start: bytes, newline: str) -> None:
    (tmp_path / name).write_bytes(start + text.replace("\n", newline).encode())
    assert read(tmp_path) == {name: CONTENT}


def test_files_come_in_the_order_of_their_names(tmp_path: pathlib.Path) -> None:
    write(tmp_path, c_yml=YAML, a_toml=TOML, b_json=JSON)
    assert list(read(tmp_path)) == ["a.toml", "b.json", "c.yml"]


def test_a_single_file(tmp_path: pathlib.Path) -> None:
    write(tmp_path, a_yml=YAML, b_yml="[")
    assert read(tmp_path / "a.yml") == {"a.yml": CONTENT}


@pytest.mark.parametrize("suffix", ["yml", "json", "toml"])
@pytest.mark.parametrize(
    "data", [b"\xff\xfei\x00d\x00", b"name: caf\xe9", b"\xed\xa0\x80"], ids=["UTF-16", "Latin-1", "lone"]
)
def test_not_utf_8(tmp_path: pathlib.Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a.{suffix}").write_bytes(data)
    assert finding(tmp_path).message.startswith("it is not UTF-8 (at byte ")


@pytest.mark.parametrize(
    ("name", "text", "message", "line"),
    [
        ("a.yml", "id: [a\nname: b\n", "it is not YAML: ", 2),
        ("a.yml", "id: a\n\tname: b\n", "it is not YAML: ", 2),
        ("a.yml", "id: a: b\n", "it is not YAML: mapping values are not allowed here", 1),
        ("a.yml", "id: a\n---\nid: b\n", "expected a single document in the stream, but found another document", 2),
        ("a.yml", "id: !!python/object/apply:os.system [id]\n", "could not determine a constructor for the tag", 1),
        ("a.yml", "id: !vault x\n", "could not determine a constructor for the tag", 1),
        ("a.yml", "? [a, b]\n: c\n", "found unhashable key", 1),
        ("a.yml", "? {a: b}\n: c\n", "found unhashable key", 1),
        ("a.yml", 'id: "\0"\n', "unacceptable character #x0000", 0),
        ("a.yml", "id: !!bool maybe\n", "a value does not fit its tag", 0),
        ("a.yml", "id: !!int ''\n", "a value does not fit its tag", 0),
        ("a.yml", "id: !!timestamp soon\n", "a value does not fit its tag", 0),
        ("a.yml", "id: !!int a\n", "it is not YAML: ", 0),
        ("a.yml", "id: 2026-13-45\n", "it is not YAML: ", 0),
        ("a.yml", "%YAML 9\n---\nid: a\n", "it is not YAML: ", 1),
        ("a.json", '{"id": "a",}', "it is not JSON: ", 1),
        ("a.json", "{'id': 1}", "it is not JSON: ", 1),
        ("a.json", "", "it is not JSON: Expecting value", 1),
        ("a.json", '{"id": 1} {"id": 2}', "it is not JSON: Extra data", 1),
        ("a.json", '{"priority": %s}' % ("9" * 5000), "it is not JSON: ", 0),
        ("a.toml", "id = a", "it is not TOML: ", 0),
        ("a.toml", 'id = "a"\nid = "b"', "it is not TOML: Cannot overwrite a value", 0),
        ("a.toml", "[a]\n[a]", "it is not TOML: Cannot declare", 0),
        ("a.toml", "priority = " + "9" * 5000, "it is not TOML: ", 0),
    ],
)  # fmt: skip
def test_not_what_the_suffix_says(tmp_path: pathlib.Path, name: str, text: str, message: str, line: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = finding(tmp_path)
    assert message in found.message
    assert "\n" not in found.message
    assert (found.file, found.level) == (name, "error")
    if line:
        assert str(found).startswith(f"{name}:{found.line}:{found.column}: ")
        assert found.line == line


def test_what_others_teach_the_yaml_library_is_not_for_policies(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("yaml_constructors", "yaml_multi_constructors"):
        monkeypatch.setattr(yaml.SafeLoader, name, dict(getattr(yaml.SafeLoader, name)))
    yaml.SafeLoader.add_constructor("!taught", lambda _loader, _node: "p")
    yaml.SafeLoader.add_multi_constructor("!many/", lambda _loader, _suffix, _node: "p")
    assert yaml.safe_load("[!taught x, !many/y z]") == ["p", "p"]
    write(tmp_path, a_yml="id: !taught x\n")
    assert "could not determine a constructor for the tag '!taught'" in finding(tmp_path).message
    write(tmp_path, a_yml="id: !many/y z\n")
    assert "could not determine a constructor for the tag '!many/y'" in finding(tmp_path).message


@pytest.mark.parametrize(
    ("name", "text", "key", "line"),
    [
        ("a.yml", "id: a\nname: b\nid: c\n", "id", 3),
        ("a.yml", "id: a\n'id': c\n", "id", 2),
        ("a.yml", "{id: a, id: a}", "id", 1),
        ("a.yml", "policies:\n  - id: a\n    target_filter:\n      labels: [a]\n      labels: [b]\n", "labels", 5),
        ("a.yml", "protect: {labels: [a], exclude: {x: 1, x: 2}}\n", "x", 1),
        ("a.json", '{"id": 1, "id": 1}', "id", 0),
        ("a.json", '{"policies": [{"action": {"type": 1, "type": 2}}]}', "type", 0),
        ("a.json", '{"\\ud800": 1, "\\ud800": 1}', "\\ud800", 0),
    ],
)
def test_a_key_may_stand_once_in_a_mapping(tmp_path: pathlib.Path, name: str, text: str, key: str, line: int) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    found = finding(tmp_path)
    assert found.message.startswith(f"the key {key} stands twice in one ")
    assert found.line == line


def test_a_key_may_stand_in_several_mappings(tmp_path: pathlib.Path) -> None:
    write(tmp_path, a_yml="policies:\n  - id: a\n  - id: b\n", b_json='[{"id": 1}, {"id": {"id": 2}}]')
    assert read(tmp_path) == {
        "a.yml": {"policies": [{"id": "a"}, {"id": "b"}]},
        "b.json": [{"id": 1}, {"id": {"id": 2}}],
    }


BOMB = "a: &a [x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (BOMB, 2),
        ("a: &x [1]\nb: *x\n", 2),
        ("a: &x [*x]\n", 1),
        ("base: &base {a: 1}\nid:\n  <<: *base\n", 3),
        ("a: &x k\n*x : v\n", 2),
    ],
    ids=["bomb", "plain", "cycle", "merge", "key"],
)
def test_yaml_aliases_are_refused(tmp_path: pathlib.Path, text: str, line: int) -> None:
    write(tmp_path, a_yml=text)
    found = finding(tmp_path)
    assert (found.message, found.hint, found.line) == ("YAML aliases are not read", "write the value out", line)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 300, 100_000])
@pytest.mark.parametrize(
    ("name", "start", "opening", "closing"),
    [
        ("a.yml", "a: ", "[", "]"),
        ("a.yml", "a: ", "{a: ", "}"),
        ("a.yml", "a:\n  ", "- ", ""),
        ("a.json", "", "[", "]"),
        ("a.json", "", '{"a": [', "0]}"),
        ("a.toml", "a = ", "[", "]"),
    ],
)
def test_deep_nesting_is_refused(
    tmp_path: pathlib.Path, name: str, start: str, opening: str, closing: str, depth: int
) -> None:
    middle = "0" if opening.endswith(": ") else ""
    (tmp_path / name).write_text(start + opening * depth + middle + closing * depth, encoding="utf-8")
    assert "nested deeper" in (message := finding(tmp_path).message) or "it is not" in message


def test_nesting_within_the_bound_is_read(tmp_path: pathlib.Path) -> None:
    text = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    write(tmp_path, a_yml=text, b_json=text)
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.yml", "priority: 0x" + "f" * 5000),
        ("a.yml", f"- {MAX_NUMBER + 1}"),
        ("a.yml", f"? {-MAX_NUMBER - 1}\n"),
        ("a.yml", f"!!set {{{MAX_NUMBER + 1}}}"),
        ("a.json", f"[[{MAX_NUMBER + 1}]]"),
        ("a.toml", "a = [{b = 0x" + "f" * 5000 + "}]"),
    ],
)
def test_huge_numbers_are_refused(tmp_path: pathlib.Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert finding(tmp_path).message == f"a number is larger than {MAX_NUMBER}"


def test_a_file_may_have_10_mb(tmp_path: pathlib.Path) -> None:
    write(tmp_path, a_json=b"{}".ljust(MAX_FILE_SIZE))
    assert read(tmp_path) == {"a.json": {}}


@pytest.mark.parametrize("name", ["a.json", "a.yml", "a.toml"])
def test_a_larger_file_is_refused(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}".ljust(MAX_FILE_SIZE + 1))
    assert finding(tmp_path).message == "it is larger than 10 MB"


def test_a_link_inside_the_directory_is_followed(tmp_path: pathlib.Path) -> None:
    (tmp_path / "shared").mkdir()
    write(tmp_path / "shared", a_yml=YAML)
    (tmp_path / "link.yml").symlink_to("shared/a.yml")
    assert read(tmp_path) == {"link.yml": CONTENT}


def test_the_directory_itself_may_be_a_link(tmp_path: pathlib.Path) -> None:
    (tmp_path / "real").mkdir()
    write(tmp_path / "real", a_yml=YAML)
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "b.yml").symlink_to(tmp_path / "link" / "a.yml")
    assert read(tmp_path / "link") == {"a.yml": CONTENT, "b.yml": CONTENT}


@pytest.mark.parametrize(
    "target", ["../secret.yml", "{outside}/secret.yml", "up/secret.yml", "../policies2/secret.yml"]
)
def test_a_link_out_of_the_directory_is_refused(tmp_path: pathlib.Path, target: str) -> None:
    policies = tmp_path / "policies"
    for directory in (policies, tmp_path / "policies2"):
        directory.mkdir()
        (directory.parent / "secret.yml").write_text("id: secret")
    write(tmp_path / "policies2", secret_yml="id: secret")
    (policies / "up").symlink_to("..")
    (policies / "a.yml").symlink_to(target.format(outside=tmp_path))
    found = finding(policies)
    assert (found.message, found.hint) == ("the link leads out of the policy directory", "copy the file")
    assert "secret" not in str(found)


def test_a_single_file_that_is_a_link_out_of_its_directory_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "policies").mkdir()
    write(tmp_path, secret_yml="id: secret")
    (tmp_path / "policies" / "a.yml").symlink_to("../secret.yml")
    assert finding(tmp_path / "policies" / "a.yml").message == "the link leads out of the policy directory"


@pytest.mark.parametrize("target", ["nowhere.yml", "a.yml"], ids=["dangling", "circle"])
def test_a_link_to_nothing_is_refused(tmp_path: pathlib.Path, target: str) -> None:
    (tmp_path / "a.yml").symlink_to(target)
    assert finding(tmp_path).message.startswith("cannot be read: ")


@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink(".", path), lambda path: os.symlink("/dev/zero", path)]
)
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: pathlib.Path, make: t.Callable[[pathlib.Path], None]
) -> None:
    make(tmp_path / "x.yml")
    assert finding(tmp_path).message in ("it is not a regular file", "the link leads out of the policy directory")


def test_hidden_files_and_subdirectories_are_not_read(tmp_path: pathlib.Path) -> None:
    for name in ("sub", "v1.2", ".git", ".hidden.yml"):
        (tmp_path / name).mkdir()
        write(tmp_path / name, a_yml="[")
    (tmp_path / ".draft.yml").write_text("[")
    write(tmp_path, a_yml=YAML)
    assert list(read(tmp_path)) == ["a.yml"]


def test_a_directory_is_warned_of_unless_it_holds_the_tests(tmp_path: pathlib.Path) -> None:
    for name in ("tests", "test", ".git"):
        (tmp_path / name).mkdir()
    write(tmp_path, a_yml=YAML)
    _files, (found,) = read_policy_files(tmp_path)
    assert (found.file, found.level) == ("test", "warning")
    assert "a folder of policy tests is called tests" in found.hint


def test_an_unknown_suffix_is_warned_of(tmp_path: pathlib.Path) -> None:
    write(tmp_path, a_ymll="[", b_conf="[", c_yml="{}")
    files, findings = read_policy_files(tmp_path)
    assert [file.name for file in files] == ["c.yml"]
    assert [(found.file, found.level) for found in findings] == [("a.ymll", "warning"), ("b.conf", "warning")]
    assert str(findings[0]) == "a.ymll: the file is not read (policy files end in .yml, .yaml, .json, .toml)"


@pytest.mark.parametrize("name", ["README.md", "notes.txt", "README", "index.rst", "NOTES.TXT"])
def test_files_that_commonly_stand_beside_policies_are_not_warned_of(tmp_path: pathlib.Path, name: str) -> None:
    (tmp_path / name).write_text("[")
    assert read(tmp_path) == {}


@pytest.mark.parametrize(("name", "content"), [("a.yml", None), ("a.toml", {})])
def test_an_empty_file(tmp_path: pathlib.Path, name: str, content: object) -> None:
    (tmp_path / name).touch()
    assert read(tmp_path) == {name: content}


def test_a_bad_file_does_not_hide_the_others(tmp_path: pathlib.Path) -> None:
    write(tmp_path, a_yml="[", b_json=JSON, c_toml="=", d_yml=b"\xff", e_yml=YAML)
    files, findings = read_policy_files(tmp_path)
    assert [file.name for file in files] == ["b.json", "e.yml"]
    assert [found.file for found in findings] == ["a.yml", "c.toml", "d.yml"]


def test_a_file_name_that_is_no_text_is_shown_as_escapes(tmp_path: pathlib.Path) -> None:
    with open(os.fsencode(tmp_path) + b"/\xff\n.yml", "wb") as file:
        file.write(b"[")
    assert finding(tmp_path).file == r"\udcff\n.yml"


@pytest.mark.parametrize("source", ["missing", "missing.yml", "file.txt/below"])
def test_a_directory_that_cannot_be_read_is_an_os_error(tmp_path: pathlib.Path, source: str) -> None:
    (tmp_path / "file.txt").touch()
    with pytest.raises(OSError, match="directory"):
        read_policy_files(tmp_path / source)


def test_a_python_that_reads_no_toml_says_what_to_do(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toml, "_library", None)
    write(tmp_path, a_toml=TOML)
    found = finding(tmp_path)
    assert found.file == "a.toml"
    assert "install tomli for it, or write YAML" in found.message
