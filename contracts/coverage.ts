/**
 * Measures which lines and branches of `contracts/src` the tests run: `node contracts/coverage.ts` prints a line per file and
 * exits 1 unless each is at 100 %.
 *
 * `forge coverage` compiles without the optimizer and runs every test; constructors (BrokerLens is nothing else) count.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { foundryProgram } from './foundry.ts'

/** Coverage of one file: found and hit, of lines and of branches. */
type FileCoverage = { file: string; lines: number; linesHit: number; branches: number; branchesHit: number }

function main(): number {
  const files = parseLcov(runCoverage())
  for (const f of files) {
    console.log(`${f.file.padEnd(30)} lines ${f.linesHit}/${f.lines}  branches ${f.branchesHit}/${f.branches}`)
  }
  const complete = files.every(f => f.linesHit === f.lines && f.branchesHit === f.branches)
  return complete && files.length > 0 ? 0 : 1
}

/** The report of forge in lcov's trace format (man geninfo). */
function runCoverage(): string {
  const folder = mkdtempSync(join(tmpdir(), 'blockhost-coverage-'))
  try {
    const report = join(folder, 'lcov.info')
    const places = ['--out', join(folder, 'out'), '--cache-path', join(folder, 'cache'), '--report-file', report]
    execFileSync(foundryProgram('forge'), ['coverage', '--exclude-tests', '--report', 'lcov', ...places], {
      cwd: import.meta.dirname,
      stdio: ['ignore', 'ignore', 'inherit'],
    })
    return readFileSync(report, 'utf8')
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function parseLcov(report: string): FileCoverage[] {
  return report
    .split('end_of_record')
    .filter(record => record.includes('SF:'))
    .map(record => {
      const number = (key: string): number => Number(new RegExp(`^${key}:(\\d+)$`, 'm').exec(record)?.[1])
      return {
        file: /^SF:(.+)$/m.exec(record)?.[1] ?? '?',
        lines: number('LF'),
        linesHit: number('LH'),
        branches: number('BRF'),
        branchesHit: number('BRH'),
      }
    })
}

if (import.meta.main) process.exitCode = main()
