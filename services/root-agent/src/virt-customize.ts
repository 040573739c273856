import { z } from 'zod'
import { defineAction } from './action.ts'
import { refused } from './errors.ts'
import type { Host } from './host.ts'
import { checkFileIn } from './qm.ts'

const text = z.string().min(1).max(4000)

/**
 * `virt-customize {image_path, commands}`: changes an image in the folder `paths.build`. `commands` is a list of `[operation, argument]`,
 * each operation one of {@link operations}. Files of the host are only read from `paths.packages`. What runs, runs inside the image.
 */
export const virtCustomize = defineAction({
  schema: z.strictObject({
    image_path: z.string().max(300),
    commands: z.array(z.array(text).min(1).max(2)).min(1).max(100),
  }),
  timeoutMs: 600_000,
  lane: ({ image_path }) => `image:${image_path}`,
  async run({ image_path, commands }, { host, exec }) {
    checkFileIn('image_path', image_path, [host.config.paths.build])
    const args = commands.flatMap((command, at) => toArgs(host, command, `commands.${at}`))
    const { stdout } = await exec('virt-customize', ['--format', 'qcow2', '-a', image_path, ...args])
    return { output: stdout.slice(-64 * 1024) }
  },
})

const guestPath = '/[\\w./+-]{1,200}'
const packageList = /^[a-z\d][a-z\d.+-]*(?:,[a-z\d][a-z\d.+-]*){0,99}$/

/** Operations of virt-customize(1) that may be used, and what their argument may say; `undefined`: they take none. */
export const operations: Readonly<Record<string, RegExp | undefined>> = {
  '--update': undefined,
  '--install': packageList,
  '--uninstall': packageList,
  '--run-command': /^[^-\0\n][^\0\n]*$/,
  '--firstboot-command': /^[^-\0\n][^\0\n]*$/,
  '--mkdir': new RegExp(`^${guestPath}$`),
  '--delete': new RegExp(`^${guestPath}$`),
  '--truncate': new RegExp(`^${guestPath}$`),
  '--chmod': new RegExp(`^0?[0-7]{3,4}:${guestPath}$`),
  '--write': new RegExp(`^${guestPath}:[^\\0]*$`),
  '--hostname': /^[a-z\d][a-z\d.-]{0,62}$/,
  '--timezone': /^[A-Za-z][\w/+-]{0,40}$/,
  '--copy-in': new RegExp(`^/[\\w./+~-]{1,300}:${guestPath}$`),
  '--upload': new RegExp(`^/[\\w./+~-]{1,300}:${guestPath}$`),
}

function toArgs(host: Host, command: readonly string[], where: string): string[] {
  const [given, argument] = command as [string, string | undefined]
  const operation = given.startsWith('--') ? given : `--${given}` // clients wrote both
  if (!Object.hasOwn(operations, operation)) throw refused(`${where}: this operation is not allowed`)
  const pattern = operations[operation]
  if ((pattern === undefined) !== (argument === undefined))
    throw refused(`${where}: expected ${pattern ? 'an' : 'no'} argument`)
  if (argument === undefined) return [operation]
  if (!pattern!.test(argument)) throw refused(`${where}: this argument is not allowed`)
  if (operation === '--copy-in' || operation === '--upload')
    checkFileIn(where, argument.slice(0, argument.indexOf(':')), [host.config.paths.packages])
  return [operation, argument]
}
