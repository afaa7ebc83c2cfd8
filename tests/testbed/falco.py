#!/usr/bin/env python3
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in for Falco on a test host: all of it but the kernel, as neither its package nor its driver can be had.

It reads falco.yaml and further files, and takes the same options, as userspace/falco of Falco 0.44 does. What happens
in the kernel is told to it on standard input, an object of JSON a line: C(rule), C(priority), C(tags), C(output), all
C(fields) that Falco would know, and the names of those that the rule C(prints). What becomes an alert is written to
files and posted as Falco does it: over a connection of its own, C(Expect: 100-continue) where libcurl asks for that, no
look at the status, and nothing sent again.

It runs on a host by itself: standard library and PyYAML.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import pathlib
import re
import socket
import ssl
import sys
import time
import typing as t
import urllib.parse

import yaml

VERSION = os.environ.get("FALCO_STAND_IN_VERSION", "0.44.0")
FIELDS = {
    *("container.id", "container.full_id", "container.name", "container.image.repository", "container.image.tag"),
    *("proc.pid", "proc.cmdline", "proc.name", "evt.time", "evt.hostname", "user.name"),
}
_EXPECTING = 1024
"""Size of a body, in bytes, from which on libcurl asks first."""
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_TLS_DIRECTORY = "/etc/ssl/certs"

Json = dict[str, t.Any]


class ConfigError(Exception):
    """What Falco says of a configuration before it ends."""


def read(path: str, assignments: t.Sequence[str]) -> Json:
    """The configuration that comes of a file, of those that it names, and of options C(-o). Raises ConfigError."""
    config = _read_one(path)
    for assignment in assignments:
        key, _equals, value = assignment.partition("=")
        if key == "config_files[]":
            config.setdefault("config_files", []).append(value)
        elif key == "config_files":
            config["config_files"] = [value]
    for entry in config.get("config_files") or ():
        entry = entry if isinstance(entry, dict) else {"path": entry}
        place = pathlib.Path(entry["path"])
        files = sorted(one for one in place.iterdir() if one.is_file()) if place.is_dir() else [place]
        for file in files:
            if file.exists():
                _merge(config, _read_one(str(file)), entry.get("strategy", "append"), file)
    for assignment in assignments:
        key, _equals, value = assignment.partition("=")
        if not key.startswith("config_files"):
            *above, last = key.split(".")
            node = config
            for part in above:
                node = node.setdefault(part, {})
            node[last] = value
    _check(config)
    return config


def _read_one(path: str) -> Json:
    try:
        found = yaml.load(pathlib.Path(path).read_text(encoding="utf-8"), yaml.SafeLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"Cannot read config file ({path}): {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"Cannot read config file ({path}): no map")
    return t.cast(Json, _resolved(found))


def _resolved(node: t.Any) -> t.Any:
    """With the environment in place of C(${...})."""
    if isinstance(node, dict):
        return {key: _resolved(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolved(value) for value in node]
    return _VARIABLE.sub(lambda found: os.environ.get(found[1], ""), node) if isinstance(node, str) else node


def _merge(config: Json, more: Json, strategy: str, file: pathlib.Path) -> None:
    if "config_files" in more:
        raise ConfigError(f"Config error: 'config_files' directive in included config file {file}.")
    for key, value in more.items():
        if strategy == "append" and isinstance(value, list):
            config[key] = [*(config.get(key) or ()), *value]
        elif strategy != "add-only" or key not in config:
            config[key] = value  # as a whole: what it held before is gone


def _check(config: Json) -> None:
    enabled = [kind for kind in ("stdout", "syslog", "file", "http") if _on(config.get(f"{kind}_output"), "enabled")]
    if not enabled:
        raise ConfigError("No output configured, please make sure at least one output is configured and enabled.")
    if "http" in enabled and not config["http_output"].get("url"):
        raise ConfigError("http output enabled but no url in configuration block")
    if "file" in enabled and not config["file_output"].get("filename"):
        raise ConfigError("file output enabled but no filename in configuration block")
    for entry in config.get("append_output") or ():
        for field in entry.get("extra_fields") or ():
            if isinstance(field, str) and field not in FIELDS:
                raise ConfigError(f"filter_check called with nonexistent field {field}")


def _on(node: t.Any, key: str) -> bool:
    return str((node or {}).get(key, "")).lower() == "true"


def support(config: Json) -> str:
    """What C(--support) prints: the configuration is a text in it."""
    return json.dumps({"version": VERSION, "config": json.dumps(config), "rules_files": []})


def alert(config: Json, event: Json) -> str:
    """What Falco says about an event, as it is configured."""
    now = time.time_ns()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
    line = f"{stamp}: {event['priority']} {event['output']}"
    if not config.get("json_output", False):
        return line
    fields, printed = event["fields"], [*event["prints"], "evt.time"]
    for entry in config.get("append_output") or ():
        match = entry.get("match") or {}
        tags = set(match.get("tags") or ())
        if match.get("source", "syscall") == "syscall" and tags <= set(event["tags"]):
            printed += entry.get("extra_fields") or ()
    said: Json = {
        "hostname": os.environ.get("FALCO_HOSTNAME") or socket.gethostname(),
        "priority": event["priority"],
        "rule": event["rule"],
        "source": "syscall",
        "time": stamp,
    }
    if config.get("json_include_output_property", True):
        said["output"] = line
    if config.get("json_include_tags_property", True):
        said["tags"] = event["tags"]
    if config.get("json_include_output_fields_property", True):
        said["output_fields"] = {name: {**fields, "evt.time": now}.get(name) for name in printed}
    return json.dumps(said, separators=(",", ":"))


def post(output: Json, body: bytes, content_type: str) -> None:
    """Post an alert. Raises OSError, HTTPException; what is answered does not matter."""
    url = urllib.parse.urlsplit(output["url"])
    connection: http.client.HTTPConnection
    if url.scheme == "https":
        trusted = ssl.create_default_context(
            cafile=output.get("ca_cert") or None, capath=output.get("ca_path", _TLS_DIRECTORY)
        )
        # Python is stricter than libcurl here.
        trusted.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if _on(output, "mtls"):
            trusted.load_cert_chain(output["client_cert"], output["client_key"])
        connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=trusted, timeout=60)
    else:
        connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=60)
    connection.putrequest("POST", url.path, skip_accept_encoding=True)
    for header in (("User-Agent", "falcosecurity/falco"), ("Accept", "*/*"), ("Content-Type", content_type)):
        connection.putheader(*header)
    connection.putheader("Content-Length", str(len(body)))
    if len(body) > _EXPECTING:
        connection.putheader("Expect", "100-continue")
    connection.endheaders()
    # libcurl waits for a second to be told to continue. Nobody has to, and http.client reads past what it is told.
    connection.send(body)
    connection.getresponse().read()
    connection.close()


def write(output: Json, line: str) -> None:
    """Append an alert to a file, opened for it alone."""
    with open(output["filename"], "a", encoding="utf-8") as file:
        file.write(line + "\n")


def main() -> int:
    """Run as C(/usr/bin/falco); its exit status."""
    parser = argparse.ArgumentParser(prog="falco")
    parser.add_argument("-c", default="/etc/falco/falco.yaml", dest="config")
    parser.add_argument("-o", action="append", default=[], dest="assignments")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--support", action="store_true")
    asked = parser.parse_args()
    try:
        config = read(asked.config, asked.assignments)
    except ConfigError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    if asked.support:
        print(support(config))
    if asked.support or asked.dry_run:
        return 0
    for line in sys.stdin:
        said = alert(config, json.loads(line))
        if _on(config.get("file_output"), "enabled"):
            write(config["file_output"], said)
        if _on(config.get("http_output"), "enabled"):
            content_type = "application/json" if config.get("json_output") else "text/plain"
            try:
                post(config["http_output"], said.encode(), content_type)
            except (OSError, http.client.HTTPException) as error:
                print(f"libcurl failed to perform call: {error}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
