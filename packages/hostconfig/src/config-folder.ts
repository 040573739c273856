import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import { parse as parseYaml } from 'yaml'
import type { z } from 'zod'

/**
 * Returns the folder of the host's configuration: `/etc/blockhost`, or `./config` when BLOCKHOST_DEV is 1.
 * The working folder is never looked at otherwise: whoever owns it could else tell a privileged command what to do.
 */
export function configFolder(
  env: Readonly<Record<string, string | undefined>>,
  workingFolder: string = process.cwd(),
): string {
  return env.BLOCKHOST_DEV === '1' ? resolve(workingFolder, 'config') : '/etc/blockhost'
}

/** A documented file: how its text becomes a value, and under which name it lies in the folder. */
export type ConfigFile<T> = {
  readonly name: string
  /** @param path - Only names the file in messages. @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78). */
  parse(text: string, path: string): T
}

/**
 * Reads one of the documented files.
 *
 * @throws {BlockHostError} `BH_FILE_READ_FAILED`, `BH_CONFIG_INVALID` (exit 78) naming file, key and what was expected.
 */
export function readConfigFile<T>(file: ConfigFile<T>, folder: string): T {
  const path = join(folder, file.name)
  return file.parse(readTextFile(path, { what: 'configuration', hints: hintsFor(file.name, path) }), path)
}

const rights = 'Run this as root or as the user blockhost (`runuser -u blockhost -- …`).'

function hintsFor(name: string, path: string): Record<string, string> {
  const example = fileURLToPath(new URL(`../examples/${name}`, import.meta.url))
  const copy = existsSync(example) ? { ENOENT: `Copy ${example} to ${path} and fill it in (docs/operations.md).` } : {}
  return { ...copy, EACCES: rights }
}

/** Same as {@link readConfigFile}; `undefined` when there is no such file. */
export function findConfigFile<T>(file: ConfigFile<T>, folder: string): T | undefined {
  return existsSync(join(folder, file.name)) ? readConfigFile(file, folder) : undefined
}

/** Makes a {@link ConfigFile} of a schema; the format follows from the name's ending. The value is frozen at every level. */
export function defineConfigFile<T extends z.ZodType>(name: string, schema: T): ConfigFile<Readonly<z.output<T>>> {
  return {
    name,
    parse(text, path) {
      const parsed = schema.safeParse(parseDocument(text, path))
      if (parsed.success) return deepFreeze(parsed.data)
      const problems = parsed.error.issues.map(issue => `${issue.path.join('.') || '(top level)'}: ${issue.message}`)
      throw invalid(path, problems)
    },
  }
}

function parseDocument(text: string, path: string): unknown {
  const isYaml = path.endsWith('.yaml')
  try {
    return isYaml ? parseYaml(text, { uniqueKeys: true, maxAliasCount: 10, logLevel: 'error' }) : JSON.parse(text)
  } catch (cause) {
    throw invalid(path, [isYaml ? 'it is not valid YAML' : 'it is not valid JSON'], cause)
  }
}

function invalid(path: string, problems: readonly string[], cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: ${problems.join('; ')}`,
    hint: `Correct ${path}.`,
    fields: { path, problems },
    exitCode: exitCodes.badConfig,
    cause,
  })
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  Object.freeze(value)
  for (const inner of Object.values(value)) deepFreeze(inner)
  return value
}
