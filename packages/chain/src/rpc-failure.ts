/** What an RPC endpoint's refusal means. The only file of the house that reads other programs' message texts. */
import type { Hex } from './hex.ts'

/**
 * Meaning of a refused call: `transient` may go away by itself or on another endpoint; `reverted` is the contract's own answer;
 * `permanent` will not change. The rest concern sent transactions and are named after what the node says.
 */
export type RpcFailureKind =
  | 'transient'
  | 'reverted'
  | 'permanent'
  | 'known'
  | 'nonce-too-low'
  | 'underpriced'
  | 'insufficient-funds'

/** One refused call. */
export type RpcFailure = {
  readonly kind: RpcFailureKind
  /** JSON-RPC error code; 0 when there was none. */
  readonly code: number
  /** What the endpoint said, one line, at most 300 characters. Foreign text: show it, never match it. */
  readonly message: string
  /** Return data of a revert: a custom error, or `Error(string)`. */
  readonly data?: Hex
}

/** Longest revert data kept; custom errors are far shorter, but some carry what was sent to them. */
const maxDataLength = 2 + 2 * 8192

/**
 * Classifies the `error` member of a JSON-RPC answer (geth, Nethermind, Besu, Erigon, Reth, anvil and the big providers).
 * Whatever is not recognised counts as transient: trying again is safe, giving up is not.
 */
export function classifyRpcError(error: unknown): RpcFailure {
  const { code, message, data } = fieldsOf(error)
  const revertData = findRevertData(data)
  return {
    kind: kindOf(code, message.toLowerCase(), revertData),
    code,
    message: oneLine(message),
    ...(revertData === undefined ? {} : { data: revertData }),
  }
}

/** Returns whether an endpoint's answer to a batch means that it takes single calls only. */
export function refusesBatches(error: unknown): boolean {
  return /batch/i.test(fieldsOf(error).message)
}

type Rule = readonly [RpcFailureKind, RegExp]

/** First match wins, so the narrow ones stand before the wide ones. */
const rules: readonly Rule[] = [
  ['reverted', /^(vm exception .*)?execution reverted|vm execution error|gas required exceeds/],
  ['known', /already known|known transaction|already imported|already exists|already in mempool|alreadyknown/],
  ['nonce-too-low', /nonce too low|nonce is too low|oldnonce|old nonce|nonce has already been used/],
  ['underpriced', /underpriced|fee too low|feetoolow|gas price too low|gasprice too low|below the minimum/],
  [
    'underpriced',
    /max fee per gas less than block base fee|fee cap less than block base fee|less than current base fee/,
  ],
  [
    'insufficient-funds',
    /insufficient funds|insufficientfunds|insufficient balance|not enough funds|upfront cost exceeds/,
  ],
  ['reverted', /execution reverted|revert|invalid opcode|out of gas(?! price)|stack underflow|bad instruction/],
  ['transient', /header not found|block not found|unknown block|missing trie node|state .*not available|pruned/],
  [
    'transient',
    /rate limit|too many|limit exceeded|quota|compute units|throttl|timeout|timed out|try again|overloaded|busy/,
  ],
  ['transient', /unavailable|internal error|syncing|txpool is full|transaction pool is full|nonce gap|nonce too high/],
  ['permanent', /intrinsic gas|exceeds block gas limit|gas limit too high|exceeds transaction gas|gas limit is too/],
  [
    'permanent',
    /max initcode size|oversized data|invalid sender|invalid signature|invalid chain id|invalid transaction/,
  ],
  ['permanent', /not supported|rlp:|typed transaction too short/],
]

const codes: Readonly<Record<number, RpcFailureKind>> = {
  3: 'reverted', // geth: execution reverted, data attached
  [-32700]: 'permanent', // JSON-RPC 2.0: parse error
  [-32600]: 'permanent', // invalid request
  [-32601]: 'permanent', // method not found
  [-32602]: 'permanent', // invalid params
  [-32004]: 'permanent', // EIP-1474: method not supported
  [-32006]: 'permanent', // EIP-1474: JSON-RPC version not supported
  [-32005]: 'transient', // EIP-1474: limit exceeded
  429: 'transient',
}

function kindOf(code: number, message: string, revertData: Hex | undefined): RpcFailureKind {
  if (code === 3 || (revertData?.length ?? 0) > 2) return 'reverted'
  const named = rules.find(([, pattern]) => pattern.test(message))?.[0]
  // A code that says "your request is wrong" beats wide words in the text, but not the names of transaction problems.
  const coded = codes[code]
  if (coded === 'permanent' && (named === undefined || named === 'transient')) {
    return /rate|too many|timeout/.test(message) ? 'transient' : 'permanent'
  }
  return named ?? coded ?? 'transient'
}

function fieldsOf(error: unknown): { code: number; message: string; data: unknown } {
  if (typeof error !== 'object' || error === null) return { code: 0, message: String(error), data: undefined }
  const { code, message, data } = error as Record<string, unknown>
  return {
    code: typeof code === 'number' ? code : Number(code) || 0,
    message: typeof message === 'string' ? message : 'no message',
    data,
  }
}

/** Nodes put revert data at `data`, `data.data`, `data.originalError.data` or after `Reverted 0x` in a text. */
function findRevertData(data: unknown, depth = 0): Hex | undefined {
  if (typeof data === 'string') {
    const hex = /^(?:Reverted )?(0x(?:[0-9a-fA-F]{2})*)$/.exec(data)?.[1]
    return hex !== undefined && hex.length <= maxDataLength ? (hex.toLowerCase() as Hex) : undefined
  }
  if (typeof data !== 'object' || data === null || depth > 2) return undefined
  const inner = data as Record<string, unknown>
  return findRevertData(inner.data ?? inner.originalError ?? inner.result, depth + 1)
}

function oneLine(text: string): string {
  return text.replace(/[\s\u0000-\u001f\u007f]+/g, ' ').slice(0, 300)
}
