import { parseAddress } from '@blockhost/net/prefix.ts'
import { eui64LinkLocal } from './seed.ts'
import { tapName, tapPrefix } from './vm-files.ts'

/** What a VM may be on the network. */
export type VmNetwork = {
  readonly name: string
  readonly mac: string
  readonly ipv4: string
  readonly ipv6: string | undefined
}

/** Name of the nftables table (family bridge) that keeps VMs to their own addresses and away from each other. */
export const vmTable = 'blockhost_vms'

/**
 * Renders what all VMs share; may run at any time, as nothing in it is emptied but its own rules. A port of a VM that has no rules of
 * its own is closed.
 */
export function renderVmBase(): string {
  const table = `bridge ${vmTable}`
  return `add table ${table}
add map ${table} from_vm { type ifname : verdict; }
add map ${table} to_vm { type ifname : verdict; }
add chain ${table} prerouting { type filter hook prerouting priority -300; policy accept; }
add chain ${table} forward { type filter hook forward priority -200; policy accept; }
add chain ${table} postrouting { type filter hook postrouting priority 300; policy accept; }
flush chain ${table} prerouting
flush chain ${table} forward
flush chain ${table} postrouting
add rule ${table} prerouting iifname vmap @from_vm
add rule ${table} prerouting iifname "${tapPrefix}*" counter drop comment "VM without addresses"
add rule ${table} forward iifname "${tapPrefix}*" oifname "${tapPrefix}*" counter drop comment "VM to VM"
add rule ${table} postrouting oifname vmap @to_vm
add rule ${table} postrouting oifname "${tapPrefix}*" counter drop comment "VM without addresses"
`
}

/** Renders the rules of one VM, in place of what it had. */
export function renderVmRules(vm: VmNetwork): string {
  const tap = tapName(vm.name)
  const chains = [`bridge ${vmTable} from_${tap}`, `bridge ${vmTable} to_${tap}`] as const
  return [
    ...chains.flatMap(chain => [`add chain ${chain}`, `flush chain ${chain}`]),
    ...fromVm(vm).map(rule => `add rule ${chains[0]} ${rule}`),
    ...toVm(vm).map(rule => `add rule ${chains[1]} ${rule}`),
    `add element bridge ${vmTable} from_vm { "${tap}" : jump from_${tap} }`,
    `add element bridge ${vmTable} to_vm { "${tap}" : jump to_${tap} }`,
    '',
  ].join('\n')
}

/** Renders the removal of one VM's rules; fine when there are none. */
export function renderVmRemoval(name: string): string {
  const tap = tapName(name)
  const parts = ['from', 'to'] as const
  // What is not there can't be deleted, so it is added first.
  return [
    ...parts.flatMap(part => [
      `add chain bridge ${vmTable} ${part}_${tap}`,
      `add element bridge ${vmTable} ${part}_vm { "${tap}" : jump ${part}_${tap} }`,
      `delete element bridge ${vmTable} ${part}_vm { "${tap}" : jump ${part}_${tap} }`,
      `flush chain bridge ${vmTable} ${part}_${tap}`,
      `delete chain bridge ${vmTable} ${part}_${tap}`,
    ]),
    '',
  ].join('\n')
}

/** What a VM may send: ARP and IPv4 from its address, IPv6 from its address, neighbour discovery about itself. Never router advertisements. */
function fromVm({ mac, ipv4, ipv6 }: VmNetwork): string[] {
  const rules = [
    `ether saddr != ${mac} counter drop comment "forged Ethernet address"`,
    `ether type arp arp saddr ether ${mac} arp saddr ip ${ipv4} accept`,
    `ether type ip ip saddr ${ipv4} accept`,
  ]
  if (ipv6 !== undefined) rules.push(...ipv6FromVm(ipv6, eui64LinkLocal(mac)))
  return [...rules, 'counter drop comment "forged address"']
}

function ipv6FromVm(ipv6: string, linkLocal: string): string[] {
  const reports = 'mld-listener-report, mld2-listener-report'
  return [
    'ether type ip6 icmpv6 type { nd-router-advert, nd-redirect } counter drop comment "VM as a router"',
    `ether type ip6 icmpv6 type nd-neighbor-advert @th,64,128 != ${number(ipv6)} @th,64,128 != ${number(linkLocal)} counter drop comment "forged neighbour"`,
    `ether type ip6 ip6 saddr ${ipv6} accept`,
    `ether type ip6 ip6 saddr ${linkLocal} icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit, ${reports} } accept`,
    `ether type ip6 ip6 saddr :: icmpv6 type { nd-neighbor-solicit, ${reports} } accept`,
  ]
}

/** What reaches a VM: what is sent to it, and questions about its addresses; nothing of its neighbours. */
function toVm({ mac, ipv4, ipv6 }: VmNetwork): string[] {
  const solicited = ipv6 === undefined ? [] : [ipv6, eui64LinkLocal(mac)]
  return [
    `ether type arp arp daddr ip ${ipv4} accept`,
    'ether type arp counter drop',
    `ether daddr ${mac} accept`,
    ...solicited.map(address => `ether type ip6 icmpv6 type nd-neighbor-solicit @th,64,128 ${number(address)} accept`),
    'counter drop comment "not for this VM"',
  ]
}

/** An address as nft takes it in a raw payload match: the target of a neighbour message has no name in nft 1.0.6. */
function number(ipv6: string): string {
  return `0x${parseAddress(ipv6)!.toString(16).padStart(32, '0')}`
}
