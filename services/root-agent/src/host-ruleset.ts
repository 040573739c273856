import { isIpv6, privateIpv4, publicIpv6 } from '@blockhost/net/public-address.ts'
import { bridgeLinkLocal } from './seed.ts'

/** Name of the nftables table (family inet) between VMs, host and world. */
export const hostTable = 'blockhost_host'

/** What {@link renderHostTable} is made from. */
export type HostRules = {
  readonly bridge: string
  /** The VMs' IPv4 network. */
  readonly network: string
  /** The host's IPv4 address in it. */
  readonly gateway: string
  /** The host's IPv6 address in its prefix; `undefined` without one. */
  readonly hostAddress: string | undefined
  readonly tcpPorts: readonly number[]
  readonly udpPorts: readonly number[]
  /** Networks that VMs may reach although they are not public. */
  readonly allowedPrivate: readonly string[]
  readonly masquerade: boolean
}

/**
 * Renders the table in place of the one that is there. VMs reach ping and the configured ports of the host at its addresses on the
 * bridge, and the public internet; not each other, nothing private. What answers somebody else's connection goes through: only
 * packets against the direction of the first one, so that a connection of the VM's own ends when it is forbidden.
 */
export function renderHostTable(rules: HostRules): string {
  return `table inet ${hostTable}
delete table inet ${hostTable}
table inet ${hostTable} {
${renderForward(rules)}${renderInput(rules)}${rules.masquerade ? renderNat(rules) : ''}}
`
}

const isAnswer = 'ct direction reply ct state established,related accept'

function renderForward({ bridge, allowedPrivate }: HostRules): string {
  const allowed = allowedPrivate.map(network => `    ${isIpv6(network) ? 'ip6' : 'ip'} daddr ${network} accept\n`)
  const drop = 'counter drop comment "VM to a private address"'
  return `  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "${bridge}" oifname "${bridge}" counter drop comment "VM to VM"
    iifname != "${bridge}" accept
    ${isAnswer}
${allowed.join('')}    ip daddr { ${privateIpv4.join(', ')} } ${drop}
    ip6 daddr != ${publicIpv6} ${drop}
  }
`
}

function renderInput({ bridge, gateway, hostAddress, tcpPorts, udpPorts }: HostRules): string {
  const errors = 'destination-unreachable, packet-too-big, time-exceeded, parameter-problem'
  const ports = (proto: string, list: readonly number[]) =>
    list.length === 0 ? '' : `    ${proto} dport { ${list.join(', ')} } accept\n`
  const own = [bridgeLinkLocal, ...(hostAddress === undefined ? [] : [hostAddress])]
  const drop = 'counter drop comment "VM to another address of the host"'
  return `  chain input {
    type filter hook input priority 0; policy accept;
    iifname != "${bridge}" accept
    ${isAnswer}
    ip daddr != ${gateway} ${drop}
    ip6 daddr != { ${own.join(', ')}, ff02::/16 } ${drop}
    icmp type { echo-request, destination-unreachable, time-exceeded, parameter-problem } accept
    icmpv6 type { echo-request, nd-neighbor-solicit, nd-neighbor-advert, ${errors} } accept
${ports('tcp', tcpPorts)}${ports('udp', udpPorts)}    counter drop comment "VM to host"
  }
`
}

function renderNat({ bridge, network }: HostRules): string {
  return `  chain postrouting {
    type nat hook postrouting priority 100; policy accept;
    ip saddr ${network} oifname != "${bridge}" masquerade
  }
`
}
