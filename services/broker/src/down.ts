import type { Clock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import { takeLock } from '@blockhost/kit/lock.ts'
import type { Log } from '@blockhost/kit/log.ts'
import type { BrokerConfig } from './config.ts'
import { createDataplane } from './dataplane.ts'

/**
 * Removes the interface, the firewall table and the NDP answers that a stopped daemon leaves in force. The database stays as it is:
 * the next start puts everything back.
 *
 * @throws {BlockHostError} `BH_ALREADY_RUNNING` (exit 75) while the daemon runs; retryable errors of the tools.
 */
export async function takeDown(config: BrokerConfig, deps: { clock: Clock; log: Log }): Promise<void> {
  using _lock = takeLock(config.databasePath, 'blockhost-broker')
  const dataplane = createDataplane({ ...config, ...config.wireguard }, { ...deps, exec: createExec() })
  await dataplane.close({ removeInterface: true })
}
