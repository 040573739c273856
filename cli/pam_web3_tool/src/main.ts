import { readFileSync } from 'node:fs'
import { describeError, exitCodes, toExitCode } from '@blockhost/kit/errors.ts'
import { parseArgv } from './argv.ts'

async function main(argv: readonly string[]): Promise<number> {
  const command = parseArgv(argv)
  if (command.kind === 'help') return print(command.text)
  if (command.kind === 'version') return print(version())
  if (command.kind === 'usage') {
    process.stderr.write(`pam_web3_tool: ${command.problem}\nTry \`pam_web3_tool help\`.\n`)
    return exitCodes.usage
  }
  try {
    const { readSource, runTool } = await import('./tool.ts')
    return print(
      runTool(command, source => {
        if (source === '-' && process.stdin.isTTY)
          process.stderr.write('pam_web3_tool: reads from the terminal; end with Ctrl+D\n')
        return readSource(source)
      }),
    )
  } catch (error) {
    process.stderr.write(`pam_web3_tool: ${describeError(error)}\n`)
    return toExitCode(error)
  }
}

function print(result: string | Uint8Array): number {
  if (result.length > 0) process.stdout.write(Buffer.concat([Buffer.from(result as Uint8Array), Buffer.from('\n')]))
  return exitCodes.ok
}

function version(): string {
  const text = readFileSync(new URL('../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { version: string }).version
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2))
