# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import random
import re
import tempfile
import typing as t

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import LIMITS, POLICY
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.load import (
    LoadedPolicies,
    load_policies,
)
from ansible_collections.ironpost.container_guard.tests.unit.plugins.module_utils._policy.strategies import (
    policy_dicts,
    sets_of_policy_dicts,
)

FILTER = "target_filter: {labels: [x]}\n"
IN_A_LIST = "policies: [{id: p, action: pause, target_filter: {labels: [x]}}]\n"
PAUSE = "actions: [{type: pause}]\n" + FILTER


def load(files: dict[str, str]) -> LoadedPolicies:
    with tempfile.TemporaryDirectory() as directory:
        for name, text in files.items():
            (pathlib.Path(directory) / name).write_text(text, encoding="utf-8", newline="")
        return load_policies(pathlib.Path(directory))


def problems(files: dict[str, str]) -> list[str]:
    """What is wrong, a line each."""
    with pytest.raises(PolicyError) as caught:
        load(files)
    assert caught.value.kind == "policies_invalid"
    assert caught.value.remedy == "Nothing of it is used, and what is deployed stays"
    lines = caught.value.message.splitlines()
    assert len(lines) == 1 + sum(found["level"] == "error" for found in caught.value.details["findings"])
    return [line.strip() for line in lines[1:]]


def in_yaml(value: object, **style: bool) -> str:
    """The value in YAML, without aliases."""
    return yaml.safe_dump(json.loads(json.dumps(value)), **style)


def in_toml(value: object) -> str:
    """The value in TOML, without the forms that only people need."""
    if isinstance(value, dict):
        return "{{{}}}".format(", ".join(f"{json.dumps(key)} = {in_toml(item)}" for key, item in value.items()))
    if isinstance(value, list):
        return "[{}]".format(", ".join(map(in_toml, value)))
    return json.dumps(value, ensure_ascii=False)


def test_a_file_with_one_policy_and_one_with_many() -> None:
    loaded = load(
        {
            "one.yml": f"id: a\n{PAUSE}",
            "many.json": '{"policies": [{"id": "b", "action": {"type": "stop"}, "target_filter": {"labels": ["y"]}}]}',
            "three.toml": 'id = "c"\naction = {type = "pause"}\n[target_filter]\nlabels = ["z"]\n',
        }
    )
    assert [policy.id for policy in loaded.policy_set.policies] == ["a", "b", "c"]
    assert loaded.warnings == ()


def test_lists_of_protected_containers_are_merged() -> None:
    loaded = load(
        {
            "a.yml": "protect: {container_names: [b, a], labels: [x]}\npolicies: []\n",
            "b.yml": "protect: {container_names: [c, a]}\n",
            "c.toml": '[protect]\nimage_patterns = ["i"]\n',
        }
    )
    assert loaded.policy_set.protect == TargetFilter(("a", "b", "c"), ("i",), ("x",))


# Each is a whole file, and how the line about it begins.
MISTAKES = {
    "misspelt key": (
        "id: p\nrulse: [a]\n" + PAUSE,
        "a.yml:2:1: policy p: unknown key rulse (did you mean rules?)",
    ),
    "key of nothing": (
        "id: p\nxyzzy: 1\n" + PAUSE,
        "a.yml:2:1: policy p: unknown key xyzzy (known keys: action, actions, cooldown, description, enabled, evi",
    ),
    "key that is no text": (
        "id: p\n7: 1\n" + PAUSE,
        "a.yml:2:1: policy p: unknown key 7 (known keys: action, actions, cooldown, description, enabled, evidenc",
    ),
    "misspelt key in a filter": (
        "id: p\naction: {type: pause}\ntarget_filter: {lables: [a]}\n",
        "a.yml:3:17: policy p: target_filter: unknown key lables (did you mean labels?)",
    ),
    "misspelt key in an exclusion": (
        "id: p\naction: {type: pause}\ntarget_filter: {exclude: {image_pattern: [a]}}\n",
        "a.yml:3:27: policy p: target_filter.exclude: unknown key image_pattern (did you mean image_patterns?)",
    ),
    "misspelt key of a file": (
        "polices: []\n",
        "a.yml:1:1: unknown key polices (did you mean policies?)",
    ),
    "misspelt key in protect": (
        "protect: {container_name: [a]}\n",
        "a.yml:1:11: protect: unknown key container_name (did you mean container_names?)",
    ),
    "key of a policy in a file of many": (
        "policies: []\nenabled: true\n",
        "a.yml:2:1: unknown key enabled (it is a key of a policy: put it into an entry of policies)",
    ),
    "unknown severity": (
        "id: p\nseverity_threshold: urgent\n" + PAUSE,
        "a.yml:2:21: policy p: severity_threshold: 'urgent' is not one of info, low, medium, high, critical",
    ),
    "severity as number": (
        "id: p\nseverity_threshold: 3\n" + PAUSE,
        "a.yml:2:21: policy p: severity_threshold: 3 is not one of info, low, medium, high, critical",
    ),
    "misspelt mode": (
        "id: p\nmode: enforced\n" + PAUSE,
        "a.yml:2:7: policy p: mode: 'enforced' is not one of enforce, audit (did you mean enforce?)",
    ),
    "misspelt action": (
        "id: p\nactions: [{type: network_disconect, networks: [a]}]\n",
        "a.yml:2:18: policy p: actions.0.type: 'network_disconect' is not one of network_disconnect, pause, st",
    ),
    "action without type": (
        "id: p\nactions: [{networks: [a]}]\n",
        "a.yml:2:11: policy p: actions.0: type is missing (one of network_disconnect, pause, stop, kill)",
    ),
    "approval of what can be undone": (
        "id: p\nactions: [{type: pause, approval: true}]\n",
        "a.yml:2:25: policy p: actions.0.approval: it is not an option of this type of action",
    ),
    "approval that is never asked for": (
        "id: p\nactions: [{type: kill, approval_timeout: 60}]\n",
        "a.yml:2:24: policy p: actions.0.approval_timeout: the action waits for no approval (add approval: true)",
    ),
    "approval for too short a time": (
        "id: p\nactions: [{type: kill, approval: true, approval_timeout: 59}]\n",
        "a.yml:2:58: policy p: actions.0.approval_timeout: 59 is smaller than 60",
    ),
    "option of another action": (
        "id: p\nactions: [{type: stop}, {type: pause, grace: 5}]\n",
        "a.yml:2:39: policy p: actions.1.grace: it is not an option of this type of action",
    ),
    "misspelt option of an action": (
        "id: p\naction: {type: stop, graec: 5}\n",
        "a.yml:2:22: policy p: action: unknown key graec (did you mean grace?)",
    ),
    "grace too long": (
        "id: p\naction: {type: stop, grace: 301}\n",
        "a.yml:2:29: policy p: action.grace: 301 is larger than 300",
    ),
    "no action": (
        "id: p\n",
        "a.yml:1:1: policy p: there must be either actions or action",
    ),
    "empty actions": (
        "id: p\nactions: []\n",
        "a.yml:2:10: policy p: actions: the list is empty",
    ),
    "both actions and action": (
        "id: p\naction: {type: stop}\n" + PAUSE,
        "a.yml:1:1: policy p: there must be either actions or action",
    ),
    "pause and stop": (
        "id: p\nactions: [{type: pause}, {type: stop}]\n",
        "a.yml:2:10: policy p: actions: pause and stop exclude each other: stopping runs a paused container again",
    ),
    "an action twice": (
        "id: p\nactions: [{type: pause}, {type: pause}]\n",
        "a.yml:2:10: policy p: actions: action pause is given twice (Give each once; one network_disconnect takes",
    ),
    "too many actions": (
        "id: p\nactions: [" + "{type: pause}, " * 5 + "]\n",
        "a.yml:2:10: policy p: actions: the list has more than 4 entries",
    ),
    "no id": (
        "name: p\n" + PAUSE,
        "a.yml:1:1: policy number 1: id is missing (for example id: p)",
    ),
    "no id among many": (
        "policies:\n  - {id: p, action: {type: pause}}\n  - {action: {type: pause}}\n",
        "a.yml:3:5: policy number 2: id is missing",
    ),
    "id with a space": (
        "id: a b\n" + PAUSE,
        "a.yml:1:5: policy a b: id: 'a b' cannot stand here (Unique in the set: up to 128 letters, digits and any",
    ),
    "id that ends in a newline": (
        'id: "a\\n"\n' + PAUSE,
        "a.yml:1:5: policy a\\n: id: 'a\\n' cannot stand here (Unique in the set: up to 128 letters, digits and any",
    ),
    "id as number": (
        "id: 7\n" + PAUSE,
        "a.yml:1:5: policy 7: id: 7 is not text (put it in quotes)",
    ),
    "id as date": (
        "id: 2026-01-02\n" + PAUSE,
        "a.yml:1:5: policy number 1: id: datetime.date(2026, 1, 2) is not text (put it in quotes)",
    ),
    "text for a list": (
        "id: p\nrules: Terminal\n" + PAUSE,
        "a.yml:2:8: policy p: rules: 'Terminal' is not a list (put it in brackets)",
    ),
    "number in a list": (
        "id: p\ntags: [a, 404]\n" + PAUSE,
        "a.yml:2:11: policy p: tags.1: 404 is not text (put it in quotes)",
    ),
    "nothing in a list": (
        "id: p\ntags: [a, ]\nrules: [~]\n" + PAUSE,
        "a.yml:3:9: policy p: rules.0: None is not text",
    ),
    "empty list": (
        "id: p\nsources: []\n" + PAUSE,
        "a.yml:2:10: policy p: sources: the list is empty",
    ),
    "empty glob": (
        "id: p\nsources: ['']\n" + PAUSE,
        "a.yml:2:11: policy p: sources.0: the text is empty",
    ),
    "long list": (
        "id: p\nsources: [" + "a, " * 257 + "]\n" + PAUSE,
        "a.yml:2:10: policy p: sources: the list has more than 256 entries",
    ),
    "long text": (
        "id: p\nname: " + "x" * 9999 + "\n" + PAUSE,
        "a.yml:2:7: policy p: name: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    ),
    "label without key": (
        "protect: {labels: ['=prod']}\n",
        "a.yml:1:20: protect.labels.0: '=prod' cannot stand here (key, or key=glob.)",
    ),
    "text for a switch": (
        "id: p\nenabled: 'false'\n" + PAUSE,
        "a.yml:2:10: policy p: enabled: 'false' is not true or false",
    ),
    "text for a number": (
        "id: p\npriority: high\n" + PAUSE,
        "a.yml:2:11: policy p: priority: 'high' is not a whole number",
    ),
    "fraction": (
        "id: p\npriority: 10.0\n" + PAUSE,
        "a.yml:2:11: policy p: priority: 10.0 is not a whole number",
    ),
    "no number": (
        "id: p\npriority: .nan\n" + PAUSE,
        "a.yml:2:11: policy p: priority: nan is not a whole number",
    ),
    "switch for a number": (
        "id: p\npriority: true\n" + PAUSE,
        "a.yml:2:11: policy p: priority: True is not a whole number",
    ),
    "negative number": (
        "id: p\npriority: -1\n" + PAUSE,
        "a.yml:2:11: policy p: priority: -1 is smaller than 0",
    ),
    "list for a mapping": (
        "id: p\naction: {type: pause}\ntarget_filter: [a]\n",
        "a.yml:3:16: policy p: target_filter: ['a'] is not a mapping",
    ),
    "policies as mapping": (
        "policies: {id: p}\n",
        "a.yml:1:11: policies: {'id': 'p'} is not a list",
    ),
    "policies left empty": (
        "policies:\n",
        "a.yml:1:10: policies: None is not a list",
    ),
    "policy as text": (
        "policies: [p]\n",
        "a.yml:1:12: policy number 1: 'p' is not a mapping",
    ),
    "list of policies without its key": (
        "- id: p\n",
        "a.yml:1:1: it is not a mapping (it holds one policy, or policies: with a list)",
    ),
    "empty file": (
        "",
        "a.yml: it is not a mapping (it holds one policy, or policies: with a list)",
    ),
    "only comments": (
        "# policies: []\n",
        "a.yml: it is not a mapping (it holds one policy, or policies: with a list)",
    ),
    "empty mapping": (
        "{}\n",
        "a.yml:1:1: it holds none of policies, protect, limits and mode",
    ),
    "same id twice": (
        "policies:\n  - {id: p, action: {type: pause}}\n  - {id: p, action: {type: stop}}\n",
        "a.yml:3:10: policy p: the id is used in a.yml:2:10 already (ids are unique in a set)",
    ),
    "key twice": (
        "id: p\nid: q\n" + PAUSE,
        "a.yml:2:1: the key id stands twice in one mapping",
    ),
    "broken YAML": (
        "id: p\nrules: [a\n",
        "a.yml:3:1: it is not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'",
    ),
    "key with a near miss that is long": (
        "id: p\nseverity: high\n" + PAUSE,
        "a.yml:2:1: policy p: unknown key severity (did you mean severity_threshold?)",
    ),
    "both names of policies": (
        "policies: []\npolicy: []\n",
        "a.yml:2:1: unknown key policy (did you mean policies?)",
    ),
    "action that is a number": (
        "id: p\naction: 7\n",
        "a.yml:2:9: policy p: action: 7 is not a mapping",
    ),
    "misspelt action as text": (
        "id: p\naction: Paus\n",
        "a.yml:2:9: policy p: action.type: 'Paus' is not one of network_disconnect, pause, stop, kill (did you",
    ),
    "misspelt action as key": (
        "id: p\naction:\n  NetworkDisconect:\n    networks: [a]\n",
        "a.yml:3:3: policy p: action.type: 'NetworkDisconect' is not one of network_disconnect, pause, stop, k",
    ),
    "misspelt option below the action": (
        "id: p\naction:\n  NetworkDisconnect:\n    network: [a]\n",
        "a.yml:4:5: policy p: action: unknown key network (did you mean networks?)",
    ),
    "option of another action below it": (
        "id: p\naction: {Pause: {grace: 1}}\n",
        "a.yml:2:18: policy p: action.grace: it is not an option of this type of action",
    ),
    "severity with a space": (
        "id: p\nseverity_threshold: 'High '\n" + PAUSE,
        "a.yml:2:21: policy p: severity_threshold: 'High ' is not one of info, low, medium, high, critical (did y",
    ),
    "mode in another case": (
        "id: p\nmode: Audit\n" + PAUSE,
        "a.yml:2:7: policy p: mode: 'Audit' is not one of enforce, audit (did you mean audit?)",
    ),
    "no id but a name": (
        "name: High Severity - Pause\n" + PAUSE,
        "a.yml:1:1: policy number 1: id is missing (for example id: high-severity-pause)",
    ),
    "misspelt scope": (
        "id: p\nscope: matching_container\n" + PAUSE,
        "a.yml:2:8: policy p: scope: 'matching_container' is not one of alert_container, matching_containers (did",
    ),
    "every container of a host": (
        "id: p\nscope: matching_containers\naction: {type: pause}\n",
        "a.yml:2:8: policy p: matching_containers without a target_filter means every container of the host (say ",
    ),
    "hosts left empty": (
        "id: p\nhosts: []\n" + PAUSE,
        "a.yml:2:8: policy p: hosts: the list is empty",
    ),
    "unknown evidence": (
        "id: p\nevidence: [top, log]\n" + PAUSE,
        "a.yml:2:17: policy p: evidence.1: 'log' is not one of inspect, top, changes, logs, stats, export (did yo",
    ),
    "an archive of nothing": (
        "id: p\nevidence: [archive]\n" + PAUSE,
        "a.yml:2:12: policy p: evidence.0: 'archive' is not one of inspect, top, changes, logs, stats, export (say of ",
    ),
    "an archive of a relative path": (
        "id: p\nevidence: [{type: archive, paths: [/etc, var/www]}]\n" + PAUSE,
        "a.yml:2:42: policy p: evidence.0.paths.1: 'var/www' cannot stand here (An absolute path without control ",
    ),
    "an archive without a type": (
        "id: p\nevidence: [{paths: [/etc]}]\n" + PAUSE,
        "a.yml:2:12: policy p: evidence.0: type is missing (one of archive)",
    ),
    "an archive with another key": (
        "id: p\nevidence: [{type: archive, paths: [/etc], path: /etc}]\n" + PAUSE,
        "a.yml:2:43: policy p: evidence.0: unknown key path (did you mean paths?)",
    ),
    "too many paths": (
        "id: p\nevidence:\n" + ("- {type: archive, paths: [" + "/etc, " * 60 + "]}\n") * 2 + PAUSE,
        "a.yml:3:1: policy p: evidence: there are 120 paths to archive (a case has at most 100)",
    ),
    "cooldown with a unit": (
        "id: p\ncooldown: 5m\n" + PAUSE,
        "a.yml:2:11: policy p: cooldown: '5m' is not a whole number",
    ),
    "cooldown too long": (
        "id: p\ncooldown: 604801\n" + PAUSE,
        "a.yml:2:11: policy p: cooldown: 604801 is larger than 604800",
    ),
    "negative release": (
        "id: p\nrelease_after: -1\n" + PAUSE,
        "a.yml:2:16: policy p: release_after: -1 is smaller than 0",
    ),
    "fallback as text": (
        "id: p\nfallback: pause\n" + PAUSE,
        "a.yml:2:11: policy p: fallback: 'pause' is not a list (put it in brackets)",
    ),
    "misspelt fallback": (
        "id: p\nfallback: [{type: stopp}]\n" + PAUSE,
        "a.yml:2:19: policy p: fallback.0.type: 'stopp' is not one of network_disconnect, pause, stop, kill (d",
    ),
    "fallback that cannot work": (
        "id: p\naction: {type: network_disconnect}\nfallback: [pause, stop]\n",
        "a.yml:3:11: policy p: fallback: pause and stop exclude each other",
    ),
    "limits beside a policy": (
        "limits: {}\nid: p\n",
        "a.yml:2:1: unknown key id (it is a key of a policy: put it into an entry of policies)",
    ),
    "misspelt limit": (
        "limits: {max_container_per_alert: 2}\n",
        "a.yml:1:10: limits: unknown key max_container_per_alert (did you mean max_containers_per_alert?)",
    ),
    "limit too low": (
        "limits:\n  max_containers_per_alert: 0\n",
        "a.yml:2:29: limits.max_containers_per_alert: 0 is smaller than 1",
    ),
    "window as number": (
        "limits: {max_isolations_per_window: 5}\n",
        "a.yml:1:37: limits.max_isolations_per_window: 5 is not a mapping",
    ),
    "window without seconds": (
        "limits: {max_isolations_per_window: {count: 5}}\n",
        "a.yml:1:37: limits.max_isolations_per_window: seconds is missing",
    ),
    "alias": (
        "id: &a p\nname: *a\n" + PAUSE,
        "a.yml:2:7: YAML aliases are not read (write the value out)",
    ),
    "key in the second policy of a list": (
        "policies:\n- id: p\n  action: pause\n- id: q\n  action: pause\n  rulse: [a]\n",
        "a.yml:6:3: policy q: unknown key rulse (did you mean rules?)",
    ),
    "JSON: misspelt key": (
        '{"id": "p",\n\t"rulse": ["a"],\n "action": {"type": "pause"}}',
        "a.json:2:2: policy p: unknown key rulse (did you mean rules?)",
    ),
    "JSON: value in a list": (
        '{"policies": [{"id": "p", "tags": ["a", 1], "action": "pause"}]}',
        "a.json:1:41: policy p: tags.1: 1 is not text (put it in quotes)",
    ),
    "JSON: broken": (
        '{"id": "p",\n}',
        "a.json:1:11: it is not JSON: Illegal trailing comma before end of object",
    ),
    "JSON: a list": (
        '[{"id": "p"}]',
        "a.json:1:1: it is not a mapping (it holds one policy, or policies: with a list)",
    ),
    "TOML: broken": (
        'id = "p"\nrules = [a]\n',
        "a.toml:2:10: it is not TOML: Invalid value",
    ),
    "TOML: misspelt key": (
        '# one\nid = "p"\n  rulse = ["a"]\naction = "Pause"\n',
        "a.toml:3:3: policy p: unknown key rulse (did you mean rules?)",
    ),
    "TOML: misspelt severity": (
        'id = "p"\nseverity_threshold = "Hihg"\naction = "Pause"\n',
        "a.toml:2:22: policy p: severity_threshold: 'Hihg' is not one of info, low, medium, high, critical (did y",
    ),
    "TOML: in the second table": (
        (
            '[[policy]]\nid = "p"\n[policy.action]\nStop = []\n\n[[policy]]\nid = "q"\n[policy.action]\nStop = []\n'
            '[policy.target_filter]\nlabels = [\n  "x",\n  1,\n]\n'
        ),
        "a.toml:13:3: policy q: target_filter.labels.1: 1 is not text (put it in quotes)",
    ),
    "TOML: second table without id": (
        '[[policy]]\nid = "p"\naction = "stop"\n[[policy]]\naction = "stop"\n',
        "a.toml:4:1: policy number 2: id is missing",
    ),
    "TOML: misspelt table of an action": (
        'id = "p"\n[action.NetworkDisconect]\nnetworks = ["a"]\n',
        "a.toml:2:1: policy p: action.type: 'NetworkDisconect' is not one of network_disconnect, pause, stop,",
    ),
    "TOML: misspelt action as key": (
        'id = "p"\n[action]\nStopp = []\n',
        "a.toml:3:1: policy p: action.type: 'Stopp' is not one of network_disconnect, pause, stop, kill (did y",
    ),
    "TOML: empty networks": (
        'id = "p"\naction = { NetworkDisconnect = { networks = [] } }\n',
        "a.toml:2:45: policy p: action.networks: the list is empty",
    ),
    "TOML: switch for an action": (
        'id = "p"\n[action]\ntype = "pause"\nStop = true\n',
        "a.toml:4:1: policy p: action: unknown key Stop (did you mean type: stop?)",
    ),
    "TOML: text for a list": (
        '[[policies]]\nid = "p"\naction = {type = "Pause"}\ntarget_filter = {image_patterns = "nginx:*"}\n',
        "a.toml:4:35: policy p: target_filter.image_patterns: 'nginx:*' is not a list (put it in brackets)",
    ),
    "TOML: label": (
        '[protect]\ncontainer_names = ["""\na#[b]""", \'c"\']\nlabels = ["=x"]\n',
        "a.toml:4:11: protect.labels.0: '=x' cannot stand here (key, or key=glob.)",
    ),
    "regular expression for a name": (
        "id: p\naction: pause\ntarget_filter: {container_names: ['web-[0-9]']}\n",
        "a.yml:3:35: policy p: target_filter.container_names.0: 'web-[0-9]' holds a character that a container name",
    ),
    "two names in one entry": (
        "id: p\naction: pause\ntarget_filter: {labels: [x], exclude: {container_names: ['web-1,web-2']}}\n",
        "a.yml:3:58: policy p: target_filter.exclude.container_names.0: 'web-1,web-2' holds a character",
    ),
    "blank behind a name": (
        "protect: {container_names: ['traefik ']}\n" + IN_A_LIST,
        "a.yml:1:29: protect.container_names.0: 'traefik ' holds a character",
    ),
    "regular expression for an image": (
        "id: p\naction: pause\ntarget_filter: {labels: [x], exclude: {image_patterns: [a|b]}}\n",
        "a.yml:3:57: policy p: target_filter.exclude.image_patterns.0: 'a|b' holds a character that an image reference",
    ),
    "blanks in a label": (
        "protect: {labels: ['env = prod']}\n" + IN_A_LIST,
        "a.yml:1:20: protect.labels.0: 'env = prod' is neither key nor key=glob",
    ),
    "colon in a label": (
        "protect: {labels: ['env: prod']}\n" + IN_A_LIST,
        "a.yml:1:20: protect.labels.0: 'env: prod' is neither key nor key=glob",
    ),
    "label that is not": (
        "protect: {labels: ['env!=prod']}\n" + IN_A_LIST,
        "a.yml:1:20: protect.labels.0: 'env!=prod' is neither key nor key=glob",
    ),
    "label with two signs": (
        "protect: {labels: ['env==prod']}\n" + IN_A_LIST,
        "a.yml:1:20: protect.labels.0: 'env==prod' is neither key nor key=glob",
    ),
}


@pytest.mark.parametrize(("text", "expected"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_explained_in_one_line(text: str, expected: str) -> None:
    (line,) = problems({expected.partition(":")[0]: text})
    assert line.startswith(expected)
    assert len(line) < 350


def test_each_unknown_key_is_a_problem_of_its_own() -> None:
    assert problems({"a.yml": "id: p\nrulse: [a]\nsorces: [b]\n" + PAUSE}) == [
        "a.yml:2:1: policy p: unknown key rulse (did you mean rules?)",
        "a.yml:3:1: policy p: unknown key sorces (did you mean sources?)",
    ]
    assert len(problems({"a.yml": "id: p\n" + "".join(f"z{number}: 1\n" for number in range(99)) + PAUSE})) == 5


def test_a_policy_whose_id_is_taken_is_looked_at_too() -> None:
    lines = problems({"a.yml": f"id: p\n{PAUSE}", "b.yml": "id: p\nactions: [stop, pause]\n"})
    assert [line.partition(" already")[0][:70] for line in lines] == [
        "b.yml:1:5: policy p: the id is used in a.yml:1:5",
        "b.yml:2:10: policy p: actions: pause and stop exclude each other: stop",
    ]


def test_two_actions_in_the_spelling_for_one() -> None:
    assert problems({"a.toml": 'id = "p"\n[action]\nPause = []\n[action.NetworkDisconnect]\nnetworks = ["a"]\n'}) == [
        "a.toml:2:1: policy p: action: type is missing (one of network_disconnect, pause, stop, kill)",
        "a.toml:3:1: policy p: action: unknown key Pause (did you mean type: pause?)",
        "a.toml:4:1: policy p: action: unknown key NetworkDisconnect (did you mean type: network_disconnect?)",
    ]


# Each is a whole file in which only this one thing is doubtful: the line about it.
DOUBTS = {
    "any container": (
        "id: p\naction: pause\n",
        "1:1: policy p: it may reach any container (say which in target_filter if that is not what you want)",
    ),
    "any container, said in full": (
        "id: p\naction: pause\ntarget_filter: {labels: []}\n",
        "3:16: policy p: it may reach any container (say which in target_filter if that is not what you want)",
    ),
    "fallback that repeats an action": (
        "id: p\nfallback: [network_disconnect, {type: stop, grace: 1}]\nactions: [{type: stop}]\n" + FILTER,
        "2:11: policy p: fallback: stop is among the actions, and is used only where none of them can work (name",
    ),
    "regular expression .*": (
        "id: p\nrules: [a, 'Terminal.*']\n" + PAUSE,
        "2:12: policy p: rules.1: 'Terminal.*' reads like a regular expression (globs know * and ? only)",
    ),
    "regular expression .+": ("id: p\nsources: [fal.+]\n" + PAUSE, "2:11: policy p: sources.0: 'fal.+' reads like a"),
    "regular expression ^": ("id: p\ntags: [^mitre]\n" + PAUSE, "2:8: policy p: tags.0: '^mitre' reads like a regular"),
    "regular expression $": ("id: p\nhosts: [web$]\n" + PAUSE, "2:9: policy p: hosts.0: 'web$' reads like a regular"),
    "regular expression for a label": (
        "id: p\naction: pause\ntarget_filter: {labels: [x, env=prod.*]}\n",
        "3:29: policy p: target_filter.labels.1: 'prod.*' reads like a regular expression",
    ),
    "regular expression for a network": (
        "id: p\nactions: [{type: network_disconnect, networks: [a, ^b]}]\n" + FILTER,
        "2:52: policy p: actions.0.networks.1: '^b' reads like a regular expression",
    ),
    "regular expression in the fallback": (
        "id: p\nfallback: [{type: network_disconnect, networks: [^b]}]\n" + PAUSE,
        "2:50: policy p: fallback.0.networks.0: '^b' reads like a regular expression",
    ),
    "wildcard in the key of a label": (
        "id: p\naction: pause\ntarget_filter: {labels: ['com.*=x']}\n",
        "3:26: policy p: target_filter.labels.0: 'com.*=x' has a wildcard in its key, which is taken as it stands",
    ),
    "everything is protected": (
        "protect: {container_names: [a, '*']}\n" + IN_A_LIST,
        "1:32: protect.container_names: * protects every container, so none is ever isolated (name what must not",
    ),
    "every image is protected": (
        "protect: {image_patterns: ['**']}\n" + IN_A_LIST,
        "1:28: protect.image_patterns: ** protects every container, so none is ever isolated",
    ),
    "matching_containers without sources": (
        "id: p\nscope: matching_containers\n" + PAUSE,
        "2:8: policy p: matching_containers without sources answers any detector that says nothing about containers (",
    ),
    "matching_containers of sources that name containers": (
        "id: p\nscope: matching_containers\nsources: [falco, Wazuh]\n" + PAUSE,
        "3:10: policy p: it never answers: falco, Wazuh do name containers, and never come to matching_containers (",
    ),
    "window smaller than an alert": (
        "limits: {max_containers_per_alert: 5, max_isolations_per_window: {count: 3, seconds: 60}}\n" + IN_A_LIST,
        "1:74: the window lets 3 containers be isolated, and an alert 5 (raise it, or lower max_containers_per_alert)",
    ),
    "release_after": (
        "id: p\nrelease_after: 5\n" + PAUSE,
        "2:1: policy p: nothing releases by release_after unless the playbook release_expired is run again and again",
    ),
    "a policy that never answers": (
        (
            "policies:\n- {id: a, action: pause, target_filter: {labels: [x]}}\n- {id: b, action: stop, tags: [a], "
            "target_filter: {labels: [x=1]}}\n"
        ),
        "3:3: policy b: it never answers: policy a (a.yml:2:3) is asked first and answers all that it would (narrow a",
    ),
}


@pytest.mark.parametrize(("text", "expected"), DOUBTS.values(), ids=DOUBTS.keys())
def test_what_is_doubtful_is_warned_of_and_deployed(text: str, expected: str) -> None:
    loaded = load({"a.yml": text})
    (warning,) = loaded.warnings
    assert str(warning).startswith(f"a.yml:{expected}")
    assert warning.level == "warning"
    assert loaded.policy_set.policies


@pytest.mark.parametrize(
    "text",
    [
        "id: p\naction: pause\ntarget_filter: {image_patterns: [nginx, 'r:5000/a.b/c?:*', 'a@sha256:*']}\n",
        "id: p\nrules: ['Terminal shell (tty) in container', 'Wrote to /etc/*.conf, 5.0']\n" + PAUSE,
        "id: p\nfallback: [{type: network_disconnect}]\n"
        "action: {type: network_disconnect, networks: [front]}\n" + FILTER,
        "limits: {max_containers_per_alert: 3, max_isolations_per_window: {count: 3, seconds: 60}}\n" + IN_A_LIST,
        "id: p\nevidence: [top, {type: archive, paths: [/etc]}]\nrelease_after: 0\n" + PAUSE,
        "id: p\nscope: matching_containers\nsources: [falco, suricata]\n" + PAUSE,
        "mode: audit\n" + IN_A_LIST,
    ],
)
def test_what_is_not_doubtful_is_not_warned_of(text: str) -> None:
    assert load({"a.yml": text}).warnings == ()


def test_what_is_only_recorded_is_warned_of_once_a_set() -> None:
    policies = [{"id": f"p{number}", "rules": [str(number)], "release_after": 5, "action": "stop"} for number in (1, 2)]
    warnings = load({"a.json": json.dumps({"policies": policies})}).warnings
    assert sum("release_after" in warning.message for warning in warnings) == 1


def test_a_set_of_disabled_policies_is_deployed_with_a_warning() -> None:
    loaded = load({"a.yml": "id: p\nenabled: false\n" + PAUSE, "b.yml": "id: q\nenabled: false\n" + PAUSE})
    assert len(loaded.policy_set.policies) == 2
    assert [str(warning) for warning in loaded.warnings] == [".: every policy is disabled, so no alert is answered"]


def test_limits_come_from_any_file() -> None:
    loaded = load(
        {
            "a.yml": "limits: {max_containers_per_alert: 3}\n",
            "b.toml": "[limits]\nmax_isolations_per_window = {count = 10, seconds = 600}\nmax_containers_per_alert = 3",
            "c.yml": "limits: {}\n",
        }
    )
    assert loaded.policy_set.limits == Limits(3, 10, 600)
    assert load({"a.yml": "policies: []\n"}).policy_set.limits == Limits()


def test_a_limit_has_one_value() -> None:
    window = "max_isolations_per_window"
    hint = "a set has one value for each limit"
    shown = [{"count": 1, "seconds": seconds} for seconds in (5, 6)]
    assert problems(
        {
            "a.yml": f"limits:\n  max_containers_per_alert: 1\n  {window}: {{count: 1, seconds: 5}}\n",
            "b.yml": f"limits: {{max_containers_per_alert: 2, {window}: {{seconds: 5, count: 1}}}}\n",
            "c.toml": f"limits.{window} = {{seconds = 6, count = 1}}\n",
        }
    ) == [
        f"b.yml:1:36: limits.max_containers_per_alert: 2 here, and 1 in a.yml:2:29 ({hint})",
        f"c.toml:1:36: limits.{window}: {shown[1]} here, and {shown[0]} in a.yml:3:30 ({hint})",
    ]


def test_the_mode_of_a_set_comes_from_any_file() -> None:
    loaded = load({"a.yml": IN_A_LIST, "b.yml": "mode: audit\n", "c.yml": "mode: audit\nlimits: {}\n"})
    assert loaded.policy_set.mode == "audit"
    assert [policy.mode for policy in loaded.policy_set.policies] == ["enforce"]
    assert load({"a.yml": IN_A_LIST}).policy_set.mode == "enforce"


def test_the_mode_of_a_file_with_one_policy_is_that_of_the_policy() -> None:
    loaded = load({"a.yml": "mode: audit\nid: p\n" + PAUSE})
    assert loaded.policy_set.mode == "enforce"
    assert [policy.mode for policy in loaded.policy_set.policies] == ["audit"]


def test_a_set_has_one_mode_and_it_is_a_known_one() -> None:
    assert problems({"a.yml": "mode: audit\n" + IN_A_LIST, "b.yml": "protect: {}\nmode: enforce\n"}) == [
        "b.yml:2:7: mode: 'enforce' here, and 'audit' in a.yml:1:7 (a set has one mode)"
    ]
    assert problems({"a.yml": "mode: Audit\n" + IN_A_LIST}) == [
        "a.yml:1:7: mode: 'Audit' is not one of enforce, audit (did you mean audit?)"
    ]


def test_the_age_of_alerts_has_bounds() -> None:
    assert load({"a.yml": "limits: {max_alert_age: 0}\n" + IN_A_LIST}).policy_set.limits.max_alert_age == 0
    assert problems({"a.yml": "limits: {max_alert_age: 86401}\n" + IN_A_LIST}) == [
        "a.yml:1:25: limits.max_alert_age: 86401 is larger than 86400"
    ]


def test_the_folder_with_tests_is_not_read_as_policies(tmp_path: pathlib.Path) -> None:
    (tmp_path / "p.yml").write_text(f"id: p\n{PAUSE}")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "cases.yml").write_text("cases: []\n")
    assert [policy.id for policy in load_policies(tmp_path).policy_set.policies] == ["p"]


def test_all_problems_of_a_directory_are_reported_at_once() -> None:
    assert problems(
        {
            "a.yml": "protcet: {}\npolicies:\n- {id: one, rulse: [a]}\n- {id: two, mode: x, action: {type: x}}\n",
            "b.json": '{"id": "two", "action": {"type": "pause"}}',
            "c.toml": "id = ",
            "d.yml": "id: [\n",
            "e.yml": "id: three\naction: {type: pause}\n",
        }
    ) == [
        "a.yml:1:1: unknown key protcet (did you mean protect?)",
        "a.yml:3:3: policy one: there must be either actions or action",
        "a.yml:3:13: policy one: unknown key rulse (did you mean rules?)",
        "a.yml:4:19: policy two: mode: 'x' is not one of enforce, audit",
        "a.yml:4:37: policy two: action.type: 'x' is not one of network_disconnect, pause, stop, kill",
        "b.json:1:8: policy two: the id is used in a.yml:4:8 already (ids are unique in a set)",
        "c.toml: it is not TOML: Invalid value (at end of document)",
        "d.yml:2:1: it is not YAML: while parsing a flow node, expected the node content, but found '<stream end>'",
    ]


def test_problems_are_told_to_programs_too() -> None:
    with pytest.raises(PolicyError) as caught:
        load({"a.yml": "id: p\nmode: x\naction: {type: pause}\n", "b.yml": "a: *b\n", "c.foo": ""})
    findings = caught.value.to_dict()["findings"]
    keys = ("file", "line", "column", "policy_id", "level")
    assert [tuple(found[key] for key in keys) for found in findings] == [
        ("a.yml", 2, 7, "p", "error"),
        ("b.yml", 1, 4, "", "error"),
        ("c.foo", 0, 0, "", "warning"),
    ]
    assert json.loads(json.dumps(findings)) == findings
    assert "c.foo" not in caught.value.message, "a warning is no problem"


@pytest.mark.parametrize("text", ["policies: []\n", "protect: {labels: [x]}\n"])
def test_a_set_without_policies_is_deployed_with_a_warning(text: str) -> None:
    loaded = load({"a.yml": text})
    assert loaded.policy_set.policies == ()
    assert [str(warning) for warning in loaded.warnings] == [".: there is no policy, so no alert is answered"]


def many(number: int) -> list[dict[str, t.Any]]:
    return [{"id": f"p{index}", "action": {"type": "pause"}} for index in range(number)]


def test_a_thousand_policies_are_a_set() -> None:
    loaded = load({"a.json": json.dumps({"policies": many(999)}), "b.yml": f"id: last\n{PAUSE}"})
    assert len(loaded.policy_set.policies) == 1000


def test_more_policies_are_refused() -> None:
    assert problems({"a.json": json.dumps({"policies": many(1000)}), "b.yml": f"id: last\n{PAUSE}"}) == [
        ".: there are 1001 policies (a set has at most 1000)"
    ]


def missing(source: pathlib.Path) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load_policies(source)
    assert caught.value.kind == "policies_missing"
    assert str(source) in caught.value.message
    assert caught.value.remedy
    return caught.value


def test_a_missing_directory(tmp_path: pathlib.Path) -> None:
    assert "cannot be read: No such file or directory" in missing(tmp_path / "nowhere").message


def test_a_directory_without_policy_files(tmp_path: pathlib.Path) -> None:
    for name in ("README.md", ".hidden.yml"):
        (tmp_path / name).touch()
    (tmp_path / "sub").mkdir()
    assert "policies: []" in missing(tmp_path).remedy


def test_a_directory_with_a_misspelt_suffix_only_deploys_no_empty_set(tmp_path: pathlib.Path) -> None:
    (tmp_path / "policies.ymll").write_text(f"id: p\n{PAUSE}")
    assert "policies.ymll: the file is not read" in missing(tmp_path).message
    assert "policies.ymll: the file is not read" in missing(tmp_path / "policies.ymll").message


def deployable(policy: dict[str, t.Any]) -> dict[str, t.Any]:
    """The policy with a filter where it must have one."""
    wanted = policy.get("target_filter", {})
    if policy.get("scope") != "matching_containers" or any(wanted.get(name) for name in wanted if name != "exclude"):
        return policy
    return {**policy, "target_filter": {**wanted, "labels": ["x"]}}


def spelled_as_ironpost_does(policy: dict[str, t.Any]) -> dict[str, t.Any]:
    names = {"network_disconnect": "NetworkDisconnect", "pause": "Pause", "stop": "Stop"}
    spelled = dict(policy)
    if "severity_threshold" in spelled:
        spelled["severity_threshold"] = spelled["severity_threshold"].capitalize()
    actions: list[dict[str, t.Any]] = []
    for action in spelled.pop("actions"):
        options = {key: value for key, value in action.items() if key != "type"}
        actions.append({names[action["type"]]: options or []})
    return {**spelled, "action": actions[0]} if len(actions) == 1 else {**spelled, "actions": actions}


@settings(max_examples=40)
@given(sets_of_policy_dicts(6), st.randoms(use_true_random=False))
def test_files_formats_and_order_make_no_difference(policies: list[dict[str, t.Any]], shuffle: random.Random) -> None:
    policies = list(map(deployable, policies))
    shuffled = shuffle.sample(policies, len(policies))
    protect = {"labels": ["x", "y"]}
    limits = {"max_containers_per_alert": 2, "max_isolations_per_window": {"count": 5, "seconds": 60}}
    whole = {"policies": policies, "protect": protect, "limits": limits}
    old_names = [spelled_as_ironpost_does(policy) for policy in shuffled]
    half = len(policies) // 2
    spellings: list[dict[str, str]] = [
        {"a.yml": in_yaml(whole)},
        {"a.yml": in_yaml(whole, allow_unicode=True, default_flow_style=True, sort_keys=False)},
        {"a.json": json.dumps(whole)},
        {"a.toml": f"policies = {in_toml(policies)}\nprotect = {in_toml(protect)}\nlimits = {in_toml(limits)}\n"},
        {
            "a.toml": f"policy = {in_toml(old_names)}\n",
            "b.toml": f"protect = {in_toml(protect)}\nlimits = {in_toml(limits)}\n",
        },
        {
            "a.json": json.dumps({"policies": shuffled[:half], "protect": {"labels": ["y"]}, "limits": limits}),
            "b.yaml": in_yaml({"policies": shuffled[half:], "protect": {"labels": ["x", "y"]}}),
        },
        {
            "protect.json": json.dumps({"protect": protect, "limits": limits}),
            **{f"{place}.yml": in_yaml(policy) for place, policy in enumerate(shuffled)},
        },
    ]
    sets = [load(files).policy_set for files in spellings]
    assert {policy_set.digest for policy_set in sets} == {sets[0].digest}
    assert {policy_set.to_json() for policy_set in sets} == {sets[0].to_json()}
    assert PolicySet.from_json(sets[0].to_json(), "here") == sets[0]


def test_the_examples_of_the_documentation_load(tmp_path: pathlib.Path) -> None:
    repository = next(path for path in pathlib.Path(__file__).absolute().parents if (path / "galaxy.yml").is_file())
    page = (repository / "docs" / "policies.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n# policies/([a-z]+\.yml)\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    for number, (name, text) in enumerate(examples):
        directory = tmp_path / str(number)
        directory.mkdir()
        (directory / name).write_text(text)
    for number in range(len(examples)):
        load_policies(tmp_path / str(number))
    assert [line for key in POLICY["properties"] if (line := f"| `{key}` |") not in page] == []
    assert [line for key in LIMITS["properties"] if (line := f"| `limits.{key}` |") not in page] == []


json_like = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8"), max_size=8)
    | st.sampled_from(["id", "pause", "info", "enforce", "Pause", "Critical", "*", "=", "{{", "2026-01-01"]),
    lambda values: (
        st.lists(values, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    *(
                        "id",
                        "policies",
                        "policy",
                        "protect",
                        "limits",
                        "actions",
                        "action",
                        "fallback",
                        "type",
                        "labels",
                    ),
                    *("target_filter", "exclude", "Pause", "NetworkDisconnect", "networks", "severity_threshold"),
                ]
            )
            | st.text(max_size=4),
            values,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@st.composite
def nearly_policies(draw: st.DrawFn) -> dict[str, t.Any]:
    """A valid policy in which something was replaced."""
    policy = draw(policy_dicts(st.just("p")))
    place: t.Any = policy
    while True:
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], (dict, list)) or not place[key] or draw(st.booleans()):
            place[key] = draw(json_like)
            return policy
        place = place[key]


def loads_or_explains(files: dict[str, str]) -> None:
    """Whatever the files hold, they are a set that a host can read, or a PolicyError that can be shown."""
    try:
        loaded = load(files)
    except PolicyError as error:
        shown = f"{error} {json.dumps(error.to_dict(), ensure_ascii=False)}"
    else:
        shown = " ".join(map(str, loaded.warnings))
        assert PolicySet.from_json(loaded.policy_set.to_json(), "here") == loaded.policy_set
    assert re.sub(r"\n  ", "", shown).isprintable()
    assert len(shown) < 30_000


@settings(max_examples=150)
@given(json_like | nearly_policies())
@example({"id": "\ud800", "action": {"type": "\ud800"}})
@example({"policies": [{"\ud800\n": 1}], "\x1b[2J": 1})
@example({"id": float("nan"), "priority": float("inf"), "action": {"type": "pause"}})
def test_any_content_is_a_set_or_a_policy_error(content: object) -> None:
    loads_or_explains({"a.json": json.dumps(content)})
    loads_or_explains({"a.yml": in_yaml(content)})
    loads_or_explains({"a.json": json.dumps({"policies": [content, content], "protect": content})})
    loads_or_explains({"a.json": json.dumps({"policy": content, "limits": content})})


snippets = st.lists(
    st.sampled_from(
        ["id", "a", "1", ":", ": ", "- ", "\n", "\n  ", "[", "]", "{", "}", ",", "'", '"', "&x ", "*x", "!!", "!!int ",
         "!!set ", "!!omap ", "!!binary ", "!!float ", "!!null ", "? ", "| ", "> ", "<<", "#", "%", "---", "=", "~",
         ".inf", "0x", "1:2", "2026-01-01", "\t", "\x85", "[[", "]]", "'''", "\\u"]
    ),
    max_size=20,
).map("".join)  # fmt: skip


@settings(max_examples=300)
@given(snippets | st.text(max_size=30), st.sampled_from(["yml", "json", "toml"]))
@example("!!set {[a]}", "yml")
@example("!!pairs [a]", "yml")
@example("id: !!float ''", "yml")
@example("id: !!binary é", "yml")
@example("1:2:3: 4", "yml")
@example("a = 0x" + "f" * 5000, "toml")
def test_any_text_is_a_set_or_a_policy_error(text: str, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        (pathlib.Path(directory) / f"a.{suffix}").write_bytes(text.encode("utf-8", "surrogatepass"))
        with pytest.raises(PolicyError) as caught:
            load_policies(pathlib.Path(directory))
    assert caught.value.kind == "policies_invalid"
