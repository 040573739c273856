import { z } from 'zod'
import type { ActionContext } from './action.ts'
import { vmRouteProtocol } from './routes.ts'

/**
 * Behind every other route, and not the number that broker-client's `wg-quick` file uses: that one goes with the tunnel, ours stays.
 */
const metric = 2_147_483_646

/**
 * Returns `ip route` words for the host's whole prefix. What no VM has is answered with "unreachable" here. Without it such a packet
 * would follow the default route, which may be the tunnel that it came by, and go to and fro until its hop limit ends it.
 */
export function unusedRoute(prefix: string): string {
  return `unreachable ${prefix} dev lo metric ${metric} proto ${vmRouteProtocol}`
}

/** Takes the routes of prefixes away that the host had before: their addresses are somebody else's now. */
export async function forgetOldPrefixes({ host, exec }: ActionContext): Promise<void> {
  const prefix = host.findAllocation()?.prefix
  const ours = ['type', 'unreachable', 'proto', String(vmRouteProtocol)]
  const { stdout } = await exec('ip', ['-6', '-j', 'route', 'show', ...ours])
  const found = routesSchema.parse(JSON.parse(stdout.trim() || '[]'))
  const prefixes = found.map(({ dst }) => (dst.includes('/') ? dst : `${dst}/128`))
  for (const old of prefixes.filter(other => other !== prefix))
    await exec('ip', ['-6', 'route', 'del', ...unusedRoute(old).split(' ')])
}

const routesSchema = z.array(z.looseObject({ dst: z.string() }))
