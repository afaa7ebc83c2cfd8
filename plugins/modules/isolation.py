#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolate a container so that it can be released exactly as it was."""

from __future__ import annotations

DOCUMENTATION = r"""
module: isolation
short_description: Cut a container off, and give it back exactly as it was
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Isolates one container, and releases it again from the snapshot that was taken before.
  - The snapshot is on disk before the container is touched. Afterwards the state is read back from the engine, from the
    networks and, where the host can be read, from the network namespace of the container. Only what was found to be
    true is reported.
  - An isolated container also gets the restart policy V(no), so that a restart of the engine does not start it anew.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.retry
  - ironpost.container_guard.engine.state
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  container:
    description:
      - Full id, at least the first 12 digits of it, or exact name of the container.
      - Where one container has the id and another the name, the module refuses to choose.
      - Exactly one of O(container), O(containers), O(selector) and O(recorded) says which containers are meant. With
        O(state=released), one of O(policy), O(trace) and O(since) is enough.
    type: str
  containers:
    description: Ids or names of several containers, each as for O(container).
    type: list
    elements: str
  selector:
    description:
      - Every container of the host that matches. Each list that is given must match, by one of its entries. A blank
        entry is an error.
      - With O(state=released), only those that are isolated. One that cannot be read, or whose entry in the journal
        cannot, is an error.
    type: dict
    suboptions:
      container_names:
        description: Globs for the name.
        type: list
        elements: str
      image_patterns:
        description: Globs for the image reference as given, or in its short form.
        type: list
        elements: str
      images:
        description:
          - Images, each by its id (12 digits or more), by a digest (C(sha256:...), with or without its repository) or
            by a reference without globs such as C(shop:4.2).
          - A reference means the image that has that tag on the host now, and also containers that were made by that
            name from the image that had it before. RV(results[].matched_by) tells them apart.
          - Asks the engine for C(GET) C(/images/json).
        type: list
        elements: str
      labels:
        description: Labels, as C(key) or C(key=glob).
        type: list
        elements: str
      exclude:
        description: Containers that match any of these lists are left alone.
        type: dict
        suboptions:
          container_names:
            description: Globs for the name.
            type: list
            elements: str
          image_patterns:
            description: Globs for the image reference as given, or in its short form.
            type: list
            elements: str
          images:
            description: Images, as above.
            type: list
            elements: str
          labels:
            description: Labels, as C(key) or C(key=glob).
            type: list
            elements: str
  recorded:
    description:
      - Every container that the journal says is isolated.
      - With O(state=isolated), what somebody undid is done again, and a container that took the name of an isolated one
        is isolated in its place; a release that was interrupted is brought to its end. With O(state=released), all are
        given back that are isolated for their own sake, or that a release that was interrupted has left to nobody.
    type: bool
  state:
    description:
      - V(isolated) cuts the container off. What holds already is left alone; what somebody undid meanwhile is done
        again.
      - V(released) gives it back as it was. Networks that are gone, and addresses and ports that others took meanwhile,
        are found out before anything is touched. What somebody else changed on it meanwhile is left so, and told in
        RV(conflicts). A container that the guard did not isolate is left as it is; where it is cut off nevertheless,
        the release is refused.
      - A release takes what people and policies asked for. Where another isolated container needs its network off, that
        stays so, and the module fails and says for which one. Where giving back fails halfway, it is cut off again.
      - A release by name forgets the isolations of containers that had the name and are gone. Each has a result of its
        own.
      - A release is remembered for a week. An alert that was received before it does not isolate the container again.
      - V(approved) does what a policy wants with C(approval) and waits for on the containers that are meant; V(refused)
        decides that it is not done, and the container stays held as it is. Of a refused one it can still be approved
        until the wish lapses. Later alerts of the policy do not ask again while it holds the container. A container on
        which nothing waits is an error where it is named.
    type: str
    choices: [isolated, released, approved, refused]
    default: isolated
  actions:
    description:
      - What to do. Without it, the container is paused and leaves all networks.
      - They are done in the order that loses least, whatever order they are given in; pause first, kill last.
      - Actions add to those that hold already. To hold fewer, release it first.
      - An action may be text, which is its O(actions[].type).
      - Not with O(state=released) or O(recorded).
    type: list
    elements: dict
    suboptions:
      type:
        description:
          - V(pause) freezes every process. It works at once and on every running container, but the kernel still
            answers pings and TCP connects, and it does not survive a restart of the engine without live-restore.
          - V(network_disconnect) takes the container off its networks. It survives restarts. Ports that the container
            publishes stay reachable as long as it is on any network. It does not work on containers that use the
            network of the host. For one that uses the network of another container, that one is taken off, and all
            that use it with it.
          - V(stop) ends it. What it holds in memory is lost. It cannot be combined with V(pause), and is refused for
            containers that the engine removes when they end, unless with O(force).
          - V(kill) ends it at once, also when it is paused. Otherwise as V(stop).
        type: str
        choices: [network_disconnect, pause, stop, kill]
        required: true
      networks:
        description: For V(network_disconnect), globs for names of networks to leave. Without it, all.
        type: list
        elements: str
      grace:
        description: For V(stop), seconds from the signal to the kill, from V(0) to V(300). Without it, V(10).
        type: int
  release_after:
    description:
      - Seconds, or a duration such as V(2h), after which a run with O(expired_only) ends what was asked for, up to a
        year. V(0), or nothing, for never.
      - Of several requests of a person, or of one policy, the one that ends last holds. What others hold up stays.
      - Not with O(state=released).
    type: int
  restart:
    description:
      - End the processes of the container before it comes back on its networks, and start it anew, so that no session
        of before goes on. What it holds in memory is lost.
      - Only with O(state=released). Refused for containers that the engine removes when they end.
    type: bool
  expired_only:
    description:
      - End only what was to end by now, by its O(release_after). With O(policy), O(trace) or O(since), what meets all.
      - Only with O(state=released).
    type: bool
  recreate_networks:
    description:
      - With O(state=released), make networks anew that are gone, as they were described when the container left them. A
        prune removes a network that nobody is on.
      - Without it, the release is refused where a network is gone.
    type: bool
  policy:
    description:
      - With O(state=released), end only what the policy with this id asked for, on the containers that are meant; by
        itself, on all containers that it isolated. What others hold up stays, also where a container is gone.
      - With O(state=approved) or O(state=refused), decide only on what this policy wants; by itself, on all containers
        on which it waits.
      - Try it in check mode first.
    type: str
  trace:
    description: As O(policy), for the alert or the request with this trace id, by which its isolation began. One that
      found it isolated for the same policy already began none.
    type: str
  since:
    description: As O(policy), for what was asked for at this moment or later. RFC 3339.
    type: str
  force:
    description:
      - Isolate containers that are protected, and end containers that the engine then removes. With
        O(state=approved), end such.
      - With O(state=released), forget the isolation of containers that no longer exist, and give back also what cannot
        be given back in full.
    type: bool
    default: false
  policy_set:
    description:
      - File on the host that M(ironpost.container_guard.policy_set) put in place. The containers that it protects are
        refused unless with O(force).
      - Where the file does not exist, the module fails with the kind V(policy_set_missing) before anything is touched.
        At the default path that means that none is deployed. Then only parts of the guard itself are protected, and a
        warning says so where a container was isolated.
      - Not read with O(state=released) or O(force), which ask for no protection.
      - "Parts of the guard are: containers with the label C(container-guard.part), the one that this module runs in,
        and the one that publishes the port of O(docker_host)."
    type: path
    default: /etc/container-guard/policy_set.json
  fail_on_error:
    description: Whether the module fails, with all results, when one of the containers could not be worked on.
    type: bool
    default: true
  reason:
    description: Why, for the journal and the action log. At most 1024 characters are kept.
    type: str
    default: ''
  trace_id:
    description:
      - Identifier that ties this run to an alert or a ticket, at most 128 letters, digits and any of C(._:-).
      - Without it, a UUID is made.
    type: str
    default: ''
  actor:
    description: Who asks for it, for the journal and the action log. At most 128 characters are kept.
    type: str
    default: ''
  controller_time:
    description:
      - The time on the controller, RFC 3339, so that a release and the alerts of before are compared by one clock. A
        task need not say it.
    type: str
seealso:
  - module: ironpost.container_guard.isolation_info
  - module: ironpost.container_guard.alert_response
"""

EXAMPLES = r"""
- name: Cut a container off
  ironpost.container_guard.isolation:
    container: web-1
    reason: "INC-4711: shell in the shop front end"

- name: Keep it running, but take it off the networks of the databases
  ironpost.container_guard.isolation:
    container: 6bc1b4be90d6
    actions:
      - type: network_disconnect
        networks: ["database-*"]

- name: Give it back in the morning
  ironpost.container_guard.isolation:
    container: web-1
    state: released

- name: Cut off everything that was made from an image, for an hour
  ironpost.container_guard.isolation:
    selector:
      image_patterns: ["registry.example.com/shop:4.2*"]
      exclude:
        labels: ["role=canary"]
    release_after: 3600

- name: Give back what was to end by now, for a timer
  ironpost.container_guard.isolation:
    recorded: true
    expired_only: true
    state: released

- name: Undo what a policy did by mistake
  ironpost.container_guard.isolation:
    policy: quarantine-shells
    since: "2026-04-05T12:00:00Z"
    state: released
    actor: "{{ lookup('ansible.builtin.env', 'USER') }}"

- name: Do again what somebody undid
  ironpost.container_guard.isolation:
    recorded: true
"""

RETURN = r"""
results:
  description:
    - One for each container that is meant, or is gone and was isolated under its name, with the same keys as the module
      itself returns for O(container).
  type: list
  elements: dict
  returned: when the containers could be looked up
  contains:
    matched_by:
      description:
        - By what O(selector) matches it, V(name), V(label), V(image pattern), V(image id), V(image digest),
          V(image tag) where its image has that tag now, or V(image name) where only its own name for the image is that,
          and the tag is on another one by now. Empty otherwise.
      type: list
      elements: str
    image:
      description: Image, as the container was made by it.
      type: str
    image_id:
      description: Id of that image.
      type: str
summary:
  description: How many containers had which outcome.
  type: dict
  returned: when the containers could be looked up
  sample: {isolated: 12, refused: 1}
outcome:
  description:
    - V(isolated), V(held) (it was isolated before, and holds) and V(released) were verified. V(failed) means that it is
      not so. V(unknown) means that answers of the engine exclude each other, or that it no longer answers. V(refused)
      means that nothing was touched, V(busy) that another run is at it.
    - With any of the last four the module fails. In check mode it is V(would_isolate) or V(would_release).
  type: str
  returned: with O(container), when it was found
  sample: isolated
container:
  description: The container.
  type: dict
  returned: with O(container), when it was found
  contains:
    id:
      description: Full id.
      type: str
    name:
      description: Name without the slash.
      type: str
steps:
  description: The calls to the engine, in order.
  type: list
  elements: dict
  returned: with O(container), when it was found
  contains:
    action:
      description: V(pause), V(unpause), V(disconnect), V(connect), V(set_restart_policy), V(stop), V(kill) or V(start);
        V(isolate_network) and V(release_network) for the container whose network this one uses; V(create_network).
      type: str
    detail:
      description: Network, restart policy or container.
      type: str
    status:
      description: V(done), V(planned) in check mode, V(failed), V(skipped), or V(unknown) where no answer came in time.
      type: str
    duration:
      description: Milliseconds.
      type: float
    message:
      description: What the engine said, where the step was not done.
      type: str
before:
  description: State before.
  type: dict
  returned: with O(container), when it was found
  sample: {networks: [front], paused: false, restart_policy: always, running: true}
after:
  description: State afterwards, as read back; in check mode as predicted.
  type: dict
  returned: with O(container), when it was found
  sample: {networks: [], paused: true, restart_policy: 'no', running: true}
error:
  description: What went wrong, or V(none). Of several containers, the first error.
  type: dict
  returned: with O(container), or when something went wrong
  contains:
    kind:
      description: Stable name, such as V(not_found), V(ambiguous), V(engine_unreachable), V(engine_forbidden),
        V(refused), V(protected), V(container_gone), V(busy), V(still_held), V(not_claimed), V(not_in_journal),
        V(policy_set_missing) or V(policy_set_damaged).
      type: str
    message:
      description: What failed, and on what.
      type: str
    remedy:
      description: What to do.
      type: str
not_restored:
  description: What the engine chose anew on release and nothing can pin, such as dynamic addresses, and what went with
    the interfaces, such as routes and sysctls; what, before, after.
  type: list
  elements: dict
  returned: with O(container), when it was found
conflicts:
  description: What somebody else changed while the container was isolated, and the release left so; what, before,
    found.
  type: list
  elements: dict
  returned: with O(container), when it was found
claims:
  description: Who wants the container held now.
  type: list
  elements: dict
  returned: with O(container), when it was found
  contains:
    kind:
      description: V(person), V(policy), or V(sharer) for an isolated container that uses its network.
      type: str
    subject:
      description: Id of the policy or of the sharer.
      type: str
    actions:
      description: What it wants held up.
      type: list
      elements: str
    since:
      description: Since when, RFC 3339.
      type: str
    expires_at:
      description: When it ends, RFC 3339, or empty.
      type: str
    reason:
      description: Why.
      type: str
    trace_id:
      description: Of the alert or the request.
      type: str
    alert_id:
      description: Of the alert, or empty.
      type: str
    policy_id:
      description: Of the policy, or empty.
      type: str
    actor:
      description: Who asked for it, as claimed.
      type: str
    approval:
      description: What it wants beyond that and waits for, or that was decided on, or V(none), as in
        C(responses[].event.approval) of M(ironpost.container_guard.alert_response).
      type: dict
    intended:
      description: Id of the line of the action log that was written before acting, or empty.
      type: str
orchestrator:
  description: The labels by which compose or swarm know the container. They may start it or put another in its place.
  type: dict
  returned: with O(container), when it was found
expires_at:
  description: When the last of what people and policies asked for ends by O(release_after), RFC 3339, or empty.
  type: str
  returned: with O(container), when it was found
unsupported:
  description: Actions that this engine can never do, such as V(pause) without a freezer, where that is why it failed.
  type: list
  elements: str
  returned: with O(container), when it was found
sessions_may_resume:
  description: After a release, TCP sessions that were open before may go on, with whatever was queued in them.
  type: bool
  returned: with O(container), when it was found
trace_id:
  description: The identifier of this run.
  type: str
  returned: when the containers could be looked up
event_id:
  description: Id of the record in the action log; empty where nothing was done.
  type: str
  returned: with O(container), when it was found
started_at:
  description: When work began, RFC 3339.
  type: str
  returned: with O(container), when it was found
acted_at:
  description: When the last step returned, or empty.
  type: str
  returned: with O(container), when it was found
verified_at:
  description: When the outcome was verified, or empty.
  type: str
  returned: with O(container), when it was found
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.isolation import main

if __name__ == "__main__":
    main()
