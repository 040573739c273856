import { isoTime } from '@blockhost/kit/clock.ts'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { PoolName } from './allocator.ts'
import type { VmState } from './vm.ts'

/** No VM has, or had, that name. */
export function notFound(name: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_NOT_FOUND',
    message: `There is no VM ${name} in the database`,
    hint: '`vm-generator` makes one.',
    fields: { name },
  })
}

/** The name is taken. */
export function exists(name: string, state: VmState): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_EXISTS',
    message: `There is a VM ${name} already (${state})`,
    hint: 'Choose another name, or destroy that one first.',
    fields: { name, state },
  })
}

/** Another process is making it, or taking it away. */
export function busy(name: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_BUSY',
    message: `Another process is making or removing ${name}`,
    hint: 'Wait for it to end.',
    fields: { name },
    retryable: true,
  })
}

/** The state machine does not lead there. @param to - `undefined`: a change that no destroyed VM takes. */
export function wrongState(name: string, from: VmState, to: VmState | undefined): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_STATE',
    message: to === undefined ? `${name} is ${from}` : `${name} is ${from} and can't become ${to}`,
    fields: { name, from, to },
  })
}

/** Somebody paid meanwhile. */
export function notExpired(name: string, expiresAt: number): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_NOT_EXPIRED',
    message: `${name} has not expired: it is paid until ${isoTime(Math.min(expiresAt, 8.64e12) * 1000)}`,
    fields: { name, expiresAt },
  })
}

/** Nothing is left to hand out. */
export function exhausted(pool: PoolName, resting: { count: number; next: number | undefined }): BlockHostError {
  const rest =
    resting.next === undefined ? '' : ` (${resting.count} rest, the first until ${isoTime(resting.next * 1000)})`
  return new BlockHostError({
    code: 'BH_VM_POOL_EXHAUSTED',
    message: `The ${poolWords[pool]} pool is exhausted${rest}`,
    hint: `Enlarge ${poolKeys[pool]} in /etc/blockhost/db.yaml, or wait for VMs to end.`,
    fields: { pool, ...resting },
    retryable: true,
  })
}

/** The caller gave something that can't be stored. */
export function invalidInput(field: string, expected: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_VM_INPUT_INVALID',
    message: `The ${field} of a VM must be ${expected}`,
    fields: { field },
  })
}

const poolWords = { vmid: 'VM id', ipv4: 'IPv4', ipv6: 'IPv6' } as const
const poolKeys = { vmid: 'vmid_range', ipv4: 'ip_pool', ipv6: 'ipv6_pool' } as const
