import { readdirSync } from 'node:fs'
import type { Shop } from '../shop/shop.ts'

/** Returns everything that VMs leave on a host, one fact a line: domains, files, links, routes, neighbours, firewall. */
export async function hostFacts({ machine, hypervisor, domains }: Shop): Promise<readonly string[]> {
  const lines = async (command: string, ...args: string[]) =>
    (await machine.exec(command, args)).stdout.split('\n').filter(line => line !== '')
  return [
    ...(await domains()).map(name => `domain ${name}`),
    ...readdirSync(hypervisor.vmFolder).map(name => `file ${name}`),
    ...(await lines('ip', '-br', 'link')).map(line => `link ${line.split(/\s/)[0]}`),
    ...(await lines('ip', '-6', 'route', 'show', 'table', 'all')).map(line => `route ${line.trim()}`),
    ...(await lines('ip', 'neigh', 'show', 'nud', 'permanent')).map(line => `neighbor ${line}`),
    ...(await lines('nft', '--stateless', 'list', 'ruleset')).map(line => `firewall ${line.trim()}`),
  ].filter(line => !line.includes('ff00::/8') && !line.includes('multicast'))
}
