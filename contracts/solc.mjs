// Speaks the part of solc's command line that forge uses: `--version`, and `--standard-json` with the input on stdin.
// Plain JavaScript, because the Node that happens to be on PATH may be too old to strip types.
// Every source arrives inline in that JSON, so path options (`--allow-paths`, `--base-path`, ...) have nothing to do.
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const argv = process.argv.slice(2)

if (argv.includes('--version')) {
  // From package.json: loading nine megabytes of compiler to learn its name would cost half a second a call.
  console.log(`solc, the solidity compiler (npm)\nVersion: ${require('solc/package.json').version}`)
} else if (argv.includes('--standard-json')) {
  process.stdout.write(require('solc').compile(readFileSync(0, 'utf8')))
} else {
  console.error('solc.mjs: only --version and --standard-json (input on stdin) are understood')
  process.exitCode = 2
}
