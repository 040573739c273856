import { parse as parseToml } from 'smol-toml'
import type { z } from 'zod'
import { BlockHostError, exitCodes } from './errors.ts'
import { readTextFile } from './files.ts'

/**
 * Reads a TOML file and checks it against a schema; the result is frozen at every level.
 *
 * @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78) naming the file, each wrong key and what was expected.
 */
export function readTomlConfig<T extends z.ZodType>(path: string, schema: T): Readonly<z.output<T>> {
  return parseTomlConfig(readTextFile(path, { what: 'configuration' }), schema, path)
}

/** Same as {@link readTomlConfig} for text already read; `path` only names it in messages. */
export function parseTomlConfig<T extends z.ZodType>(text: string, schema: T, path: string): Readonly<z.output<T>> {
  let raw: unknown
  try {
    raw = parseToml(text)
  } catch (cause) {
    throw invalid(path, ['the file is not valid TOML'], cause)
  }
  const parsed = schema.safeParse(raw)
  if (!parsed.success)
    throw invalid(
      path,
      parsed.error.issues.map(issue => `${issue.path.join('.') || '(top level)'}: ${issue.message}`),
    )
  return deepFreeze(parsed.data)
}

function invalid(path: string, problems: readonly string[], cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_CONFIG_INVALID',
    message: `${path} can't be used: ${problems.join('; ')}`,
    hint: `Correct ${path}; \`--check-config\` tries it without starting anything.`,
    fields: { path, problems },
    exitCode: exitCodes.badConfig,
    cause,
  })
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value)
    for (const inner of Object.values(value)) deepFreeze(inner)
  }
  return value
}
