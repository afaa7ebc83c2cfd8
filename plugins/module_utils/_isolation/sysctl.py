# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names of the sysctls of an interface, in the order and the units in which the kernel tells them over rtnetlink.

Both are part of its interface to programs (linux/ip.h, linux/ipv6.h, linux/neighbour.h), and only grow.
"""

from __future__ import annotations

import sys
import typing as t

IPV4, IPV6 = "net.ipv4.conf", "net.ipv6.conf"
IPV4_NEIGHBOURS, IPV6_NEIGHBOURS = "net.ipv4.neigh", "net.ipv6.neigh"

_IPV4 = """
forwarding mc_forwarding proxy_arp accept_redirects secure_redirects send_redirects shared_media rp_filter
accept_source_route bootp_relay log_martians tag arp_filter medium_id disable_xfrm disable_policy force_igmp_version
arp_announce arp_ignore promote_secondaries arp_accept arp_notify accept_local src_valid_mark proxy_arp_pvlan
route_localnet igmpv2_unsolicited_report_interval igmpv3_unsolicited_report_interval ignore_routes_with_linkdown
drop_unicast_in_l2_multicast drop_gratuitous_arp bc_forwarding arp_evict_nocarrier
""".split()  # noqa: SIM905 - as a list, each name takes a line
_IPV6 = """
forwarding hop_limit mtu accept_ra accept_redirects autoconf dad_transmits router_solicitations
router_solicitation_interval router_solicitation_delay use_tempaddr temp_valid_lft temp_prefered_lft regen_max_retry
max_desync_factor max_addresses force_mld_version accept_ra_defrtr accept_ra_pinfo accept_ra_rtr_pref
router_probe_interval accept_ra_rt_info_max_plen proxy_ndp optimistic_dad accept_source_route mc_forwarding disable_ipv6
accept_dad force_tllao ndisc_notify mldv1_unsolicited_report_interval mldv2_unsolicited_report_interval
suppress_frag_ndisc accept_ra_from_local use_optimistic accept_ra_mtu stable_secret use_oif_addrs_only
accept_ra_min_hop_limit ignore_routes_with_linkdown drop_unicast_in_l2_multicast drop_unsolicited_na keep_addr_on_down
router_solicitation_max_interval seg6_enabled seg6_require_hmac enhanced_dad addr_gen_mode disable_policy
accept_ra_rt_info_min_plen ndisc_tclass rpl_seg_enabled ra_defrtr_metric ioam6_enabled ioam6_id ioam6_id_wide
ndisc_evict_nocarrier accept_untracked_na accept_ra_min_lft force_forwarding
""".split()  # noqa: SIM905 - as a list, each name takes a line
# What the kernel chooses by itself (reachable_time), and what follows from others (unres_qlen), is left out.
_NEIGHBOURS = """
base_reachable_time_ms retrans_time_ms gc_stale_time delay_first_probe_time app_solicit ucast_solicit mcast_solicit
anycast_delay proxy_delay proxy_qlen locktime unres_qlen_bytes mcast_resolicit interval_probe_time_ms
""".split()  # noqa: SIM905 - as a list, each name takes a line
_NEIGHBOUR_NUMBERS = (4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 19)
_NAMES = {IPV4: _IPV4, IPV6: _IPV6, IPV4_NEIGHBOURS: _NEIGHBOURS, IPV6_NEIGHBOURS: _NEIGHBOURS}
# rtnetlink tells all times in milliseconds. As sysctls these are in seconds, or in hundredths of one.
_SECONDS = {
    *("router_solicitation_interval", "router_solicitation_delay", "router_solicitation_max_interval"),
    *("router_probe_interval", "gc_stale_time", "delay_first_probe_time"),
}
_HUNDREDTHS = {"anycast_delay", "proxy_delay", "locktime"}
_UNSIGNED = 0xFFFFFFFF


def of_neighbours(values: t.Mapping[int, bytes]) -> list[int]:
    """What is set for neighbours, in the order of the names; 0 for what an older kernel lacks."""
    return [int.from_bytes(values.get(number, b""), sys.byteorder) for number in _NEIGHBOUR_NUMBERS]


def name_of(kind: str, interface: str, index: int) -> str:
    """Its full name, or its number where that is newer than this list."""
    return f"{kind}.{interface}.{_leaf(kind, index)}"


def shown(kind: str, index: int, value: int) -> str:
    """A value as the sysctl shows it."""
    leaf = _leaf(kind, index)
    unit = 1000 if leaf in _SECONDS else 10 if leaf in _HUNDREDTHS else 1
    return str(value // unit if value > 0 else value & _UNSIGNED if leaf == "ioam6_id_wide" else value)


def _leaf(kind: str, index: int) -> str:
    names = _NAMES.get(kind, [])
    return names[index] if index < len(names) else f"#{index}"
