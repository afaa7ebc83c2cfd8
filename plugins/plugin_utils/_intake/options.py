# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the alert intake: checked once, immutable after."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
from collections.abc import Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides, read_overrides
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import option_values as values
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import HostNames
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka_options import (
    KafkaOptions,
    detector,
    kafka,
)

WHOLE = "guard"
"""The argument that holds all options, and the prefix of the rulebook variables that hold one each."""
VARIABLES = "variables"
"""The argument that holds the names of all rulebook variables, so that misspelt ones are told."""
FLAT = (
    *("host", "port", "token", "path_token", "certfile", "keyfile", "cafile", "body_limit", "read_timeout"),
    *("batch_window", "batch_interval", "batch_max", "queue_max", "hosts", "host_map", "lookup_hosts"),
)
"""Options that have a rulebook variable of their own, for one release more."""
_OF_THE_ENGINE = "eda_feedback_queue"
ARTIFACTS = "artifacts"
"""Receipts that are read from the jobs of a controller."""
ANYBODY, FROM_FILE, FROM_KAFKA = "any", "file", "kafka"
"""Names of the senders that the source makes itself: who may speak for every host, files that are followed, topics."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class SenderOptions:
    """One sender, and the hosts that it may speak for.

    Attributes:
        name: for the log and the metrics.
        hosts: inventory hosts; alerts about others are rejected.
        tokens: Bearer tokens, one of which it must show.
        path_tokens: secret last parts of the path, one of which it must use where it shows no token.
        certificate: name in its certificate, required in addition to a token where there are any.
        hmac_secrets: keys, with one of which it must sign the body.
    """

    name: str
    hosts: tuple[str, ...]
    tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    path_tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    certificate: str = ""
    hmac_secrets: tuple[str, ...] = dataclasses.field(default=(), repr=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileOptions:
    """One file of JSON lines that is followed.

    Attributes:
        path: of the file.
        detector: which writes it; empty where the shape of a line tells.
        host: inventory host that its alerts are about where they name none that is known; may be empty.
    """

    path: str
    detector: str = ""
    host: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FleetWindow:
    """How much the guard may do by itself on all hosts.

    Attributes:
        count: most containers that are isolated within the window.
        seconds: length of the window.
    """

    count: int
    seconds: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options(HostNames):
    """What the intake is told. Made by L(parse_options), which documents ranges by enforcing them.

    Attributes:
        host: address to listen on.
        port: TCP port to listen on; 0 lets the system choose.
        token: Bearer token that senders must show, if any.
        tokens: further Bearer tokens, each as good as the first.
        path_token: secret last part of the path that senders must use, if any.
        path_tokens: further ones, each as good as the first.
        hmac_secret: key with which senders must sign the body, if any.
        hmac_secrets: further ones, each as good as the first.
        hmac_header: header that holds the signature.
        certfile: PEM file with the certificate chain; TLS when set.
        keyfile: PEM file with the private key, if C(certfile) does not hold it.
        cafile: PEM file with the authorities of client certificates.
        certificate_required: whether each sender needs a client certificate where C(cafile) is set.
        senders: senders that may speak for certain hosts only.
        body_limit: largest body of a request, in bytes, after decompression.
        read_timeout: longest time for a request to arrive, in seconds.
        max_connections: most open connections in all.
        max_connections_per_address: most open connections of one address.
        max_requests: most requests that are read and stored at the same time.
        max_requests_per_address: most of them of one address.
        files: files that are followed.
        kafka: topics that are read; None for none.
        severities: detector -> what it says -> severity, before its own map.
        inventory: inventory of the playbook runs, by which names of hosts are checked; empty for none.
        policy_set: file of the policy set by which alerts that no policy wants are dropped; empty for none.
        policy_set_confirmed_for: how long a host's word that it has that set holds, in seconds.
        spool: directory of the spool.
        spool_max_bytes: largest size of the spool, in bytes.
        spool_max_alerts: most alerts that wait in the spool.
        history_days: how long answered alerts are remembered, in days.
        history_max_bytes: largest size of that history, in bytes.
        raw_hours: how long their messages as received are kept, in hours.
        batch_window: longest time that an alert waits for company, in seconds.
        batch_interval: least time between two events, in seconds.
        batch_max: most alerts in an event.
        queue_max: most alerts of one request.
        max_deliveries: most deliveries under way.
        answer_timeout: how long hosts may take to answer before the alert is emitted again, in seconds.
        run_timeout: how long a playbook run may live, in seconds.
        answer_deadline: how long it is tried before the alert is unanswered, in seconds.
        forks: how many hosts of a playbook run are worked on at the same time.
        fold_isolated: how long repeats are folded into an alert that isolated, in seconds.
        max_isolations_per_fleet_window: most containers that all hosts isolate within a time; None for any number.
        receipts: whether hosts send receipts, or L(ARTIFACTS).
        receipt_url: where they send them; empty for the loopback listener.
        receipt_port: TCP port of the loopback listener; 0 for the one of last time.
        controller_url: of the controller whose jobs have receipts as artifacts; empty for that of the rule engine.
        controller_token: for it, if it is not that of the rule engine.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    token: str | None = dataclasses.field(default=None, repr=False)
    tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    path_token: str | None = dataclasses.field(default=None, repr=False)
    path_tokens: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    hmac_secret: str | None = dataclasses.field(default=None, repr=False)
    hmac_secrets: tuple[str, ...] = dataclasses.field(default=(), repr=False)
    hmac_header: str = "X-Hub-Signature-256"
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    certificate_required: bool = True
    senders: tuple[SenderOptions, ...] = ()
    body_limit: int = 1_048_576
    read_timeout: float = 10.0
    max_connections: int = 1024
    max_connections_per_address: int = 256
    max_requests: int = 128
    max_requests_per_address: int = 32
    files: tuple[FileOptions, ...] = ()
    kafka: KafkaOptions | None = None
    severities: Overrides = dataclasses.field(default_factory=dict)
    inventory: str = ""
    policy_set: str = ""
    policy_set_confirmed_for: float = 3600.0
    spool: str = ""
    spool_max_bytes: int = 268_435_456
    spool_max_alerts: int = 100_000
    history_days: float = 7.0
    history_max_bytes: int = 209_715_200
    raw_hours: float = 24.0
    batch_window: float = 0.2
    batch_interval: float = 1.0
    batch_max: int = 500
    queue_max: int = 10_000
    max_deliveries: int = 21
    answer_timeout: float = 120.0
    run_timeout: float = 900.0
    answer_deadline: float = 600.0
    forks: int = 50
    fold_isolated: float = 10.0
    max_isolations_per_fleet_window: FleetWindow | None = None
    receipts: bool | str = True
    receipt_url: str = ""
    receipt_port: int = 0
    controller_url: str = ""
    controller_token: str | None = dataclasses.field(default=None, repr=False)

    @property
    def spool_directory(self) -> pathlib.Path:
        """The directory of the spool, that of the user where none is given."""
        if self.spool:
            return pathlib.Path(self.spool).expanduser()
        state = os.environ.get("XDG_STATE_HOME", "")
        # What is not absolute is to be ignored, as the specification of that variable says.
        base = pathlib.Path(state) if state.startswith("/") else pathlib.Path.home() / ".local/state"
        return base / "container-guard/spool"

    @property
    def all_tokens(self) -> tuple[str, ...]:
        """Bearer tokens of senders that may speak for every host."""
        return (*([self.token] if self.token else []), *self.tokens)

    @property
    def all_path_tokens(self) -> tuple[str, ...]:
        """Secret parts of the path of senders that may speak for every host."""
        return (*([self.path_token] if self.path_token else []), *self.path_tokens)

    @property
    def all_hmac_secrets(self) -> tuple[str, ...]:
        """Keys of signatures of senders that may speak for every host."""
        return (*([self.hmac_secret] if self.hmac_secret else []), *self.hmac_secrets)

    @property
    def takes_posts(self) -> bool:
        """Whether anything tells senders apart from strangers. Where nothing does, nobody can post."""
        shown = (self.all_tokens, self.all_path_tokens, self.all_hmac_secrets, self.senders)
        return any(shown) or bool(self.cafile and self.certificate_required)


def parse_options(args: Mapping[str, object]) -> Options:
    """The options in the arguments of the event source: whole in C(guard), or one by one. None counts as not given.

    Raises ValueError for an unknown option, a value out of range, or options that do not go together.
    """
    flat = {name: value for name, value in args.items() if name not in (WHOLE, VARIABLES, _OF_THE_ENGINE)}
    given = values.fields("", flat, _READERS, "option")
    whole = args.get(WHOLE)
    if whole is not None:
        in_whole = values.fields(WHOLE, whole, _READERS, "option")
        twice = sorted(given.keys() & in_whole.keys())
        if twice:
            raise ValueError(f"{twice[0]} is given twice, as {WHOLE}.{twice[0]} and on its own. Remove one of them")
        given.update(in_whole)
    options = Options(**given)
    _check_senders(options)
    for name in ("keyfile", "cafile"):
        if getattr(options, name) and not options.certfile:
            raise ValueError(f"{name} is set without certfile. Set certfile to the certificate of this listener")
    if options.answer_timeout > options.answer_deadline:
        raise ValueError("answer_timeout is larger than answer_deadline. Set it to less, so that there is a second try")
    if options.max_isolations_per_fleet_window and not options.receipts:
        raise ValueError(
            "max_isolations_per_fleet_window counts what receipts tell. Leave receipts on, or leave it out"
        )
    _check_controller(options)
    return options


def unread_variables(args: Mapping[str, object]) -> list[str]:
    """What to say of rulebook variables that look like options and are none. For people, a sentence each."""
    names = args.get(VARIABLES)
    read = [WHOLE, *(f"{WHOLE}_{name}" for name in FLAT)]
    found = []
    for name in names if isinstance(names, (list, tuple)) else ():
        if not isinstance(name, str) or name in read:
            continue
        like = values.near(name, read, 0.8)  # playbooks have variables that begin alike
        if name.removeprefix(f"{WHOLE}_") in _READERS and name.startswith(WHOLE):
            found.append(f"The variable {name} is not read. Set {name.removeprefix(f'{WHOLE}_')} in {WHOLE}")
        elif like and (like == WHOLE or name.startswith(WHOLE)):
            # It is no error, as a playbook may have a variable of that name.
            found.append(f"The variable {text.display(name, 64)} is not read by the source. Did you mean {like}?")
    return found


def _check_senders(options: Options) -> None:
    if options.cafile and not options.takes_posts:
        raise ValueError(
            "certificate_required is false, and nothing else tells senders apart from attackers. Set token, "
            "path_token, hmac_secret or senders, or leave certificate_required out"
        )
    # With files and topics alone there is nobody to tell apart, as nobody can post.
    if not (options.takes_posts or options.files or options.kafka):
        raise ValueError(
            "no way to tell senders apart from attackers is set. Set token for senders that can send an Authorization "
            "header, path_token for those that cannot (Falco), cafile to require client certificates, or senders"
        )
    if options.senders and options.all_hmac_secrets and not (options.all_tokens or options.all_path_tokens):
        raise ValueError(
            "hmac_secret is for those that may speak for every host, and none are set. Set it in each of the senders"
        )
    for what in ("name", "certificate"):
        _check_apart(what, (getattr(sender, what).lower() for sender in options.senders))
    secrets = [options.all_tokens, *(sender.tokens for sender in options.senders)]
    paths = [options.all_path_tokens, *(sender.path_tokens for sender in options.senders)]
    _check_apart("token", (token for tokens in secrets for token in tokens))
    _check_apart("path token", (token for tokens in paths for token in tokens))
    for sender in options.senders:
        if sender.name.lower() in (ANYBODY, FROM_FILE, FROM_KAFKA):
            raise ValueError(f"no sender can have the name {sender.name}, which the source uses itself. Choose another")
        if not (sender.tokens or sender.path_tokens or sender.certificate):
            raise ValueError(f"sender {sender.name} has no tokens, path_tokens or certificate, so nobody could be it")
        if sender.certificate and not options.cafile:
            raise ValueError(f"sender {sender.name} has a certificate, and cafile is not set")


def _check_controller(options: Options) -> None:
    if options.receipts == ARTIFACTS and (options.receipt_url or options.receipt_port):
        raise ValueError("with receipts: artifacts hosts send none. Leave receipt_url and receipt_port out")
    if options.receipts != ARTIFACTS and (options.controller_url or options.controller_token):
        raise ValueError("controller_url and controller_token are for receipts: artifacts. Set it, or leave them out")
    if options.controller_url and not options.controller_token:
        raise ValueError(
            "controller_url is set without controller_token: the token of the rule engine is for its own controller"
        )


def _check_apart(what: str, given: Iterable[str]) -> None:
    twice = [value for value, count in collections.Counter(filter(None, given)).items() if count > 1]
    if twice:
        shown = f" {twice[0]}" if "token" not in what else ""
        raise ValueError(f"the {what}{shown} is given twice, so that senders could not be told apart")


_bearer = values.secret("!-~", "visible ASCII")
_path = values.secret("A-Za-z0-9._~-", "letters, digits, '-', '.', '_' and '~'")
_hosts = values.list_of(values.host, "host names")
_address = values.matching(r"https?://[!-~]+", "an address that begins with http:// or https://")
_word = values.matching(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}", "at most 64 letters, digits, '_', '.' and '-'")

_SENDER = {
    "name": _word,
    "hosts": values.list_of(values.host, "host names", some=True),
    "tokens": values.list_of(_bearer, "tokens"),
    "path_tokens": values.list_of(_path, "tokens"),
    "certificate": values.string,
    "hmac_secrets": values.list_of(_bearer, "secrets"),
}


def _sender(name: str, value: object) -> SenderOptions:
    given = values.fields(name, value, _SENDER, "key")
    for required in ("name", "hosts"):
        if required not in given:
            raise ValueError(f"a sender in {name} has no {required}. Each needs a name, and hosts that it speaks for")
    return SenderOptions(name=given.pop("name"), hosts=given.pop("hosts"), **given)


def _file(name: str, value: object) -> FileOptions:
    readers = {"path": values.string, "detector": detector, "host": values.host}
    given = values.fields(name, {"path": value} if isinstance(value, str) else value, readers, "key")
    if "path" not in given:
        raise ValueError(f"a file in {name} has no path")
    return FileOptions(path=given.pop("path"), **given)


def _fleet_window(name: str, value: object) -> FleetWindow:
    given = values.fields(
        name, value, {"count": values.integer(1, 10_000), "seconds": values.integer(1, 86_400)}, "key"
    )
    for required in ("count", "seconds"):
        if required not in given:
            raise ValueError(f"{name} has no {required}. It needs both, as {{count: 20, seconds: 600}}")
    return FleetWindow(count=given["count"], seconds=given["seconds"])


def _receipts(name: str, value: object) -> bool | str:
    if value == ARTIFACTS:
        return ARTIFACTS
    try:
        return values.boolean(name, value)
    except ValueError:
        raise ValueError(f"{name} is {values.shown(value)}. Set it to true, false or {ARTIFACTS}") from None


def _severities(name: str, value: object) -> Overrides:
    try:
        return read_overrides(value)
    except AlertError as error:
        raise ValueError(f"{name}: {error}") from None


_READERS: dict[str, values.Reader] = {
    "host": values.string,
    "port": values.integer(0, 65_535),
    "token": _bearer,
    "tokens": values.list_of(_bearer, "tokens"),
    "path_token": _path,
    "path_tokens": values.list_of(_path, "tokens"),
    "hmac_secret": _bearer,
    "hmac_secrets": values.list_of(_bearer, "secrets"),
    "hmac_header": values.matching(r"[A-Za-z][A-Za-z0-9-]{0,63}", "the name of a header"),
    "certfile": values.string,
    "keyfile": values.string,
    "cafile": values.string,
    "certificate_required": values.boolean,
    "senders": values.list_of(_sender, "senders"),
    "body_limit": values.integer(1024, 10_485_760),
    "read_timeout": values.seconds(1, 60),
    "max_connections": values.integer(1, 100_000),
    "max_connections_per_address": values.integer(1, 100_000),
    "max_requests": values.integer(1, 10_000),
    "max_requests_per_address": values.integer(1, 10_000),
    "files": values.list_of(_file, "paths, or of dictionaries of path, detector and host"),
    "kafka": kafka,
    "severities": _severities,
    "hosts": _hosts,
    "host_map": values.mapping_of(values.host, values.host, "detector host name: inventory host name"),
    "lookup_hosts": _hosts,
    "inventory": values.string,
    "policy_set": values.string,
    "policy_set_confirmed_for": values.seconds(0, 31_536_000),
    "spool": values.string,
    "spool_max_bytes": values.integer(1_048_576, 1_099_511_627_776),
    "spool_max_alerts": values.integer(1, 10_000_000),
    "history_days": values.seconds(0, 3650, "days"),
    "history_max_bytes": values.integer(0, 1_099_511_627_776),
    "raw_hours": values.seconds(0, 87_600, "hours"),
    "batch_window": values.seconds(0, 10),
    "batch_interval": values.seconds(0, 3600),
    "batch_max": values.integer(1, 500),
    "queue_max": values.integer(1, 1_000_000),
    "max_deliveries": values.integer(2, 21),
    "answer_timeout": values.seconds(1, 86_400),
    "run_timeout": values.seconds(1, 86_400),
    "answer_deadline": values.seconds(1, 86_400),
    "forks": values.integer(1, 1000),
    "fold_isolated": values.seconds(0, 3600),
    "max_isolations_per_fleet_window": _fleet_window,
    "receipts": _receipts,
    "receipt_url": _address,
    "receipt_port": values.integer(0, 65_535),
    "controller_url": _address,
    "controller_token": _bearer,
}
