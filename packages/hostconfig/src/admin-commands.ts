import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { wholeNumber } from './fields.ts'

const knock = z
  .looseObject({
    action: z.literal('knock', { error: 'expected the action "knock"' }),
    description: z.string().default(''),
    params: z.looseObject({
      allowed_ports: z.array(wholeNumber(1, 65_535)).min(1, 'expected at least one port'),
      max_duration: wholeNumber(1, 86_400).optional(),
      default_duration: wholeNumber(1, 86_400).default(300),
    }),
  })
  .transform(({ action, description, params }) => ({
    action,
    description,
    allowedPorts: params.allowed_ports,
    defaultDurationSeconds: params.default_duration,
    maxDurationSeconds: params.max_duration ?? params.default_duration,
  }))

const schema = z
  .looseObject({ commands: z.record(z.string().min(1, 'expected a name'), knock).default({}) })
  .transform(file => ({ commands: file.commands }))

/** `admin-commands.json`: what the admin's wallet may order, by secret name. */
export type AdminCommands = Readonly<z.output<typeof schema>>

/** `admin-commands.json`. Look names up with `Object.hasOwn`: they are a stranger's text. */
export const adminCommandsFile: ConfigFile<AdminCommands> = defineConfigFile('admin-commands.json', schema)
