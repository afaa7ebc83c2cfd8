# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What launcher and warm process say to each other. What comes of it is in tests/integration/test_warm.py."""

from __future__ import annotations

import contextlib
import os
import pathlib
import socket
import subprocess
import sys
import threading
import typing as t
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._warm import launcher, server, start

WORDS = st.binary(max_size=40).map(lambda word: word.replace(b"\0", b""))
NAMES = WORDS.map(lambda name: name.replace(b"=", b"")).filter(bool)
ENOUGH = 10_000
"""Bytes: more than a socket takes at once where many of them are one word."""


def handed_over(arguments: list[bytes], environment: dict[bytes, bytes], ignores_hangup: bool) -> server.Request:
    """What the warm process receives of what a launcher sends."""
    ours, its = socket.socketpair()
    with ours, its, mock.patch.dict(os.environb, environment, clear=True):
        words = list(map(os.fsdecode, arguments))
        sender = threading.Thread(target=launcher.send, args=[ours, words, ignores_hangup])
        sender.start()
        try:
            return server.received(its)
        finally:
            sender.join()


@given(st.lists(WORDS), st.dictionaries(NAMES, WORDS), st.booleans())
def test_what_is_handed_over_arrives_whatever_it_is(
    arguments: list[bytes], environment: dict[bytes, bytes], ignores_hangup: bool
) -> None:
    request = handed_over(arguments, environment, ignores_hangup)
    try:
        assert request.arguments == arguments
        assert request.environment == environment
        assert request.ignores_hangup == ignores_hangup
        for descriptor, ours in zip(request.descriptors, (0, 1, 2), strict=False):
            assert os.path.sameopenfile(descriptor, ours)
        assert os.path.samestat(os.fstat(request.descriptors[3]), os.stat("."))
    finally:
        for descriptor in request.descriptors:
            os.close(descriptor)


def test_no_argument_becomes_a_variable() -> None:
    # However it looks: arguments are counted.
    hostile = [b"--limit", b"LD_PRELOAD=/tmp/x.so", b"PATH=/tmp", b""]
    request = handed_over(hostile, {b"PATH": b"/usr/bin"}, ignores_hangup=False)
    for descriptor in request.descriptors:
        os.close(descriptor)
    assert (request.arguments, request.environment) == (hostile, {b"PATH": b"/usr/bin"})


def test_much_arrives_too() -> None:
    request = handed_over([b"x" * ENOUGH * 100], {b"A": b"y" * ENOUGH}, ignores_hangup=True)
    for descriptor in request.descriptors:
        os.close(descriptor)
    assert len(request.arguments[0]) == ENOUGH * 100


@pytest.mark.parametrize("sent", [b"", b"\0\0\0\x05ab"], ids=["nothing", "half"])
def test_half_a_request_is_none(sent: bytes) -> None:
    ours, its = socket.socketpair()
    with its:
        with ours:
            ours.sendall(sent)
        with pytest.raises(ValueError, match="half a request"):
            server.received(its)


def test_nobody_there_is_nothing_to_wait_for(tmp_path: pathlib.Path) -> None:
    assert launcher.connect(str(tmp_path / "socket")) is None
    (tmp_path / "file").touch()
    assert launcher.connect(str(tmp_path / "file")) is None


@pytest.mark.parametrize("says", [None, b"", b"warm-2\n"], ids=["nothing", "the end", "another version"])
def test_whoever_is_not_ready_gets_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, says: bytes | None
) -> None:
    monkeypatch.setattr(launcher, "PATIENCE", 0.1)
    taken: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()

        def answer() -> None:
            taken.append(listener.accept()[0])
            if says is not None:
                taken[0].sendall(says)
                taken[0].shutdown(socket.SHUT_WR)

        answering = threading.Thread(target=answer)
        answering.start()
        assert launcher.connect(str(tmp_path / "socket")) is None
        answering.join()
    with contextlib.closing(taken[0]) as connection:
        assert connection.recv(100) == b""


def test_they_agree() -> None:
    assert launcher.READY == server.READY
    assert start.UNSOUND == server.UNSOUND


@pytest.mark.parametrize(
    ("first", "found"),
    [
        ("#!/opt/venv/bin/python\n", "/opt/venv/bin/python"),
        ("#! /usr/bin/python3\n", "/usr/bin/python3"),
        ("#!/bin/sh\n", ""),
        ("#!/usr/bin/env python3\n", ""),
        ("\x7fELF", ""),
    ],
    ids=["venv", "system", "shell", "env", "binary"],
)
def test_only_a_python_program_has_an_interpreter(tmp_path: pathlib.Path, first: str, found: str) -> None:
    program = tmp_path / "ansible-playbook"
    program.write_text(first)
    assert start.interpreter(str(program)) == found


def test_without_an_ansible_playbook_the_command_runs_all_the_same(capfd: pytest.CaptureFixture[str]) -> None:
    environment = {**os.environ, "PATH": "/nonexistent"}
    command = [sys.executable, "-I", t.cast(str, start.__file__), "/bin/echo", "it runs"]
    assert subprocess.run(command, env=environment, check=True).returncode == 0
    found = capfd.readouterr()
    assert found.out == "it runs\n"
    assert "nothing is kept warm: ansible-playbook is not there" in found.err
