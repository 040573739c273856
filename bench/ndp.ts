import type { DataplaneLease } from '@blockhost/broker/dataplane.ts'
import type { NdpMode } from '@blockhost/net/ndp.ts'
import { addressAt, formatAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { createLab, type Lab } from '@blockhost/testkit/lab.ts'
import type { BenchContext, BenchGroup } from './figure.ts'
import { answer, createCountedDataplane, firstLeases, runInside } from './inside.ts'
import { median, round, timeMs } from './statistics.ts'

/** Neighbour discovery for 255 leases of /120 on a link whose router expects every address to answer. */
export const ndp: BenchGroup = {
  keys: ['ndp.activateMs', 'ndp.answerUs'],
  async run(context) {
    await using lab = await createLab()
    const documentedMs = await measureDocumented(lab)
    const kernel = await measureMode(lab, 'kernel', kernelLeaseCount, context)
    const ndppd = await measureMode(lab, 'ndppd', leaseCount, context)
    return {
      'ndp.activateMs': {
        value: round(median(ndppd.activateMs)),
        unit: 'ms',
        limit: 100,
        comparedWith: `the documented way, a process each: ${round(documentedMs)} ms (from ${documentedSample} of them); mode kernel, ${kernelAddresses} addresses: ${round(median(kernel.activateMs))} ms`,
      },
      'ndp.answerUs': {
        value: round(median(ndppd.answerUs)),
        unit: 'us',
        comparedWith: `mode kernel, ${kernelAddresses} addresses: ${round(median(kernel.answerUs))} us; an address of the broker itself: ${round(median(ndppd.ownAnswerUs))} us`,
      },
    }
  },
}

const leaseCount = 255
const addressesEach = 256n
/** As many as `auto` gives to the kernel at most. */
const kernelLeaseCount = 16
const kernelAddresses = (kernelLeaseCount * Number(addressesEach)).toLocaleString('en')

type Question = { readonly mode: NdpMode; readonly leases: readonly DataplaneLease[]; readonly keep: boolean }

/** What one NDP mode takes; every lease is taken away again at the end. */
async function measureMode(lab: Lab, mode: NdpMode, count: number, context: BenchContext) {
  context.note(`${count} leases in mode ${mode}`)
  const leases = firstLeases(count)
  const ask = (keep: boolean) => runInside<number[]>(lab.broker, import.meta.filename, { mode, leases, keep }, 90_000)
  const activateMs = await ask(true)
  const step = Math.max(1, Math.floor(count / 50))
  const served = leases.flatMap(({ prefix }, at) => (at % step === 0 ? edgesOf(prefix) : []))
  await onLoopback(lab, 'add', served)
  const answerUs = await resolveEach(lab, served)
  await lab.broker.exec('ip', ['-6', '-batch', '-'], { input: ownAddresses('add').join('') })
  const ownAnswerUs = await resolveEach(lab, own)
  await lab.broker.exec('ip', ['-6', '-batch', '-'], { input: ownAddresses('del').join('') })
  await onLoopback(lab, 'del', served)
  await ask(false)
  return { activateMs, answerUs, ownAnswerUs }
}

/** The first and the last address of a lease. */
function edgesOf(text: string): string[] {
  const prefix = parsePrefix(text)!
  return [0n, addressesEach - 1n].map(n => formatAddress(addressAt(prefix, n)))
}

/** So that somebody answers the ping; who answers the solicitation on the link is still the NDP proxy (RFC 4861: strict by interface). */
async function onLoopback(lab: Lab, verb: 'add' | 'del', addresses: readonly string[]): Promise<void> {
  const lines = addresses.map(address => `addr ${verb} ${address}/128 dev lo\n`)
  await lab.broker.exec('ip', ['-6', '-batch', '-'], { input: lines.join('') })
}

/** Addresses of the link itself, as a bare comparison: the kernel's own answer. */
const own = Array.from({ length: 50 }, (_, at) => `2001:db8:1:2::${(0x80 + at).toString(16)}`)

function ownAddresses(verb: 'add' | 'del'): string[] {
  return own.map(address => `addr ${verb} ${address}/128 dev upstream0 ${verb === 'add' ? 'nodad' : ''}\n`)
}

/**
 * How much longer the router's first packet takes to each address than its second: solicitation, answer, and the packet that waited.
 * In microseconds, one for each address.
 */
async function resolveEach(lab: Lab, addresses: readonly string[]): Promise<number[]> {
  await lab.upstream.exec('ip', ['-6', 'neigh', 'flush', 'dev', 'broker0'])
  const waited: number[] = []
  for (const address of addresses) {
    const { stdout } = await lab.upstream.exec('ping', ['-n', '-c', '2', '-i', '0.01', '-W', '2', address])
    const times = [...stdout.matchAll(/time=([\d.]+) ms/g)].map(match => Number(match[1]) * 1000)
    if (times.length !== 2) throw new Error(`nobody answered for ${address}: ${stdout}`)
    waited.push(times[0]! - times[1]!)
  }
  return waited
}

const documentedSample = 512

/** The documented way: one `ip -6 neigh add proxy` for each address; all of them would take too long here. */
async function measureDocumented(lab: Lab): Promise<number> {
  const loop = (verb: string) =>
    `i=0; while [ $i -lt ${documentedSample} ]; do ip -6 neigh ${verb} proxy 2001:db8:1:2:1::$(printf %x $i) dev upstream0; i=$((i+1)); done`
  const took = await timeMs(() => lab.broker.exec('sh', ['-c', loop('add')], { timeoutMs: 60_000 }))
  await lab.broker.exec('sh', ['-c', loop('del')], { timeoutMs: 60_000 })
  return (took / documentedSample) * leaseCount * Number(addressesEach)
}

/** Inside the broker's machine: activates all leases from nothing, three times. */
async function activateAll({ mode, leases, keep }: Question): Promise<number[]> {
  const { dataplane } = createCountedDataplane({ ndpMode: mode })
  if (!keep) {
    await dataplane.close({ removeInterface: true })
    return []
  }
  const measured: number[] = []
  for (let run = 0; run < 3; run++) {
    await dataplane.reconcile([])
    measured.push(await timeMs(() => dataplane.change(leases.map(lease => ({ kind: 'set', lease })))))
  }
  const { changes } = await dataplane.reconcile(leases)
  if (changes.length > 0) throw new Error(`not all was active: ${changes.join('; ')}`)
  return measured
}

if (import.meta.main) await answer(activateAll)
