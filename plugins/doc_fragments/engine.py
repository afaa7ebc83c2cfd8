# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation that the modules share: options of the Docker engine."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments C(ironpost.container_guard.engine), with C(.retry) and C(.state)."""

    DOCUMENTATION = r"""
options:
  docker_host:
    description:
      - Where the Docker engine listens, as C(unix:///path) or C(tcp://host:port).
      - Without it, the environment variable E(DOCKER_HOST) of the host counts.
    type: str
    default: unix:///var/run/docker.sock
    aliases: [docker_url]
  action_timeout:
    description:
      - How long one call to the engine may take, in seconds, from V(1) to V(300).
      - A call that takes longer may still be carried out. The state is then read back before anything is reported.
    type: int
    default: 30
requirements:
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
  - The docker SDK for Python for it, 7.1 or newer. An older one needs requests before 2.32, before 6.1 also urllib3
    before 2, and before 6 also Python before 3.12
  - A Docker Engine. Podman is recognised and refused, as it does not tell which networks a container is really on
notes:
  - The user must be allowed to use the socket of the Docker engine, commonly with
    C(become).
  - "Calls to the engine that a socket proxy must let through: C(GET) C(/version), C(/containers/json),
    C(/containers/{id}/json) and C(/networks/{id}); C(POST) C(/containers/{id}/pause), C(unpause), C(update), C(stop),
    C(kill) and C(start), C(/networks/{id}/connect) and C(disconnect)."
  - "To collect evidence also, as far as it is wanted: C(GET) C(/containers/{id}/top), C(stats), C(changes), C(logs),
    C(archive) and C(export)."
"""

    STATE = r"""
options:
  state_dir:
    description:
      - Directory on the host that holds the journal of isolations, the action log, the evidence and the mutes. It is
        made with mode C(0700).
      - A container can be released only with the directory that was used to isolate it.
    type: path
    default: /var/lib/container-guard
notes:
  - The user must be allowed to write to O(state_dir), commonly with C(become).
"""

    RETRY = r"""
options:
  retry_max_attempts:
    description:
      - How often to try again, from V(0) to V(10), where the engine does not answer or has an accident of its own. The
        state is read back before each attempt.
    type: int
    default: 3
  retry_backoff_base:
    description:
      - Milliseconds before the second attempt, from V(0) to V(30000). The wait doubles with each attempt, up to half a
        minute, and is shortened by up to a half at random.
    type: int
    default: 500
  max_concurrent_actions:
    description: How many containers are worked on at the same time, from V(1) to V(100).
    type: int
    default: 10
"""
