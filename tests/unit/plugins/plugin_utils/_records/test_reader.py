# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import json
import random
import time
import tracemalloc
import typing as t

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records import reader as reader_module
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.lines import MAX_LINE
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._records.reader import (
    BROKEN,
    LEFT_OUT,
    SHARED,
    TEXT,
    TEXT_OF_FALCO,
    TOO_DEEP,
    TOO_LONG,
    Mark,
    Reader,
    Record,
)
from ansible_collections.ironpost.container_guard.tests.readings import alerts_from_bytes

ALERT = {
    "hostname": "web-1",
    "output": '2026-04-05T12:43:02.928967123+0000: Critical shell | cmdline=sh -c "{é}" 上 \n',
    "output_fields": {"container.id": "3f2a91c07be4", "container.name": "shop-web", "proc.cmdline": 'sh -c "id" \\'},
    "priority": "Critical",
    "rule": "Write below etc",
    "source": "syscall",
    "tags": ["T1059", "container"],
    "time": "2026-04-05T12:43:02.928967123Z",
}
ONE = json.dumps(ALERT, ensure_ascii=False)
OTHER = json.dumps({**ALERT, "rule": "Terminal shell in container", "priority": "Notice"})


def read(content: bytes | str, size: int = 1 << 16, mark: Mark | None = None) -> list[Record]:
    """The records of a log that comes in chunks of that size."""
    data = content.encode() if isinstance(content, str) else content
    reader = Reader(mark)
    records = [record for at in range(0, len(data), size) for record in reader.feed(data[at : at + size])]
    return records + list(reader.close())


def messages(records: list[Record]) -> list[t.Any]:
    return [json.loads(record.body) for record in records if record.body is not None]


def skipped(records: list[Record]) -> list[tuple[int, str]]:
    return [(record.line, record.skipped) for record in records if record.body is None]


BOTH = [ALERT, json.loads(OTHER)]
PREFIXES = {
    "none": "",
    "syslog": "Apr  5 12:43:02 web-1 falco[812]: ",
    "syslog, with a priority": "<5>Apr 15 12:43:02 web-1 falco: ",
    "syslog, ISO": "2026-04-05T12:43:02.123456+00:00 web-1 falco[812]: ",
    "falcosidekick": "<5>2026-04-05T12:43:02Z web-1 Falco[1]: ",
    "RFC 5424": "<14>1 2026-04-05T12:43:02.003Z web-1 falco 812 ID47 - ",
    "RFC 5424, with data": '<14>1 2026-04-05T12:43:02Z web-1 app 812 - [a@1 k="]{\\"v\\"" l="x"][b@2] \ufeff',
    "cee": "Apr  5 12:43:02 web-1 suricata[52824]: @cee: ",
    "journalctl, short": "Apr 05 12:43:02 web-1 falco[812]: ",
    "journalctl, short-iso": "2026-04-05T12:43:02+0000 web-1 falco[812]: ",
    "journalctl, short-full": "Sun 2026-04-05 12:43:02 UTC web-1 falco[812]: ",
    "journalctl, short-monotonic": "[12345.678901] web-1 falco[812]: ",
    "another program": "Apr  5 12:43:02 web-1 forwarder[812]: ",
    "docker logs -t": "2026-04-05T12:43:02.930000000Z ",
    "compose": "falco-1  | ",
    "compose, coloured": "\x1b[36mfalco-1  |\x1b[0m ",
    "compose -t": "falco-1  | 2026-04-05T12:43:02.930000000Z ",
    "CRI": "2026-04-05T12:43:02.930000000Z stdout F ",
    "RFC 7464": "\x1e",
    "server-sent events": "data: ",
}


@pytest.mark.parametrize("prefix", PREFIXES.values(), ids=PREFIXES)
def test_prefixes(prefix: str) -> None:
    assert messages(read(f"{prefix}{ONE}\n{prefix}{OTHER}\r\n")) == BOTH
    assert skipped(read(f"{prefix}Falco version\n")) == [(1, TEXT)]


def json_file(text: str, stream: str = "stdout") -> dict[str, t.Any]:
    return {"log": text, "stream": stream, "time": "2026-04-05T12:43:02.93Z"}


def journald(message: t.Any, **keys: str) -> dict[str, t.Any]:
    return {"MESSAGE": message, "_HOSTNAME": "web-1", "SYSLOG_IDENTIFIER": "falco", **keys}


WRAPPERS: dict[str, t.Callable[[str], t.Any]] = {
    "docker json-file": lambda text: json_file(text + "\n"),
    "journald": journald,
    "journald, bytes": lambda text: journald(list(text.encode())),
    "journald, of a container": lambda text: {"MESSAGE": text, "CONTAINER_ID": "3f2a", "SYSLOG_IDENTIFIER": "3f2a"},
    "fluent-bit": lambda text: {"date": 1775392982.9, "log": text},
    "fluent-bit, JSON": lambda text: [{"date": 1775392982.9, "log": text}],
    "fluent-bit, CRI": lambda text: {"log": f"2026-04-05T12:43:02.9Z stdout F {text}"},
    "vector": lambda text: {"file": "/var/log/falco.log", "host": "web-1", "message": text, "source_type": "file"},
    "filebeat": lambda text: {"@timestamp": "x", "log": {"offset": 0}, "message": text, "agent": {"type": "filebeat"}},
    "vector, of syslog": lambda text: {"appname": "falco", "severity": "notice", "message": text},
    "vector, parsed": lambda text: {"host": "web-1", "message": json.loads(text)},
    "CloudEvents": lambda text: {"specversion": "1.0", "type": "falco", "data": json.loads(text)},
    "CloudEvents, text": lambda text: {"specversion": "1.0", "type": "falco", "data": text},
    "CloudEvents, base64": lambda text: {
        "specversion": "1.0",
        "data_base64": base64.b64encode(text.encode()).decode(),
    },
    "Loki": lambda text: {"streams": [{"stream": {"job": "falco"}, "values": [["1775392982", text]]}]},
    "Loki, a query": lambda text: {
        "status": "success",
        "data": {"resultType": "streams", "result": [{"stream": {}, "values": [["1", text]]}]},
    },
    "logcli": lambda text: {"labels": {}, "line": text, "timestamp": "2026-04-05T12:43:02Z"},
    "Splunk HEC": lambda text: {"time": 1775392982, "host": "web-1", "event": json.loads(text)},
    "Splunk HEC, text": lambda text: {"event": text, "sourcetype": "falco"},
    "Elasticsearch": lambda text: {"_index": "falco", "_source": json.loads(text)},
    "several": lambda text: {"message": json.dumps(journald(f"falco-1  | {text}"))},
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_wrappers(wrap: t.Callable[[str], t.Any]) -> None:
    records = read("".join(json.dumps(wrap(text)) + "\n" for text in (ONE, OTHER)))
    assert messages(records) == BOTH
    assert [record.line for record in records] == [1, 2]


@pytest.mark.parametrize("name", ["docker json-file", "journald", "fluent-bit", "vector", "Loki", "Splunk HEC, text"])
def test_text_in_wrappers_is_text(name: str) -> None:
    assert skipped(read(json.dumps(WRAPPERS[name]("Falco version: 0.43.0")))) == [(1, TEXT)]


def test_what_journald_left_out() -> None:
    assert skipped(read(json.dumps(journald(None)))) == [(1, LEFT_OUT)]


@pytest.mark.parametrize(
    "alert",
    [
        {"rule": "x", "severity": "low", "source": "y", "message": "{}"},
        {**ALERT, "message": "shell {}"},
        {"rule": {"level": 5, "id": "87908"}, "agent": {"id": "001"}, "data": {"docker": {}}},
        {"version": "4", "groupKey": "x", "alerts": [], "message": "{}"},
        {"scenario": "x", "source": {"scope": "Ip"}, "message": "{}"},
        {"_source": {"rule": {"level": 5, "id": "87908"}, "agent": {"id": "001"}}},
        {"severity": "high", "source": "x", "ruel": "y", "message": "text"},
        {"event_type": "alert", "timestamp": "x", "alert": {}},
        {"time": "x", "program": "crowdsec", "alert": {"scenario": "x"}},
    ],
)
def test_alerts_are_no_wrappers(alert: dict[str, t.Any]) -> None:
    assert read(json.dumps(alert)) == [Record(1, json.dumps(alert).encode())]


LONG = json.dumps({**ALERT, "output": "x y" * 14_000})


def test_messages_that_the_engine_split() -> None:
    lines = [json_file((LONG + "\n")[at : at + 16_384]) for at in range(0, len(LONG) + 1, 16_384)]
    lines.insert(1, json_file(OTHER + "\n", "stderr"))
    records = read("\n".join(map(json.dumps, lines)))
    assert messages(records) == [BOTH[1], json.loads(LONG)]
    assert [record.line for record in records] == [2, 1]


def test_messages_that_journald_split() -> None:
    parts = [LONG[at : at + 16_000] for at in range(0, len(LONG), 16_000)]
    keys = [{"CONTAINER_ID": "3f2a", "CONTAINER_PARTIAL_MESSAGE": "true"}] * (len(parts) - 1) + [
        {"CONTAINER_ID": "3f2a"}
    ]
    lines = [json.dumps(journald(part, **key)) for part, key in zip(parts, keys, strict=True)]
    assert messages(read("\n".join(lines))) == [json.loads(LONG)]


def test_messages_that_cri_split() -> None:
    flags = ["P"] * 3 + ["F"]
    parts = [ONE[at : at + len(ONE) // 4 + 1] for at in range(0, len(ONE), len(ONE) // 4 + 1)]
    lines = [f"2026-04-05T12:43:02.9Z stdout {flag} {part}" for flag, part in zip(flags, parts, strict=True)]
    lines.insert(2, f"2026-04-05T12:43:02.9Z stderr F {OTHER}")
    records = read("\n".join(lines))
    assert messages(records) == [BOTH[1], ALERT]
    assert [record.line for record in records] == [3, 1]


def test_a_piece_that_nothing_completes_is_counted() -> None:
    lines = f"2026-04-05T12:43:02.9Z stdout P {ONE[:50]}\n2026-04-05T12:43:02.9Z stderr P {OTHER}"
    records = read(lines)
    assert skipped(records) == [(1, BROKEN)]
    assert messages(records) == [BOTH[1]]


ENCODINGS = {
    "UTF-8 with a mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "UTF-16 LE with a mark": lambda text: b"\xff\xfe" + text.encode("utf-16-le"),
    "UTF-16 BE with a mark": lambda text: b"\xfe\xff" + text.encode("utf-16-be"),
    "UTF-16 LE": lambda text: text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: text.encode("utf-16-be"),
    "UTF-16 LE appended to UTF-8": lambda text: b"text\n" + text.encode("utf-16-le"),
    "UTF-8 appended to UTF-16 LE": lambda text: b"\xff\xfet\0e\0x\0t\0\n\0" + text.encode(),
    "two files": lambda text: b"".join(b"\xff\xfe" + line.encode("utf-16-le") for line in text.splitlines(True)),
}


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_encodings(encode: t.Callable[[str], bytes], size: int, end: str) -> None:
    # 上 (4E0A) and ਅ (0A05) hold the byte of a line end.
    alerts = [{**ALERT, "output": "上 ਅ Ċ ਅĀ 😀"}, BOTH[1]]
    text = "".join(json.dumps(alert, ensure_ascii=False) + end for alert in alerts)
    assert messages(read(encode(text), size)) == alerts


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1 << 16])
def test_a_mark_that_no_utf_16_follows_hides_nothing(size: int) -> None:
    # Anybody who may write a line could hide what comes after it. The NUL makes no difference.
    log = ONE.encode() + b"\n\xff\xfe\r\n\xfe\xff\r\n\xff\xfe{\n" + OTHER.encode() + b"\n\0\n"
    assert messages(read(log, size)) == BOTH


@pytest.mark.parametrize(
    ("hole", "size"), [(4, 1), (5, 1), (999, 1), (4, 5), (4096, 5), (4095, 64), (4096, 4096), (300_001, 1 << 16)]
)
def test_holes(hole: int, size: int) -> None:
    zeros = b"\0" * hole
    log = zeros + ONE.encode() + b"\n" + zeros + ONE[:60].encode() + zeros + OTHER.encode() + b"\n" + zeros
    assert messages(read(log, size)) == BOTH
    wide = zeros[: len(zeros) & ~1] + f"{ONE}\n{OTHER}\n".encode("utf-16-be")
    assert messages(read(wide, size)) == BOTH


def test_a_hole_larger_than_a_line_may_be_takes_no_memory() -> None:
    zeros = b"\0" * (1 << 16)
    reader = Reader()
    tracemalloc.start()
    for _chunk in range(2 * MAX_LINE // len(zeros)):
        assert list(reader.feed(zeros)) == []
    records = list(reader.feed(ONE.encode() + b"\n"))
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert messages(records) == [ALERT]
    assert peak < 1024 * 1024


GLUED = {
    "before": f"Sun Apr  5 12:43:02 2026: Falco internal: event drop.{ONE}",
    "before, with braces": f"{{a}} [b] {{'c': 1}} {{ {ONE}",
    "behind": f"{ONE}Sun Apr  5 12:43:02 2026: {{Falco}}",
    "two": ONE + OTHER,
    "two, apart": f"x {ONE}, y {OTHER} z",
    "an array": f"[{ONE}, {OTHER}]",
    "elements of an array": f"[\n{ONE},\n{OTHER}\n]\n",
    "an array that is cut off": f"[{ONE},{OTHER},{ONE[:70]}",
}


@pytest.mark.parametrize("text", GLUED.values(), ids=GLUED)
def test_text_around_alerts(text: str) -> None:
    records = read(text)
    found = messages(records)
    assert found == BOTH[: len(found)]
    assert len(found) == text.count('"rule": "')
    assert skipped(records) == []


@pytest.mark.parametrize("end", range(1, len(OTHER)))
def test_a_cut_off_object_before_a_whole_one(end: int) -> None:
    # Cut off behind a word, or before what was meant to be in it: the whole one is found wherever the cut is.
    assert json.loads(ONE) in messages(read(OTHER[:end] + ONE + "\n"))


@pytest.mark.parametrize("end", range(2, len(OTHER)))
def test_a_cut_off_line_before_a_whole_one(end: int) -> None:
    records = read(f"{OTHER[:end]}\n{ONE}\n{OTHER}\n")
    assert [message for message in messages(records) if message.get("rule")] == BOTH
    assert (1, BROKEN) in skipped(records) or len(messages(records)) == 3


@pytest.mark.parametrize("indent", [0, 2, "\t"])
@pytest.mark.parametrize("prefix", ["", "falco-1  | ", "2026-04-05T12:43:02.9Z ", "Apr  5 12:43:02 web-1 falco[8]: "])
def test_json_over_lines(indent: int | str, prefix: str) -> None:
    text = "\n".join(json.dumps(each, indent=indent, ensure_ascii=False) for each in (*BOTH, ALERT))
    records = read("".join(f"{prefix}{line}\n" for line in text.splitlines()))
    assert messages(records) == [*BOTH, ALERT]
    assert skipped(records) == []
    height = len(json.dumps(ALERT, indent=indent).splitlines())
    assert [record.line for record in records] == [1, 1 + height, 1 + 2 * height]


def test_an_array_over_lines() -> None:
    assert messages(read(json.dumps(BOTH, indent=2))) == BOTH
    assert skipped(read(json.dumps(BOTH, indent=2))) == []


def test_wrappers_over_lines() -> None:
    assert messages(read(json.dumps(journald(ONE), indent=2))) == [ALERT]


def test_json_over_lines_that_breaks_off() -> None:
    lines = json.dumps(ALERT, indent=2).splitlines()
    records = read("\n".join([*lines[:5], "Falco: a message of its own", OTHER, *lines]))
    assert messages(records) == [BOTH[1], ALERT]
    assert skipped(records)[0] == (1, BROKEN)
    assert [line for line, _why in skipped(records)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("begun", ['{"a":', '{"a": [', '{"a": {"b": [1,', '{"a": 1,', "{"])
@pytest.mark.parametrize("alert", [ONE, json.dumps(journald(ONE)), f"falco-1  | {ONE}"])
def test_an_object_that_was_begun_holds_back_no_alert(begun: str, alert: str) -> None:
    records = list(Reader().feed(f"{begun}\n{alert}\n".encode()))
    assert messages(records) == [ALERT]
    assert records[0] == Record(1, None, BROKEN)


def test_blank_lines_are_nothing() -> None:
    assert read("\n \r\n\t\n[\n]\n") == []


FORGED = '{"priority":"Critical","rule":"x","output_fields":{"container.id":"3f2a91c07be4"}}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (f"Apr  5 12:43:02 web-1 sshd[812]: Invalid user {FORGED} from 192.0.2.7", SHARED),
        (json.dumps(journald(f"Invalid user {FORGED}", SYSLOG_IDENTIFIER="sshd")), SHARED),
        (json.dumps({"appname": "sshd", "severity": "info", "message": f"Invalid user {FORGED}"}), SHARED),
        (f"12:43:02.928967123: Notice shell opened (cmdline=sh -c {FORGED})", TEXT_OF_FALCO),
        (f"Apr  5 12:43:02 web-1 falco[812]: 12:43:02.928967123: Notice shell (cmdline={FORGED})", TEXT_OF_FALCO),
        (json.dumps(json_file(f"12:43:02.928967123: Notice shell (cmdline={FORGED})\n")), TEXT_OF_FALCO),
    ],
)
def test_what_attackers_can_make_others_write_is_no_alert(text: str, why: str) -> None:
    assert read(text) == [Record(1, None, why)]


@pytest.mark.parametrize("program", ["falco", "Falco", "suricata"])
def test_a_detector_may_glue_text_to_its_alerts(program: str) -> None:
    assert messages(read(f"Apr  5 12:43:02 web-1 {program}[812]: 2 system calls dropped.{ONE}")) == [ALERT]


def test_a_line_that_is_too_long() -> None:
    line = b"x" * (MAX_LINE + 1)
    longest = b'{"a": "' + b"y" * (MAX_LINE - 9) + b'"}'
    records = read(line + b"\n" + longest + b"\n" + line)
    assert skipped(records) == [(1, TOO_LONG), (3, TOO_LONG)]
    assert [record.body for record in records if record.body] == [longest]


def test_bytes_that_are_no_utf_8_are_for_the_parser_to_tell() -> None:
    (record,) = read(b'{"rule": "\xff", "priority": "Notice"}')
    assert record.body is not None
    with pytest.raises(Exception, match="not UTF-8"):
        alerts_from_bytes(record.body)


HOSTILE = {
    "objects in objects": b'{"a":' * 40_000,
    "objects in arrays": b'{"a":[' * 40_000,
    "arrays": b"[" * 300_000,
    "braces": b"{" * 300_000,
    "keys": b'{"' * 150_000,
    "objects that break": b'{"a" ' * 60_000,
    "objects that break late": (b'{"a":[' + b"0," * 5_000 + b"x") * 30,
    "objects that do not end": (b'{"a":[' + b"0," * 5_000) * 30,
    "quotes": b'"' * 300_000,
    "back slashes": b'{"a":"' + b"\\" * 300_000,
    "white space": b'{"a":' + b" " * 300_000 + b"x",
    "digits": b'{"a":' + b"1" * 300_000 + b"}",
    "a prefix": b"<14>1 - a b c d " + b'[a k="' * 50_000,
    "compose": b"a" * 199 + b" " * 300_000,
    "line feeds in UTF-16": b"\xff\xfe" + b"\n" * 60_000,
    "lines that go on": b'{"a":[\n' * 10_000,
    "lines that go on, and end": (b'{"a":[\n' * 150 + b"x\n") * 60,
    "lines that go on and on": b'{"a":[1\n' + b",1\n" * 15_000,
    "pieces": b"2026-04-05T12:43:02.9Z stdout P {\n" * 10_000,
    "streams": b"".join(
        json.dumps(journald("{", CONTAINER_ID=str(number), CONTAINER_PARTIAL_MESSAGE="true")).encode() + b"\n"
        for number in range(3_000)
    ),
    "pieces of the engine": b"".join(json.dumps(json_file("x" * 16_384)).encode() + b"\n" for _piece in range(20)),
    "texts in texts": json.dumps(json_file(json.dumps(json_file(json.dumps(json_file('{"' * 20_000)))))).encode(),
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_hostile_input_takes_linear_time(line: bytes) -> None:
    def seconds(content: bytes) -> float:
        started = time.process_time()
        read(content)
        return time.process_time() - started

    seconds(line)
    once = min(seconds(line) for _attempt in range(2))
    # Four times as much, as one line where it is one: quadratic would be 16 times.
    assert min(seconds(line * 4) for _attempt in range(2)) < 9 * once + 0.05
    assert once < 1.5, f"{len(line) / once / 1e6:.1f} MB a second"


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_how_it_is_cut_into_chunks_does_not_matter_and_any_mark_is_a_place_to_go_on(data: st.DataObject) -> None:
    cri = "2026-04-05T12:43:02.9Z {} {} {}"
    lines = data.draw(
        st.lists(
            st.sampled_from(
                [
                    ONE, "", "text", OTHER[:90], '{"cut":', '{"a": [1,', "1", "]}", "{}", "\0\0\0\0\0" + OTHER,
                    *json.dumps(ALERT, indent=2).splitlines()[:8],
                    cri.format("stdout", "P", ONE[:40]), cri.format("stdout", "F", ONE[40:]),
                    cri.format("stderr", "P", "{"), cri.format("stderr", "F", "}"), cri.format("stderr", "F", OTHER),
                ]
            ),
            max_size=14,
        )
    )  # fmt: skip
    log = "".join(f"{line}\n" for line in lines).encode()
    whole = read(log)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=6)))
    reader, records = Reader(), []
    for begin, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        records += reader.feed(log[begin:end])
        mark = reader.mark
        assert records + read(log[mark.position :], mark=mark) == whole
    assert records + list(reader.close()) == whole


@given(st.binary(max_size=300) | st.text(alphabet='{}[]",:\\a1 \n\0\x1e<>|', max_size=200).map(str.encode))
@settings(max_examples=500, deadline=None)
def test_anything_is_read_without_an_error(content: bytes) -> None:
    assert read(content, 7) == read(content)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_a_byte_order_mark_is_one_wherever_chunks_begin(size: int) -> None:
    content = b'text\n\xff\xfe{"a": 1}\n{"b": 2}\n\0\n'
    assert read(content, size) == read(content)


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
@pytest.mark.parametrize("poison", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfex\0y\0", b"x\0y\0", b"\0x\0y", b"\0" * 9])
def test_a_line_that_looks_like_another_encoding_hides_no_others(poison: bytes, size: int) -> None:
    records = read(b"text\n" + poison + b"\n" + ONE.encode() + b"\n" + OTHER.encode() + b"\n", size)
    assert messages(records) == BOTH
    assert [record.line for record in records if record.body] == [3, 4]


def test_memory_does_not_grow_with_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_OPEN", 1 << 20)
    chance = random.Random(1)  # noqa: S311 - the same log each time
    choices = [
        ONE, OTHER[:100], '{"a": [', "text", json.dumps(json_file("x" * 16_384)), '{"a": [1,' * 100,
        "2026-04-05T12:43:02.9Z stdout P {",
    ]  # fmt: skip

    def peak(lines: int) -> int:
        reader = Reader()
        tracemalloc.start()
        for _line in range(lines):
            for _record in reader.feed(chance.choice(choices).encode() + b"\n"):
                pass
        _now, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few = peak(700)
    assert peak(3_000) < few + 1_000_000


def test_deep_json() -> None:
    assert skipped(read(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)) == [(1, TOO_DEEP)]
