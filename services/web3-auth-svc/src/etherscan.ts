/** Reading the chain through an Etherscan-style HTTP API (Etherscan, Blockscout, Routescan): for operators without an RPC endpoint. */
import { type Address, type Hex, invalidAnswer, parseHex } from '@blockhost/chain/hex.ts'
import { classifyRpcError } from '@blockhost/chain/rpc-failure.ts'
import { BlockHostError, messageOf } from '@blockhost/kit/errors.ts'
import { type ChainBackend, dropExpired, maxHeldTokens } from './chain-backend.ts'
import type { CallAnswer } from './token-calls.ts'

/** Options of {@link createEtherscanBackend}. */
export type EtherscanOptions = {
  /** Up to and without `/api`, e.g. `https://api.etherscan.io/v2`. */
  readonly apiUrl: string
  /** Sent in the query, as these APIs want it; never shown. */
  readonly apiKey: string
  /** For APIs that serve several chains. */
  readonly chainId: number | undefined
  readonly timeoutMs: number
}

type Query = Readonly<Record<string, string>>

const maxAnswerBytes = 16 * 1024 * 1024

/** Makes the backend. Calls of one batch are sent side by side; token ids are decimal, as earlier generations gave them here. */
export function createEtherscanBackend(options: EtherscanOptions, send: typeof fetch = fetch): ChainBackend {
  const ask = (query: Query) => get(options, query, send)
  const call: ChainBackend['call'] = calls =>
    Promise.all(
      calls.map(async ({ to, data }) =>
        readCall(await ask({ module: 'proxy', action: 'eth_call', to, data, tag: 'latest' })),
      ),
    )
  return {
    call,
    async heldTokens(contract, wallet) {
      const query = {
        module: 'account',
        action: 'tokennfttx',
        contractaddress: contract,
        address: wallet,
        sort: 'desc',
      }
      const ids = heldAfter(readTransfers(await ask(query)), wallet)
      return (await dropExpired(ids.slice(0, maxHeldTokens), contract, call)).map(String)
    },
  }
}

/** One transfer of a token, addresses in lower case. */
export type Transfer = { readonly tokenId: bigint; readonly from: Address; readonly to: Address }

/** Returns what `wallet` holds after `transfers` (newest first): the last one of each token decides. */
export function heldAfter(transfers: readonly Transfer[], wallet: Address): readonly bigint[] {
  const newest = new Map<bigint, Transfer>()
  for (const transfer of transfers) if (!newest.has(transfer.tokenId)) newest.set(transfer.tokenId, transfer)
  return [...newest.values()].filter(({ to }) => to === wallet.toLowerCase()).map(({ tokenId }) => tokenId)
}

async function get({ apiUrl, apiKey, chainId, timeoutMs }: EtherscanOptions, query: Query, send: typeof fetch) {
  const url = new URL(`${apiUrl.replace(/\/+$/, '')}/api`)
  for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
  if (chainId !== undefined) url.searchParams.set('chainid', `${chainId}`)
  if (apiKey !== '') url.searchParams.set('apikey', apiKey)
  let response: Response
  try {
    response = await send(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) })
  } catch (cause) {
    throw unavailable(url.host, messageOf(cause))
  }
  if (response.status === 429) throw unavailable(url.host, 'its rate limit is reached')
  if (!response.ok) throw unavailable(url.host, `HTTP status ${response.status}`)
  return readJson(response, url.host)
}

async function readJson(response: Response, host: string): Promise<Record<string, unknown>> {
  const text = await response.text().catch(cause => {
    throw unavailable(host, messageOf(cause))
  })
  if (text.length > maxAnswerBytes) throw unavailable(host, `its answer is longer than ${maxAnswerBytes} bytes`)
  let answer: unknown
  try {
    answer = JSON.parse(text)
  } catch {
    throw unavailable(host, 'it did not answer with JSON')
  }
  if (typeof answer !== 'object' || answer === null) throw unavailable(host, 'it did not answer with an object')
  const { status, result } = answer as Record<string, unknown>
  if (status === '0' && typeof result === 'string' && /rate limit/i.test(result))
    throw unavailable(host, 'its rate limit is reached')
  return answer as Record<string, unknown>
}

function readCall(answer: Record<string, unknown>): CallAnswer {
  if (answer.error !== undefined && answer.error !== null) {
    const failure = classifyRpcError(answer.error)
    if (failure.kind === 'reverted') return { kind: 'reverted', empty: (failure.data ?? '0x') === '0x' }
    throw invalidAnswer('eth_call', `is an error: ${failure.message}`)
  }
  return { kind: 'returned', data: parseHex(answer.result, 'eth_call') }
}

function readTransfers({ status, message, result }: Record<string, unknown>): readonly Transfer[] {
  if (status === '0' && /^no transactions found/i.test(String(message))) return []
  if (status !== '1' || !Array.isArray(result)) throw invalidAnswer('tokennfttx', `is no list: ${String(message)}`)
  return result.map(readTransfer)
}

function readTransfer(row: unknown): Transfer {
  const { tokenID, from, to } = (row ?? {}) as Record<string, unknown>
  const isAddress = (value: unknown): value is Hex => typeof value === 'string' && /^0x[0-9a-f]{40}$/i.test(value)
  if (typeof tokenID !== 'string' || !/^\d{1,78}$/.test(tokenID) || !isAddress(from) || !isAddress(to))
    throw invalidAnswer('tokennfttx', 'holds a transfer without token, sender or receiver')
  return { tokenId: BigInt(tokenID), from: from.toLowerCase() as Address, to: to.toLowerCase() as Address }
}

function unavailable(host: string, problem: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_RPC_UNAVAILABLE',
    message: `The explorer ${host} did not answer: ${problem}`,
    retryable: true,
  })
}
