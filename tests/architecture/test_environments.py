# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definitions of execution and decision environments are such that ansible-builder makes images of them."""

from __future__ import annotations

import ast
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

REPOSITORY = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
ENVIRONMENTS = sorted((REPOSITORY / "environments").glob("*.yml"))
REQUIREMENT = re.compile(r"^([A-Za-z][A-Za-z0-9-]*)>=[0-9.]+$", re.MULTILINE)
# The names by which they are imported, where these are others.
PACKAGES = {"yaml": "PyYAML"}
# What is imported where it is there, as few need it.
OPTIONAL = {"aiokafka", "cramjam"}


def builder(*arguments: str | pathlib.Path) -> str:
    done = subprocess.run(
        [pathlib.Path(sys.executable).with_name("ansible-builder"), *arguments],
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.stem)
def test_ansible_builder_takes_a_definition(path: pathlib.Path, tmp_path: pathlib.Path) -> None:
    builder("create", "--file", path, "--context", tmp_path, "--output-filename", "Containerfile")
    recipe = (tmp_path / "Containerfile").read_text()
    assert 'PYCMD="/usr/bin/python3.12"' in recipe
    collections = yaml.safe_load((tmp_path / "_build/requirements.yml").read_text())["collections"]
    repository = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["repository"]
    assert [one["name"] for one in collections] == [f"{repository}.git"]


def test_the_decision_environment_has_what_ansible_rulebook_needs(tmp_path: pathlib.Path) -> None:
    (path,) = [path for path in ENVIRONMENTS if path.stem == "decision-environment"]
    builder("create", "--file", path, "--context", tmp_path, "--output-filename", "Containerfile")
    assert "java-17-openjdk-headless" in (tmp_path / "_build/bindep.txt").read_text()
    packages = (tmp_path / "_build/requirements.txt").read_text()
    assert "ansible-rulebook>=1.3" in packages
    assert all(f"{name}>=" in packages for name in OPTIONAL)
    assert "ENV JAVA_HOME=" in (tmp_path / "Containerfile").read_text()


def test_what_the_collection_needs_is_found_in_it(tmp_path: pathlib.Path) -> None:
    # Not where the virtual environment is, below which it would look for collections, too.
    (tmp_path / "ansible_collections/ironpost").mkdir(parents=True)
    (tmp_path / "ansible_collections/ironpost/container_guard").symlink_to(REPOSITORY)
    found = yaml.safe_load(builder("introspect", tmp_path))
    ours = {requirement.partition(" ")[0].partition(">")[0] for requirement in found["python"]}
    # Each image has PyYAML by ansible-core, and ansible-builder leaves it out.
    assert ours == set(REQUIREMENT.findall((REPOSITORY / "requirements.txt").read_text())) - {"PyYAML"}
    assert any(requirement.startswith("openssh-clients ") for requirement in found["system"])


def test_what_is_imported_is_required() -> None:
    required = REQUIREMENT.findall((REPOSITORY / "requirements.txt").read_text())
    imported = set()
    for path in [*REPOSITORY.glob("plugins/**/*.py"), *REPOSITORY.glob("extensions/**/*.py")]:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    foreign = imported - sys.stdlib_module_names - {"ansible", "ansible_collections"} - OPTIONAL
    assert {PACKAGES.get(name, name) for name in foreign} <= set(required)
