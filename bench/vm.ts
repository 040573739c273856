import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildTemplate, templateBuildEnv } from '@blockhost/image/build-template.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { createExec } from '@blockhost/kit/exec.ts'
import type { BenchGroup } from './figure.ts'
import { median, round, timeMs } from './statistics.ts'

/** What VMs start from. */
export const vm: BenchGroup = {
  keys: ['vm.overlayCreateMs', 'vm.templateMiB', 'vm.templateBuildSeconds'],
  async run(context) {
    context.note('making the VM template, unless there is one of the same parts')
    const root = fileURLToPath(new URL('..', import.meta.url))
    const exec = createExec({ env: templateBuildEnv })
    const template = await buildTemplate({ root, folder: join(root, 'build/vm-templates'), exec, clock: systemClock })
    const times: number[] = []
    for (let at = -warmUp; at < rounds; at++) {
      const overlay = ['-f', 'qcow2', '-F', 'qcow2', '-b', template.disk, join(context.folder, `${at}.qcow2`), '20G']
      const took = await timeMs(() => exec('qemu-img', ['create', '-q', ...overlay]))
      if (at >= 0) times.push(took)
    }
    const made = template.hadBase ? 'its Debian part was there from an earlier build' : 'from Debian packages'
    return {
      'vm.overlayCreateMs': { value: round(median(times)), unit: 'ms', limit: 50 },
      'vm.templateMiB': { value: round(template.bytes / 2 ** 20), unit: 'MiB' },
      'vm.templateBuildSeconds': { value: template.buildSeconds, unit: 's', comparedWith: made },
    }
  },
}

const rounds = 20
const warmUp = 2
