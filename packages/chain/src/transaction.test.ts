import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { keccak256, parseTransaction, recoverTransactionAddress } from 'viem'
import { privateKeyToAccount } from 'viem/accounts'
import type { Address, Hex } from './hex.ts'
import { hexToBytes } from './hex.ts'
import { signTransaction, type UnsignedTransaction } from './transaction.ts'

const privateKey: Hex = '0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80'
const account = privateKeyToAccount(privateKey)

const hexes = fc.uint8Array({ maxLength: 200 }).map((bytes): Hex => `0x${bytes.toHex()}`)
const addresses = fc.uint8Array({ minLength: 20, maxLength: 20 }).map((bytes): Address => `0x${bytes.toHex()}`)
const wei = fc.bigInt({ min: 0n, max: 2n ** 96n })
const transactions: fc.Arbitrary<UnsignedTransaction> = fc.record({
  chainId: fc.integer({ min: 1, max: 2 ** 40 }),
  nonce: fc.nat(),
  to: fc.option(addresses, { nil: undefined }),
  data: hexes,
  valueWei: wei,
  gasLimit: fc.bigInt({ min: 21_000n, max: 30_000_000n }),
  fees: fc.oneof(
    fc.record({ type: fc.constant('legacy' as const), gasPriceWei: wei }),
    fc.tuple(wei, wei).map(([tip, more]) => ({
      type: 'eip1559' as const,
      maxFeePerGasWei: tip + more,
      maxPriorityFeePerGasWei: tip,
    })),
  ),
})

describe('signTransaction', () => {
  it("writes viem's bytes for every transaction, EIP-1559 and legacy", async () => {
    await fc.assert(
      fc.asyncProperty(transactions, async transaction => {
        const { raw, hash } = signTransaction(transaction, hexToBytes(privateKey))
        assert.equal(raw, await account.signTransaction(toViem(transaction)))
        assert.equal(hash, keccak256(raw))
      }),
      { numRuns: 60 },
    )
  })

  it('is signed by the key and carries every field', async () => {
    const transaction: UnsignedTransaction = {
      chainId: 11155111,
      nonce: 7,
      to: '0x70997970c51812dc3a010c7d01b50e0d17dc79c8',
      data: '0xdeadbeef',
      valueWei: 5n,
      gasLimit: 100_000n,
      fees: { type: 'eip1559', maxFeePerGasWei: 30n, maxPriorityFeePerGasWei: 2n },
    }
    const { raw } = signTransaction(transaction, hexToBytes(privateKey))
    assert.equal(await recoverTransactionAddress({ serializedTransaction: raw as `0x02${string}` }), account.address)
    const parsed = parseTransaction(raw)
    assert.equal(parsed.nonce, 7)
    assert.equal(parsed.to, transaction.to)
    assert.equal(parsed.data, transaction.data)
    assert.equal(parsed.maxFeePerGas, 30n)
  })
})

function toViem({ chainId, nonce, to, data, valueWei, gasLimit, fees }: UnsignedTransaction) {
  const common = { chainId, nonce, data, value: valueWei, gas: gasLimit, ...(to === undefined ? {} : { to }) }
  if (fees.type === 'legacy') return { ...common, type: 'legacy' as const, gasPrice: fees.gasPriceWei }
  const { maxFeePerGasWei, maxPriorityFeePerGasWei } = fees
  return {
    ...common,
    type: 'eip1559' as const,
    maxFeePerGas: maxFeePerGasWei,
    maxPriorityFeePerGas: maxPriorityFeePerGasWei,
  }
}
