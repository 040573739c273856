import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { isInterfaceName } from '@blockhost/net/link.ts'
import { decideNdpMode, kernelAddressLimit, type NdpDecision } from '@blockhost/net/ndp.ts'
import { complementOfFirst, type Prefix, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import type { FirewallConfig } from '@blockhost/net/ruleset.ts'
import { publicKeyOf } from '@blockhost/net/wireguard.ts'
import type { DataplaneConfig } from './dataplane.ts'

/** The configuration of the data plane, parsed, with everything that follows from it alone. */
export type DataplanePlan = {
  readonly interface: string
  readonly listenPort: number
  readonly privateKeyFile: string
  readonly publicKey: string
  readonly upstream: Prefix
  readonly allocationSize: number
  readonly brokerAddress: bigint
  /** The interface on which the upstream asks for addresses; `undefined` when it routes them to us. */
  readonly ndpInterface: string | undefined
  /** Interface towards the upstream as far as it is known. */
  readonly upstreamInterface: string | undefined
  readonly ndp: NdpDecision
  /** Most leases that can be carried; `Infinity` but in kernel NDP mode. */
  readonly leaseLimit: number
  /** The prefixes that lead into the tunnel: the upstream prefix without sub-prefix 0 (docs/decisions/0001-covering-routes.md). */
  readonly coveringRoutes: readonly Prefix[]
  readonly firewall: FirewallConfig
  readonly runtimeFolder: string
}

/**
 * Parses and checks the configuration and reads the private key.
 *
 * @param hasProgram - Tells whether a program is installed.
 * @throws {BlockHostError} `BH_DATAPLANE_CONFIG_INVALID`, `BH_WIREGUARD_KEY_INVALID`, `BH_FILE_READ_FAILED` (all exit 78).
 */
export function prepareDataplane(config: DataplaneConfig, hasProgram: (name: string) => boolean): DataplanePlan {
  const { interface: name, upstreamInterface, allocationSize, listenPort } = config
  const upstream = parsePrefix(config.upstreamPrefix) ?? invalid(`${config.upstreamPrefix} is no IPv6 prefix`)
  const brokerAddress = parseAddress(config.brokerAddress) ?? invalid(`${config.brokerAddress} is no IPv6 address`)
  if (!isInterfaceName(name)) invalid(`${JSON.stringify(name)} can't name an interface`)
  if (upstreamInterface !== undefined && !isInterfaceName(upstreamInterface))
    invalid(`${JSON.stringify(upstreamInterface)} can't name an interface`)
  if (upstreamInterface === name) invalid(`${name} can't be both the tunnel and the upstream interface`)
  if (!Number.isInteger(allocationSize) || allocationSize <= upstream.length || allocationSize > 128)
    invalid(`no lease of /${allocationSize} fits into ${config.upstreamPrefix} beside the broker's own`)
  const ports = config.allowedTcpPortsFromTunnel ?? []
  for (const port of [...ports, listenPort]) if (!isPort(port)) invalid(`${port} is no port`)
  const ndp = decideNdpMode({
    wanted: config.ndpMode,
    upstreamInterface,
    upstream,
    allocationSize,
    hasNdppd: hasProgram('ndppd'),
  })
  if (!ndp.ok) return invalid(ndp.problem)
  const ndpInterface = ndp.value.mode === 'routed' ? undefined : upstreamInterface
  return {
    interface: name,
    listenPort,
    privateKeyFile: config.privateKeyFile,
    publicKey: publicKeyOf(
      readTextFile(config.privateKeyFile, { what: 'WireGuard private key', maxBytes: 1024 }).trim(),
    ),
    upstream,
    allocationSize,
    brokerAddress,
    ndpInterface,
    upstreamInterface,
    ndp: ndp.value,
    leaseLimit: ndp.value.mode === 'kernel' ? kernelAddressLimit >> (128 - allocationSize) : Number.POSITIVE_INFINITY,
    coveringRoutes: complementOfFirst(upstream, allocationSize),
    firewall: {
      interface: name,
      upstream,
      allocationSize,
      allowedTcpPorts: ports,
      ndp:
        ndp.value.mode === 'ndppd' && ndpInterface !== undefined
          ? { interface: ndpInterface, brokerAddress }
          : undefined,
    },
    runtimeFolder: config.runtimeFolder ?? '/run/blockhost-broker',
  }
}

/** Says that no more leases can be carried in kernel NDP mode. */
export function ndpLimitReached(plan: DataplanePlan, wanted: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_NDP_LIMIT',
    message: `${wanted} leases of /${plan.allocationSize} are more than the ${plan.leaseLimit} that NDP mode kernel can carry`,
    hint: 'Install ndppd and set ndp_mode to "auto" or "ndppd", or let the upstream route the prefix.',
    fields: { wanted, limit: plan.leaseLimit },
  })
}

/** Says why the configuration can't be used. */
function invalid(problem: string): never {
  throw new BlockHostError({
    code: 'BH_DATAPLANE_CONFIG_INVALID',
    message: `The network can't be set up: ${problem}`,
    hint: 'Correct the [broker] and [wireguard] sections of the configuration.',
    exitCode: exitCodes.badConfig,
  })
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 65_535
}
