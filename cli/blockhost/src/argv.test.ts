import assert from 'node:assert/strict'
import { test } from 'node:test'
import { helpText, parseArgv } from './argv.ts'

const parse = (line: string) => parseArgv(line === '' ? [] : line.split(' '), {})
const folder = '/etc/blockhost'

test('parseArgv: the commands and their options', () => {
  assert.deepEqual(parse('status'), { kind: 'status', folder, json: false, all: false })
  assert.deepEqual(parse('--all status --json'), { kind: 'status', folder, json: true, all: true })
  assert.deepEqual(parse('doctor --config-dir /tmp/x'), { kind: 'doctor', folder: '/tmp/x', json: false })
})

test('parseArgv: help and version, in every usual way', () => {
  for (const line of ['-h', '--help', 'help', 'help doctor', 'status -h', 'doctor --help'])
    assert.deepEqual(parse(line), { kind: 'help' }, line)
  for (const line of ['-V', '--version']) assert.deepEqual(parse(line), { kind: 'version' }, line)
})

test('parseArgv: says in one sentence what it does not understand', () => {
  const problems: Record<string, string> = {
    '': 'Expected `status` or `doctor`.',
    nonsense: 'There is no command "nonsense".',
    'status now': '"now" is one word too many.',
    'doctor --all': '`doctor` takes no --all.',
    'status -x': "Unknown option '-x'.",
    'status --nonsense': "Unknown option '--nonsense'.",
  }
  for (const [line, problem] of Object.entries(problems))
    assert.deepEqual(parse(line), { kind: 'usage', problem }, line)
})

test('helpText: each command with all of its options', () => {
  assert.match(helpText, /blockhost status \[--all\] \[--json\] \[--config-dir FOLDER\]/)
  assert.match(helpText, /blockhost doctor \[--json\] \[--config-dir FOLDER\]/)
})
