# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""As much of the API of AWX 24 as the modules of awx.awx use to set it up: objects, their associations, surveys.

AWX itself cannot be installed here. What it checks of a survey is checked here, too.
"""

from __future__ import annotations

import json
import re
import typing as t
import urllib.parse
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.tests import loopback

Json = dict[str, t.Any]

_ROOT = "/api/v2/"
_SECRETS = ("ssh_key_data", "password", "become_password")
_ENCRYPTED = "$encrypted$"
_QUESTIONS = {
    **dict.fromkeys(("text", "textarea", "password", "multiplechoice", "multiselect"), str),
    **dict.fromkeys(("integer", "float"), (int, float)),
}
_BEGINS_WITH = {
    "organizations": [{"name": "Default"}],
    "credential_types": [{"name": "Machine"}, {"name": "Ansible Galaxy/Automation Hub API Token"}],
    "credentials": [{"name": "Ansible Galaxy", "credential_type": 2, "organization": 1, "inputs": {}}],
}


class Awx(loopback.LoopbackServer):
    """Listens at C(url) as long as its context lasts.

    Attributes:
        token: which a client must show.
        changes: method and path of each request that was to change something.
    """

    token = "a-token"

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []
        self._objects: dict[str, dict[int, Json]] = {}
        self._associated: dict[str, list[int]] = {}
        self._surveys: dict[str, Json] = {}
        for endpoint, objects in _BEGINS_WITH.items():
            for values in objects:
                self._create(endpoint, values)
        awx = self

        class Handler(loopback.Handler):
            def do_GET(self) -> None:
                self._answer(awx._get)

            def do_POST(self) -> None:
                self._answer(awx._post)

            def do_PATCH(self) -> None:
                self._answer(awx._patch)

            def _answer(self, respond: Callable[[list[str], t.Any], tuple[int, Json]]) -> None:
                url = urllib.parse.urlsplit(self.path)
                body: t.Any = dict(urllib.parse.parse_qsl(url.query))
                if self.command != "GET":
                    body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                    awx.changes.append((self.command, url.path))
                status, value = 401, {"detail": "Authentication credentials were not provided."}
                if self.headers["Authorization"] == f"Bearer {awx.token}" and url.path.startswith(_ROOT):
                    status, value = respond(url.path.removeprefix(_ROOT).strip("/").split("/"), body)
                content = json.dumps(value).encode() if status != 204 else b""
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("X-API-Product-Name", "AWX")
                self.send_header("X-API-Product-Version", "24.6.1")
                self.end_headers()
                self.wfile.write(content)

        super().__init__(Handler)

    def named(self, endpoint: str, key: str = "name") -> dict[str, Json]:
        """All objects of a kind, by name."""
        return {one[key]: one for one in self._objects.get(endpoint, {}).values()}

    def survey(self, job_template: str) -> Json:
        """The survey of a job template."""
        return self._surveys[f"job_templates/{self.named('job_templates')[job_template]['id']}/survey_spec"]

    def associated(self, endpoint: str, number: int, what: str) -> list[int]:
        """The ids of what an object is associated with."""
        return self._associated.get(f"{endpoint}/{number}/{what}", [])

    # --- requests -----------------------------------------------------------------------------------------------------

    def _get(self, path: list[str], query: Mapping[str, str]) -> tuple[int, Json]:
        match path:
            case ["project_updates", _number]:
                return 200, {"status": "successful"}
            case [endpoint]:
                found = [self._shown(endpoint, one) for one in self._all(endpoint) if _matches(one, query)]
                return 200, {"count": len(found), "next": None, "results": found}
            case [endpoint, number]:
                return 200, self._shown(endpoint, self._objects[endpoint][int(number)])
            case [_endpoint, _number, "survey_spec"]:
                return 200, self._surveys.get("/".join(path), {})
            case [endpoint, number, what]:
                ids = self.associated(endpoint, int(number), what)
                return 200, {"count": len(ids), "next": None, "results": [{"id": one} for one in ids]}
        return 404, {}

    def _post(self, path: list[str], body: Json) -> tuple[int, Json]:
        match path:
            case [endpoint]:
                return 201, self._shown(endpoint, self._create(endpoint, body))
            case [_endpoint, _number, "survey_spec"]:
                error = problem_of_survey(body)
                if error:
                    return 400, {"error": error}
                self._surveys["/".join(path)] = body
                return 200, {}
            case [endpoint, number, "create_approval_template"]:
                made = self._create("workflow_approval_templates", body)
                self._objects[endpoint][int(number)]["unified_job_template"] = made["id"]
                return 201, self._shown("workflow_approval_templates", made)
            case [_endpoint, _number, _what]:
                ids = self._associated.setdefault("/".join(path), [])
                if body.get("disassociate"):
                    ids.remove(body["id"])
                else:
                    ids.append(body["id"])
                return 204, {}
        return 404, {}

    def _patch(self, path: list[str], body: Json) -> tuple[int, Json]:
        endpoint, number = path
        self._objects[endpoint][int(number)].update(body)
        return 200, self._shown(endpoint, self._objects[endpoint][int(number)])

    # --- objects ------------------------------------------------------------------------------------------------------

    def _create(self, endpoint: str, values: Mapping[str, t.Any]) -> Json:
        number = 1 + sum(len(objects) for objects in self._objects.values())
        if endpoint in ("organizations", "credential_types"):
            number = 1 + len(self._objects.get(endpoint, {}))
        made = {**values, "id": number}
        self._objects.setdefault(endpoint, {})[number] = made
        return made

    def _all(self, endpoint: str) -> list[Json]:
        kinds = ("job_templates", "workflow_job_templates") if endpoint == "unified_job_templates" else (endpoint,)
        return [one for kind in kinds for one in self._objects.get(kind, {}).values()]

    def _shown(self, endpoint: str, values: Json) -> Json:
        url = f"{_ROOT}{endpoint}/{values['id']}/"
        shown: Json = {**values, "url": url, "type": endpoint.removesuffix("s"), "related": {}, "summary_fields": {}}
        if "inputs" in values:
            hidden = {key: _ENCRYPTED for key in values["inputs"] if key in _SECRETS}
            shown["inputs"] = {**values["inputs"], **hidden}
        if endpoint.endswith("job_templates"):
            shown["related"]["survey_spec"] = f"{url}survey_spec/"
        if endpoint == "projects":
            shown["scm_revision"] = ""
            shown["summary_fields"]["current_update"] = {"id": values["id"]}
        if endpoint == "workflow_job_template_nodes" and values.get("unified_job_template"):
            number = values["unified_job_template"]
            kind = next(kind for kind, objects in self._objects.items() if number in objects and "templates" in kind)
            shown["related"]["unified_job_template"] = f"{_ROOT}{kind}/{number}/"
        return shown


def _matches(values: Json, query: Mapping[str, str]) -> bool:
    either = [str(values.get(key.removeprefix("or__"))) == value for key, value in query.items() if "or__" in key]
    every = [str(values.get(key)) == value for key, value in query.items() if "__" not in key]
    return all(every) and (not either or any(either))


def problem_of_survey(survey: Json) -> str:
    """What AWX says of a survey that it does not take, or nothing."""
    for key in ("name", "description", "spec"):
        if key not in survey:
            return f"'{key}' missing from survey spec."
    if not isinstance(survey["spec"], list) or not survey["spec"]:
        return "'spec' must be a list of items."
    variables = set()
    for question in survey["spec"]:
        for key in ("type", "question_name", "variable", "required"):
            if key not in question:
                return f"'{key}' missing from survey question {question}."
        kind, variable, default = question["type"], question["variable"], question.get("default", "")
        if kind not in _QUESTIONS:
            return f"'{kind}' is not a type."
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", variable) or variable in variables:
            return f"'variable' {variable} is none, or given twice."
        variables.add(variable)
        if kind.startswith("multi") and not question.get("choices"):
            return f"{variable} has no choices."
        if default != "" and not isinstance(default, _QUESTIONS[kind]):
            return f"The default of {variable} is no {kind}."
        if any(not isinstance(question.get(key, 0), int) for key in ("min", "max")):
            return f"The bounds of {variable} are no numbers."
    return ""
