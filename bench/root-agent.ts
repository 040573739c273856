import { mkdirSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { createExec } from '@blockhost/kit/exec.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import type { BenchGroup } from './figure.ts'
import { answer, runInside } from './inside.ts'
import { median, round, timeMs } from './statistics.ts'

/** A privileged action as its caller sees it, beside the bare command. */
export const rootAgent: BenchGroup = {
  keys: ['rootAgent.actionMs'],
  async run(context) {
    context.note('asking the root agent for routes, and setting them by hand')
    await using machine = await startMachine({ name: 'host' })
    const write = (path: string, text: string) => writeFileSync(machine.path(path), text, { mode: 0o640 })
    mkdirSync(machine.path('/etc/blockhost'), { recursive: true })
    mkdirSync(machine.path('/run/blockhost'))
    write('/etc/blockhost/root-agent.toml', "log_level = 'info'\n[socket]\ngroup = 'daemon'\n")
    write('/etc/blockhost/db.yaml', '{}\n')
    write('/etc/blockhost/broker-allocation.json', '{"prefix": "2001:db8::/64"}')
    const ready = Promise.withResolvers<void>()
    const program = fileURLToPath(new URL('../services/root-agent/src/main.ts', import.meta.url))
    const onLine = (line: string) => void (line.includes('"listening"') && ready.resolve())
    const agent = await machine.spawn([process.execPath, program], { onLine })
    await Promise.race([ready.promise, agent.ended.then(() => ready.reject(new Error(agent.lastLines().join('; '))))])
    const { ofAgent, bare } = await runInside<Times>(machine, import.meta.filename, null, 120_000)
    return {
      'rootAgent.actionMs': {
        value: round(median(ofAgent)),
        unit: 'ms',
        limit: round(median(bare) + 5),
        comparedWith: `\`ip -6 route replace\` started by the same program, taken in turns: ${round(median(bare))} ms`,
      },
    }
  },
}

type Times = { readonly ofAgent: number[]; readonly bare: number[] }

const rounds = 200
const warmUp = 20

if (import.meta.main) await answer(measure)

/** Both in turns: a slow moment of the machine hits both. */
async function measure(): Promise<Times> {
  const exec = createExec()
  const times: Times = { ofAgent: [], bare: [] }
  for (let at = -warmUp; at < rounds; at++) {
    const address = `2001:db8::${(1000 + at).toString(16)}/128`
    const request = { action: 'ip6-route-add', params: { address, dev: 'br-blockhost' } }
    const route = ['-6', 'route', 'replace', address, 'dev', 'br-blockhost', 'proto', '177']
    const ofAgent = await timeMs(async () => {
      const reply = await callFrame('/run/blockhost/root-agent.sock', request, { timeoutMs: 10_000, maxBytes: 10_000 })
      if (!(reply as { ok: boolean }).ok) throw new Error(JSON.stringify(reply))
    })
    const bare = await timeMs(() => exec('ip', route))
    if (at < 0) continue
    times.ofAgent.push(ofAgent)
    times.bare.push(bare)
  }
  return times
}
