import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'
import { absolutePath, address, roleName } from './fields.ts'

const schema = z.record(roleName, z.looseObject({ address, keyfile: absolutePath.optional() }))

/** `addressbook.json`: role -> wallet; `keyfile` only where the key is on this machine. */
export type Addressbook = Readonly<
  Record<string, { readonly address: `0x${string}`; readonly keyfile?: string | undefined }>
>

/** `addressbook.json`. A broken file is an error, never an empty book: the next save would lose everything. */
export const addressbookFile: ConfigFile<Addressbook> = defineConfigFile('addressbook.json', schema)
