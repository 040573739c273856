import { chmodSync, existsSync, renameSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import { z } from 'zod'
import { type ActionContext, defineAction } from './action.ts'
import { refused } from './errors.ts'
import { int, templateId, vmName } from './params.ts'
import { giveToQemu } from './qemu-user.ts'
import { findTemplate, vmFiles } from './vm-files.ts'

/**
 * `vm-disk-create {name, template, disk_gib}`: makes the VM's disk as an overlay on a template, which stays as it is.
 * A disk of the same template and size that is there already is kept with what is on it; another one is refused.
 */
export const vmDiskCreate = defineAction({
  schema: z.strictObject({ name: vmName, template: templateId, disk_gib: int(1, 65_536) }),
  timeoutMs: 60_000,
  lane: ({ name }) => `vm:${name}`,
  async run({ name, template, disk_gib }, context) {
    const { config } = context.host
    if (disk_gib > config.vm.max_disk_gib)
      throw refused(`disk_gib: at most ${config.vm.max_disk_gib} (vm.max_disk_gib)`)
    const { image } = findTemplate(context.host, template)
    const bytes = disk_gib * 2 ** 30
    const least = (await readImage(context, image)).virtualSize
    if (least > bytes) throw refused(`disk_gib: the template needs at least ${Math.ceil(least / 2 ** 30)}`)
    const { disk } = vmFiles(context.host, name)
    if (existsSync(disk)) {
      await checkSame(context, disk, image, bytes)
      giveToQemu(context.host, disk)
      return { created: false }
    }
    const partial = join(config.paths.vms, `.${name}.disk`)
    rmSync(partial, { force: true })
    const overlay = ['-f', 'qcow2', '-F', 'qcow2', '-b', image]
    await context.exec('qemu-img', ['create', '-q', ...overlay, partial, String(bytes)])
    chmodSync(partial, 0o600)
    giveToQemu(context.host, partial)
    renameSync(partial, disk)
    return { created: true }
  },
})

type Image = { readonly virtualSize: number; readonly backing: string | undefined }

async function readImage({ exec }: ActionContext, path: string): Promise<Image> {
  // -U: a running VM holds a lock on its disk. -f: what a file says of itself is not asked.
  const { stdout } = await exec('qemu-img', ['info', '-U', '-f', 'qcow2', '--output=json', path])
  const info = imageSchema.safeParse(JSON.parse(stdout))
  if (!info.success)
    throw new BlockHostError({ code: 'BH_IMAGE_UNKNOWN', message: `${path} is no qcow2 image`, fields: { path } })
  return { virtualSize: info.data['virtual-size'], backing: info.data['full-backing-filename'] }
}

const imageSchema = z.looseObject({
  format: z.literal('qcow2'),
  'virtual-size': z.number(),
  'full-backing-filename': z.string().optional(),
})

async function checkSame(context: ActionContext, disk: string, image: string, bytes: number): Promise<void> {
  const found = await readImage(context, disk)
  if (found.backing === image && found.virtualSize === bytes) return
  throw new BlockHostError({
    code: 'BH_DISK_EXISTS',
    message: `${disk} exists with another template or size`,
    hint: 'Destroy the VM first.',
    fields: { disk },
  })
}
