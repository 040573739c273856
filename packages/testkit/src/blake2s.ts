/** Keyed BLAKE2s (RFC 7693), which node:crypto does not offer; WireGuard's two message authentication codes are made of it. */

/**
 * Returns the keyed BLAKE2s of `message`.
 *
 * @param key - 1 to 32 bytes.
 * @param length - Bytes of the result, 1 to 32. A shorter result is not the beginning of a longer one.
 */
export function keyedBlake2s(key: Uint8Array, message: Uint8Array, length: number): Buffer {
  const state = Uint32Array.from(iv)
  state[0]! ^= 0x01010000 ^ (key.length << 8) ^ length
  // The key is a block of its own in front of the message.
  const padded = Buffer.alloc(64 + Math.ceil(message.length / 64) * 64)
  padded.set(key)
  padded.set(message, 64)
  const total = 64 + message.length
  for (let at = 0; at < padded.length; at += 64) {
    const isLast = at + 64 === padded.length
    compress(state, padded.subarray(at, at + 64), isLast ? total : at + 64, isLast)
  }
  return Buffer.from(state.buffer).subarray(0, length)
}

// First 32 bits of the fractional parts of the square roots of the first eight primes.
const iv = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19] as const

const sigma = [
  [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
  [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
  [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4],
  [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
  [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13],
  [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
  [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11],
  [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
  [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5],
  [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
] as const

const columnsAndDiagonals = [
  [0, 4, 8, 12],
  [1, 5, 9, 13],
  [2, 6, 10, 14],
  [3, 7, 11, 15],
  [0, 5, 10, 15],
  [1, 6, 11, 12],
  [2, 7, 8, 13],
  [3, 4, 9, 14],
] as const

function compress(state: Uint32Array, block: Buffer, counted: number, isLast: boolean): void {
  const work = Uint32Array.from([...state, ...iv])
  work[12]! ^= counted
  if (isLast) work[14]! ^= 0xffffffff
  for (const order of sigma)
    columnsAndDiagonals.forEach(([a, b, c, d], at) => {
      const x = block.readUInt32LE(4 * order[2 * at]!)
      const y = block.readUInt32LE(4 * order[2 * at + 1]!)
      mix(work, a, b, c, d, x, y)
    })
  for (let at = 0; at < 8; at++) state[at]! ^= work[at]! ^ work[at + 8]!
}

function mix(work: Uint32Array, a: number, b: number, c: number, d: number, x: number, y: number): void {
  work[a]! += work[b]! + x
  work[d] = rotateRight(work[d]! ^ work[a]!, 16)
  work[c]! += work[d]!
  work[b] = rotateRight(work[b]! ^ work[c]!, 12)
  work[a]! += work[b]! + y
  work[d] = rotateRight(work[d]! ^ work[a]!, 8)
  work[c]! += work[d]!
  work[b] = rotateRight(work[b]! ^ work[c]!, 7)
}

function rotateRight(word: number, bits: number): number {
  return (word >>> bits) | (word << (32 - bits))
}
