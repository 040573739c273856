import { BlockHostError, exitCodes } from './errors.ts'
import { readTextFile } from './files.ts'

/**
 * Returns the id of a Unix group: a number as it is, a name looked up in /etc/group (group(5); no other name service).
 *
 * @param groupFile - Default `/etc/group`.
 * @throws {BlockHostError} `BH_GROUP_UNKNOWN` (exit 78).
 */
export function groupId(group: string | number, groupFile = '/etc/group'): number {
  if (typeof group === 'number') return group
  const lines = readTextFile(groupFile, { what: 'list of groups' }).split('\n')
  const id = lines.map(line => line.split(':')).find(([name]) => name === group)?.[2]
  if (id !== undefined && /^\d+$/.test(id)) return Number(id)
  throw new BlockHostError({
    code: 'BH_GROUP_UNKNOWN',
    message: `There is no group ${group} in ${groupFile}`,
    hint: `Make it with \`groupadd --system ${group}\`, or configure another.`,
    fields: { group },
    exitCode: exitCodes.badConfig,
  })
}
