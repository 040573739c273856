/** Which registry and which chain: from the command line, the environment, or `registry.json`. Never from the network. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { readTextFile } from '@blockhost/kit/files.ts'
import type { AddressText, Globals } from './argv.ts'

/** Sepolia, the documents' default. */
const defaultChainId = 11_155_111

/** The chain to work on, and the registry where one is known. */
export type RegistryAddress = { readonly chainId: number; readonly registryContract: AddressText | undefined }

/**
 * Resolves {@link RegistryAddress}: options and environment first, then `<config-dir>/registry.json`
 * (`{"registry_contract": "0x…", "chain_id": 1, "network": "…"}`, the format of the earlier generation).
 *
 * @throws {BlockHostError} `BH_REGISTRY_FILE_INVALID` (exit 78) when the file is there and can't be used.
 */
export function findRegistry(globals: Globals): RegistryAddress {
  const path = join(globals.configDir, 'registry.json')
  const file = existsSync(path)
    ? parseRegistryFile(readTextFile(path, { maxBytes: 4096, what: 'registry file' }), path)
    : undefined
  return {
    chainId: globals.chainId ?? file?.chainId ?? defaultChainId,
    registryContract: globals.registryContract ?? file?.registryContract,
  }
}

/**
 * Returns the registry's address where one is needed.
 *
 * @throws {BlockHostError} `BH_REGISTRY_UNKNOWN` (exit 78) saying the three ways to name it.
 */
export function requireRegistry(registry: RegistryAddress, configDir: string): AddressText {
  if (registry.registryContract !== undefined) return registry.registryContract
  throw new BlockHostError({
    code: 'BH_REGISTRY_UNKNOWN',
    message: 'No broker registry is configured',
    hint: `Give --registry-contract ADDRESS, set BROKER_REGISTRY_CONTRACT, or write {"registry_contract": "0x…", "chain_id": N} to ${join(configDir, 'registry.json')}.`,
    exitCode: exitCodes.badConfig,
  })
}

function parseRegistryFile(text: string, path: string): { chainId: number | undefined; registryContract: AddressText } {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw invalid(path, 'it is not JSON', cause)
  }
  const { registry_contract: contract, chain_id: chainId } = (value ?? {}) as Record<string, unknown>
  if (typeof contract !== 'string' || !/^0x[0-9a-fA-F]{40}$/.test(contract))
    throw invalid(path, 'registry_contract is not an address')
  // The oldest files have chain_id as text.
  const chain = typeof chainId === 'string' && /^[0-9]{1,16}$/.test(chainId) ? Number(chainId) : chainId
  if (chain !== undefined && !(Number.isSafeInteger(chain) && (chain as number) > 0))
    throw invalid(path, 'chain_id is not a whole number')
  return { registryContract: contract as AddressText, chainId: chain as number | undefined }
}

function invalid(path: string, why: string, cause?: unknown): BlockHostError {
  return new BlockHostError({
    code: 'BH_REGISTRY_FILE_INVALID',
    message: `${path} can't be used: ${why}`,
    hint: 'Correct the file, or delete it and give --registry-contract.',
    exitCode: exitCodes.badConfig,
    cause,
  })
}
