import { join } from 'node:path'

/**
 * Returns the path of a Foundry program as npm installed it for this machine.
 *
 * The launchers in `node_modules/.bin` are passed over: they exit 0 when the program failed, and outlive a kill.
 */
export function foundryProgram(name: 'anvil' | 'forge'): string {
  const machine = `${process.platform}-${process.arch === 'x64' ? 'amd64' : process.arch}`
  return join(import.meta.dirname, `../node_modules/@foundry-rs/${name}-${machine}/bin/${name}`)
}
