import type { DataplaneLease } from '@blockhost/broker/dataplane.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchGroup } from './figure.ts'
import { answer, createCountedDataplane, firstLeases, makeUpstream, runInside } from './inside.ts'

/** How many processes it takes to make one /120 lease reachable. */
export const activate: BenchGroup = {
  keys: ['activate.processes.kernel', 'activate.processes.ndppd'],
  async run() {
    await using machine = await startMachine({ name: 'bench-activate' })
    await makeUpstream(machine)
    const started = await runInside<Started>(machine, import.meta.filename, {}, 60_000)
    const figure = (mode: keyof Started, limit: number) => ({
      value: started[mode].length,
      unit: 'processes',
      limit,
      comparedWith: `the first generation: 258; here ${started[mode].map(argv => argv.split(' ')[0]).join(', ')}`,
    })
    return { 'activate.processes.kernel': figure('kernel', 3), 'activate.processes.ndppd': figure('ndppd', 2) }
  },
}

/** Command lines by NDP mode. */
type Started = { readonly kernel: string[]; readonly ndppd: string[] }

/** What is started between "the lease is in the database" and "the lease is reachable". */
async function processesOf(ndpMode: 'kernel' | 'ndppd'): Promise<string[]> {
  const { dataplane, spawned } = createCountedDataplane({ ndpMode })
  const [lease] = firstLeases(1) as [DataplaneLease]
  try {
    await dataplane.reconcile([])
    spawned.length = 0
    await dataplane.change([{ kind: 'set', lease }])
    const started = [...spawned]
    const { changes } = await dataplane.reconcile([lease])
    if (changes.length > 0) throw new Error(`the lease was not active yet: ${changes.join('; ')}`)
    return started
  } finally {
    await dataplane.close({ removeInterface: true })
  }
}

if (import.meta.main)
  await answer(async () => ({ kernel: await processesOf('kernel'), ndppd: await processesOf('ndppd') }))
