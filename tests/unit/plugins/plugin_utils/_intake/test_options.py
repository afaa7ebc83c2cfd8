# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re
import typing as t

import pytest

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_options import KafkaOptions
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import (
    FileOptions,
    FleetWindow,
    Options,
    SenderOptions,
    parse_options,
)

TOKEN = "correct-horse-battery"


def parse(**args: object) -> Options:
    return parse_options({"token": TOKEN, **args})


def test_defaults() -> None:
    assert parse() == Options(token=TOKEN)


def test_none_is_not_given() -> None:
    assert parse(port=None, lookup_hosts=None, path_token=None) == Options(token=TOKEN)


def test_everything_as_text() -> None:
    options = parse(
        port="5001",
        body_limit="2048",
        read_timeout="2.5",
        batch_window="0",
        batch_interval="1e3",
        batch_max=" 7 ",
        queue_max="8",
    )
    assert options == Options(
        token=TOKEN,
        port=5001,
        body_limit=2048,
        read_timeout=2.5,
        batch_window=0,
        batch_interval=1000,
        batch_max=7,
        queue_max=8,
    )


def test_secrets_are_not_shown() -> None:
    assert TOKEN not in repr(parse(path_token=TOKEN))


def test_inventory_host() -> None:
    options = parse(hosts=["web-1", "web-2"], host_map={"054aab939018": "web-3", "web-2": "web2.example.com"})
    names = ["web-1", "web-2", "054aab939018", "web-3", ""]
    assert [options.inventory_host(name) for name in names] == ["web-1", "web2.example.com", "web-3", "", ""]


@pytest.mark.parametrize(
    "given",
    [
        {"token": TOKEN},
        {"tokens": [TOKEN]},
        {"path_token": TOKEN},
        {"hmac_secret": TOKEN},
        {"cafile": "ca", "certfile": "crt"},
        {"senders": [{"name": "s", "tokens": [TOKEN], "hosts": ["web-1"]}]},
        {"files": ["/var/log/falco.json"]},
    ],
)
def test_one_way_to_check_senders_is_enough(given: dict[str, t.Any]) -> None:
    parse_options(given)


def test_no_way_to_check_senders() -> None:
    with pytest.raises(ValueError, match=r"Set token .* path_token .* cafile .* or senders"):
        parse_options({"token": None, "port": 5000})


@pytest.mark.parametrize("more", [{}, {"files": ["/var/log/falco.json"]}])
def test_a_certificate_that_nobody_needs_tells_nobody_apart(more: dict[str, t.Any]) -> None:
    tls = {"certfile": "crt", "cafile": "ca", "certificate_required": False}
    with pytest.raises(ValueError, match="certificate_required is false, and nothing else tells senders apart"):
        parse_options({**tls, **more})
    for other in (
        {"token": TOKEN},
        {"hmac_secret": TOKEN},
        {"senders": [{"name": "s", "tokens": [TOKEN], "hosts": ["a"]}]},
    ):
        parse_options({**tls, **more, **other})


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("port", -1, "port is -1. Set it to a whole number from 0 to 65535"),
        ("port", "65536", "port is '65536'. Set"),
        ("port", "http", "port is 'http'. Set"),
        ("port", 5000.0, "port is 5000.0. Set"),
        ("port", True, "port is True. Set"),
        ("port", "9" * 5000, "9999.... Set"),
        ("body_limit", 1023, "from 1024 to 10485760"),
        ("body_limit", 10485761, "from 1024 to 10485760"),
        ("read_timeout", 0.9, "read_timeout is 0.9. Set it to a number of seconds from 1 to 60"),
        ("read_timeout", 61, "from 1 to 60"),
        ("batch_window", -0.1, "from 0 to 10"),
        ("batch_window", 10.1, "from 0 to 10"),
        ("batch_window", "nan", "from 0 to 10"),
        ("batch_window", [], "from 0 to 10"),
        ("batch_interval", "soon", "from 0 to 3600"),
        ("batch_interval", "inf", "from 0 to 3600"),
        ("batch_interval", 10**400, "from 0 to 3600"),
        ("batch_max", 0, "from 1 to 500"),
        ("batch_max", 501, "from 1 to 500"),
        ("queue_max", 0, "from 1 to 1000000"),
        ("queue_max", 1000001, "from 1 to 1000000"),
        ("host", "", "host is ''. Set it to a text"),
        ("host", 1, "host is 1. Set it to a text"),
        ("hosts", "web-1", "hosts is no list. Set it to a list of host names"),
        ("hosts", ["web-1", "web:2"], "hosts holds 'web:2'. Host names start with"),
        ("lookup_hosts", ["all", None], "lookup_hosts holds None"),
        ("host_map", ["web-1"], "Set it to a dictionary"),
        ("host_map", {"web-1": "a,b"}, "host_map holds 'a,b'"),
        ("host_map", {5: "web-1"}, "host_map holds 5"),
        ("keyfile", "key.pem", "keyfile is set without certfile"),
        ("cafile", "ca.pem", "cafile is set without certfile"),
        ("tokn", TOKEN, "unknown option 'tokn'. Did you mean token?"),
        ("{{ x }}", 1, "unknown option '{ { x }}'. Known are: answer_deadline, "),
    ],
)
def test_bad_option(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        parse(**{option: value})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("token", "x" * 15, "token is not usable. Set it to at least 16 characters"),
        ("token", "with a space in it", "all of visible ASCII"),
        ("token", "mit-ümlauten-drin", "all of visible ASCII"),
        ("token", 1234567890123456, "token was read as int, not as text"),
        ("path_token", "with/slash/in/it/", "all of letters, digits"),
        ("path_token", "with%2Fescape-in-it", "all of letters, digits"),
    ],
)
def test_bad_secret_is_not_shown(option: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse(**{option: value})
    assert str(value) not in str(caught.value)


def sender(**given: object) -> dict[str, object]:
    return {"name": "falco", "tokens": ["another-good-token"], "hosts": ["web-1"], **given}


def test_whole_in_one_option() -> None:
    whole = parse_options({"guard": {"token": TOKEN, "port": "5001", "hosts": None}, "batch_max": 7, "port": None})
    assert whole == Options(token=TOKEN, port=5001, batch_max=7)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"guard": {"tokn": TOKEN}}, "unknown option of guard 'tokn'. Did you mean token?"),
        ({"guard": {"port": -1}}, "guard.port is -1. Set it to"),
        ({"guard": [TOKEN]}, "guard is no dictionary. Set it to a dictionary of "),
        ({"guard": f'{{"token": "{TOKEN}"}}'}, "guard is no dictionary"),
        ({"guard": {"token": TOKEN, "senders": [TOKEN]}}, "guard.senders is no dictionary"),
        ({"guard": {"token": TOKEN}, "token": TOKEN}, "token is given twice, as guard.token and on its own"),
        (
            {"guard": {"token": TOKEN, "senders": [{"nme": "x"}]}},
            "unknown key of guard.senders 'nme'. Did you mean name?",
        ),
    ],
)
def test_bad_ones_in_one_option(args: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        parse_options(args)
    assert message in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_what_the_engine_adds_is_no_option() -> None:
    assert parse_options({"token": TOKEN, "eda_feedback_queue": object()}) == Options(token=TOKEN)


def test_senders() -> None:
    options = parse(
        senders=[sender(hmac_secrets=["a-key-of-the-sender"], certificate="Web-1")], certfile="c", cafile="ca"
    )
    assert options.senders == (
        SenderOptions(
            name="falco",
            hosts=("web-1",),
            tokens=("another-good-token",),
            certificate="Web-1",
            hmac_secrets=("a-key-of-the-sender",),
        ),
    )


@pytest.mark.parametrize(
    ("senders", "message"),
    [
        ([{"name": "x"}], "a sender in senders has no hosts"),
        ([sender(name=None)], "a sender in senders has no name"),
        ([sender(hosts=[])], "senders.hosts is empty"),
        ([sender(hosts="web-1")], "senders.hosts is no list"),
        ([sender(tokens=None)], "sender falco has no tokens, path_tokens or certificate"),
        ([sender(certificate="web-1")], "sender falco has a certificate, and cafile is not set"),
        ([sender(), sender(name="Falco", tokens=["a-third-good-token"])], "the name falco is given twice"),
        ([sender(), sender(name="other")], "the token is given twice"),
        ([sender(tokens=[TOKEN])], "the token is given twice"),
        ([sender(name="any")], "no sender can have the name any"),
        ([sender(name="File")], "no sender can have the name File"),
        ([sender(name="{{ x }}")], "senders.name is '{ { x }}'"),
    ],
)
def test_bad_senders(senders: list[object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the message is checked below
        parse(senders=senders)
    assert message in str(caught.value)
    assert "good-token" not in str(caught.value)


def test_a_signature_that_nobody_would_be_asked_for() -> None:
    with pytest.raises(ValueError, match="Set it in each of the senders"):
        parse_options({"senders": [sender()], "hmac_secret": "a-key-of-somebody"})


def test_files() -> None:
    options = parse(files=["/a", {"path": "/b", "detector": "falco", "host": "web-1"}])
    assert options.files == (FileOptions(path="/a"), FileOptions(path="/b", detector="falco", host="web-1"))
    with pytest.raises(ValueError, match=r"unknown detector in files.detector 'flaco'. Did you mean falco\?"):
        parse(files=[{"path": "/b", "detector": "flaco"}])
    with pytest.raises(ValueError, match="a file in files has no path"):
        parse(files=[{"detector": "falco"}])


def test_severities() -> None:
    assert parse(severities={"Wazuh": {87908: "High"}}).severities == {"wazuh": {"87908": "high"}}
    with pytest.raises(ValueError, match="severities: severities holds something else than info, low"):
        parse(severities={"wazuh": {"x": "urgent"}})


@pytest.mark.parametrize(("value", "expected"), [(True, True), ("no", False), ("On", True), ("false", False)])
def test_yes_and_no(value: object, expected: bool) -> None:
    assert parse(receipts=value).receipts is expected


@pytest.mark.parametrize("value", [1, "maybe", []])
def test_neither_yes_nor_no(value: object) -> None:
    with pytest.raises(ValueError, match=r"certificate_required is .*\. Set it to true or false"):
        parse(certificate_required=value)
    with pytest.raises(ValueError, match=r"receipts is .*\. Set it to true, false or artifacts"):
        parse(receipts=value)


def test_receipts_of_jobs() -> None:
    assert parse(receipts="artifacts").receipts == "artifacts"
    given = {"controller_url": "https://awx.example.com", "controller_token": TOKEN}
    options = parse(receipts="artifacts", **given)
    assert (options.controller_url, options.controller_token) == (given["controller_url"], TOKEN)
    assert TOKEN not in repr(options)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"controller_url": "https://awx", "controller_token": TOKEN}, "are for receipts: artifacts"),
        ({"controller_token": TOKEN, "receipts": False}, "are for receipts: artifacts"),
        ({"receipts": "artifacts", "controller_url": "https://awx"}, "without controller_token"),
        ({"receipts": "artifacts", "controller_url": "ftp://awx", "controller_token": TOKEN}, "begins with http"),
        ({"receipts": "artifacts", "controller_token": "short"}, "controller_token is not usable"),
        ({"receipts": "artifacts", "receipt_port": 5001}, "Leave receipt_url and receipt_port out"),
        ({"receipts": "artifacts", "receipt_url": "http://a/receipts"}, "Leave receipt_url and receipt_port out"),
    ],
)
def test_receipts_of_jobs_that_do_not_fit(args: dict[str, t.Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(**args)


def test_there_is_time_for_a_second_try() -> None:
    with pytest.raises(ValueError, match="answer_timeout is larger than answer_deadline"):
        parse(answer_timeout=601)


def test_the_directory_of_the_spool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/x")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert str(parse().spool_directory) == "/home/x/.local/state/container-guard/spool"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert str(parse().spool_directory) == "/home/x/.local/state/container-guard/spool"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert str(parse().spool_directory) == "/state/container-guard/spool"
    assert str(parse(spool="~/spool").spool_directory) == "/home/x/spool"


def test_the_limit_over_all_hosts() -> None:
    assert parse().max_isolations_per_fleet_window is None
    window = {"count": "20", "seconds": 600}
    assert parse(max_isolations_per_fleet_window=window).max_isolations_per_fleet_window == FleetWindow(
        count=20, seconds=600
    )
    with pytest.raises(ValueError, match="counts what receipts tell"):
        parse(max_isolations_per_fleet_window=window, receipts=False)


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"count": 20}, "max_isolations_per_fleet_window has no seconds"),
        ({}, "max_isolations_per_fleet_window has no count"),
        ({"count": 0, "seconds": 1}, "count"),
        ({"count": 1, "seconds": 86_401}, "seconds"),
        ({"count": 1, "secs": 1}, "secs"),
        (20, "max_isolations_per_fleet_window"),
    ],
)
def test_a_limit_over_all_hosts_that_is_none(window: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(max_isolations_per_fleet_window=window)


KAFKA = {"bootstrap_servers": ["kafka-1:9092", "[::1]:9093"], "topics": ["alerts"]}


def test_topics_alone_are_enough() -> None:
    options = parse_options({"kafka": {**KAFKA, "detector": "falco", "hosts": ["web-1"]}})
    assert options.kafka == KafkaOptions(
        bootstrap_servers=("kafka-1:9092", "[::1]:9093"), topics=("alerts",), detector="falco", hosts=("web-1",)
    )
    assert not options.takes_posts


def test_the_password_of_kafka_is_not_shown() -> None:
    sasl = {"security_protocol": "SASL_SSL", "sasl_username": "guard", "sasl_password": "a secret"}
    options = parse(kafka={**KAFKA, **sasl})
    assert options.kafka
    assert options.kafka.sasl
    assert options.kafka.tls
    assert "a secret" not in repr(options)
    with pytest.raises(ValueError, match="sasl_password is no text") as error:
        parse(kafka={**KAFKA, **sasl, "sasl_password": ["a secret"]})
    assert "a secret" not in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("kafka-1:9092", "kafka is no dictionary"),
        ({}, "kafka has no bootstrap_servers"),
        ({"bootstrap_servers": ["kafka-1:9092"]}, "kafka has no topics"),
        ({**KAFKA, "topics": []}, "kafka.topics is empty"),
        ({**KAFKA, "topics": ["a/b"]}, "kafka.topics is 'a/b'"),
        ({**KAFKA, "topic": ["a"]}, "unknown key of kafka 'topic'. Did you mean topics"),
        ({**KAFKA, "bootstrap_servers": "kafka-1:9092"}, "kafka.bootstrap_servers is no list"),
        ({**KAFKA, "bootstrap_servers": ["kafka-1"]}, "kafka.bootstrap_servers is 'kafka-1'. Set it to host:port"),
        ({**KAFKA, "bootstrap_servers": ["kafka-1:70000"]}, "kafka.bootstrap_servers is 'kafka-1:70000'"),
        ({**KAFKA, "group_id": ""}, "kafka.group_id is ''"),
        ({**KAFKA, "detector": "flaco"}, "unknown detector in kafka.detector 'flaco'. Did you mean falco"),
        (
            {**KAFKA, "auto_offset_reset": "none"},
            "kafka.auto_offset_reset is 'none'. Set it to one of earliest, latest",
        ),
        ({**KAFKA, "security_protocol": "ssl"}, "kafka.security_protocol is 'ssl'. Set it to one of PLAINTEXT, SSL"),
        ({**KAFKA, "cafile": "/ca.pem"}, "kafka.cafile is set, and kafka.security_protocol is PLAINTEXT"),
        ({**KAFKA, "security_protocol": "SSL", "keyfile": "/k"}, "kafka.keyfile is set without kafka.certfile"),
        ({**KAFKA, "sasl_username": "guard"}, "kafka.sasl_username is set, and kafka.security_protocol is PLAINTEXT"),
        ({**KAFKA, "security_protocol": "SASL_SSL", "sasl_username": "guard"}, "kafka.sasl_password is not set"),
        ({**KAFKA, "hosts": []}, "kafka.hosts is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_topics_that_cannot_be_read(given: object, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(kafka=given)


def test_a_sender_cannot_be_called_as_the_topics_are() -> None:
    sender = {"name": "kafka", "hosts": ["web-1"], "tokens": [TOKEN]}
    with pytest.raises(ValueError, match="no sender can have the name kafka"):
        parse_options({"senders": [sender]})
