import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, it } from 'node:test'
import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Globals } from './argv.ts'
import { findRegistry, requireRegistry } from './registry-address.ts'

const given = '0x5FbDB2315678afecb367f032d93F642f64180aa3'
const filed = '0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512'
let configDir: string

beforeEach(() => {
  configDir = mkdtempSync(join(tmpdir(), 'bc-registry-'))
})
afterEach(() => rmSync(configDir, { recursive: true }))

function globals(over: Partial<Globals> = {}): Globals {
  return {
    json: false,
    rpcUrls: ['http://localhost'],
    chainId: undefined,
    registryContract: undefined,
    configDir,
    ...over,
  }
}

function file(value: unknown): void {
  writeFileSync(join(configDir, 'registry.json'), typeof value === 'string' ? value : JSON.stringify(value))
}

describe('findRegistry', () => {
  it('reads registry.json of the earlier generation', () => {
    file({ registry_contract: filed, chain_id: 31337, network: 'anvil' })
    assert.deepEqual(findRegistry(globals()), { chainId: 31337, registryContract: filed })
    file({ registry_contract: filed, chain_id: '5' })
    assert.equal(findRegistry(globals()).chainId, 5)
  })

  it('lets options and environment win', () => {
    file({ registry_contract: filed, chain_id: 31337 })
    assert.deepEqual(findRegistry(globals({ registryContract: given, chainId: 1 })), {
      chainId: 1,
      registryContract: given,
    })
  })

  it('falls back to Sepolia without a registry', () => {
    assert.deepEqual(findRegistry(globals()), { chainId: 11_155_111, registryContract: undefined })
  })

  it('refuses a file it can not read whole', () => {
    const values = [
      '',
      '{',
      'null',
      '[]',
      {},
      { registry_contract: '0x12' },
      { registry_contract: filed, chain_id: 1.5 },
      { registry_contract: filed, chain_id: -1 },
      `{"registry_contract":"${filed}","pad":"${' '.repeat(5000)}"}`,
    ]
    for (const value of values) {
      file(value)
      assert.throws(
        () => findRegistry(globals()),
        (error: unknown) => error instanceof BlockHostError && error.exitCode === 78,
      )
    }
  })
})

describe('requireRegistry', () => {
  it('names the three ways to give one', () => {
    assert.equal(requireRegistry({ chainId: 1, registryContract: given }, configDir), given)
    assert.throws(
      () => requireRegistry({ chainId: 1, registryContract: undefined }, configDir),
      (error: unknown) =>
        error instanceof BlockHostError &&
        error.exitCode === 78 &&
        /--registry-contract.*BROKER_REGISTRY_CONTRACT.*registry\.json/.test(error.hint ?? ''),
    )
  })
})
