import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { sourceClosure } from './closure.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))

describe('sourceClosure', () => {
  const entries = sourceClosure(root, 'services/web3-auth-svc/src/main.ts')
  const paths = new Set(entries.map(entry => entry.path))

  test('holds the program, what it imports, also late, and each package’s own description', () => {
    for (const path of [
      'services/web3-auth-svc/src/main.ts',
      'services/web3-auth-svc/package.json',
      'services/web3-auth-svc/bin/web3-auth-svc',
      'packages/kit/src/errors.ts',
      'packages/kit/package.json',
      'node_modules/@blockhost/kit',
      'node_modules/smol-toml/package.json',
      'node_modules/tiny-secp256k1/package.json',
    ])
      assert.ok(paths.has(path), path)
  })

  test('holds nothing that is slow to load and does not decide who gets in', () => {
    for (const path of paths) assert.doesNotMatch(path, /^node_modules\/(zod|pino|viem)\//)
  })

  test('holds no tests, no other service and nothing outside of the workspace', () => {
    for (const path of paths) {
      assert.doesNotMatch(path, /\.test\.ts$/)
      assert.doesNotMatch(path, /^(\.\.|\/|services\/(?!web3-auth-svc))/)
    }
  })

  test('links workspace packages, as Node strips no types below node_modules', () => {
    const link = entries.find(entry => entry.path === 'node_modules/@blockhost/kit')
    assert.deepEqual(link, { kind: 'link', path: 'node_modules/@blockhost/kit', target: '../../packages/kit' })
  })
})
