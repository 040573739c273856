import type { Exec } from '@blockhost/kit/exec.ts'
import { z } from 'zod'
import { defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { int, port } from './params.ts'

const target = {
  port,
  proto: z.enum(['tcp', 'udp'], { error: 'expected tcp or udp' }),
  comment: z.string().regex(/^[a-zA-Z\d-]{1,64}$/, 'expected up to 64 letters, digits, "-"'),
}

/**
 * `iptables-open {port, proto, comment, seconds?}`: opens a knock port for new connections, for `seconds` if given, else until it is
 * closed. Only the ports that firewall.knock_ports lists. Again is fine: it sets comment and time anew.
 */
export const iptablesOpen = defineAction({
  schema: z.strictObject({ ...target, seconds: int(1, 86_400).optional() }),
  timeoutMs: 10_000,
  lane: 'network',
  async run({ port, proto, comment, seconds }, { host, exec }) {
    checkPort(host, port)
    await ensureKnockTable(host, exec)
    const key = `${proto} . ${port}`
    const timeout = seconds === undefined ? '' : ` timeout ${seconds}s`
    await applyKnock(
      exec,
      `${removal(key)}add element inet ${knockTable} open { ${key}${timeout} comment "${comment}" }\n`,
    )
    return {}
  },
})

/** `iptables-close {port, proto, comment}`: one that is closed is fine. Connections that exist go on. */
export const iptablesClose = defineAction({
  schema: z.strictObject(target),
  timeoutMs: 10_000,
  lane: 'network',
  async run({ port, proto }, { host, exec }) {
    checkPort(host, port)
    await ensureKnockTable(host, exec)
    await applyKnock(exec, removal(`${proto} . ${port}`))
    return {}
  },
})

/** Name of the nftables table (family inet) of the knock ports. */
export const knockTable = 'blockhost_knock'

/**
 * Makes the table if it is not there as configured; what is open stays open. Knock ports that are not opened are closed for new
 * connections from outside; the loopback interface is not asked.
 */
export async function ensureKnockTable(host: Host, exec: Exec): Promise<void> {
  const ports = host.config.firewall.knock_ports
  if (ports.length > 0) await applyKnock(exec, renderKnockTable(ports))
}

/** Renders the table; the set of open ports is only added, never emptied. */
export function renderKnockTable(ports: readonly number[]): string {
  const chain = `inet ${knockTable} input`
  return `add table inet ${knockTable}
add set inet ${knockTable} open { type inet_proto . inet_service; flags timeout; }
add chain ${chain} { type filter hook input priority -10; policy accept; }
flush chain ${chain}
add rule ${chain} iifname "lo" accept
add rule ${chain} ct state established,related accept
add rule ${chain} meta l4proto . th dport @open accept
add rule ${chain} meta l4proto { tcp, udp } th dport { ${[...new Set(ports)].join(', ')} } counter drop comment "knock port that is not open"
`
}

/** An element that is not there can't be deleted, so it is added first; it may be there with another comment. */
function removal(key: string): string {
  return `add element inet ${knockTable} open { ${key} }\ndelete element inet ${knockTable} open { ${key} }\n`
}

async function applyKnock(exec: Exec, script: string): Promise<void> {
  await exec('nft', ['-f', '-'], { input: script })
}

function checkPort({ config }: Host, wanted: number): void {
  if (!config.firewall.knock_ports.includes(wanted))
    throw refused(`port: ${wanted} is not one of firewall.knock_ports in root-agent.toml`)
}
