/*
 * One frame: u32 big-endian length, then that many bytes of UTF-8 JSON.
 */

/**
 * Renders one frame.
 *
 * @throws {RangeError} when the JSON is longer than a u32 can say.
 */
export function encodeFrame(value: unknown): Buffer {
  const body = Buffer.from(JSON.stringify(value) ?? 'null', 'utf8')
  if (body.length > 0xffff_ffff) throw new RangeError('the message is longer than a frame can be')
  const frame = Buffer.allocUnsafe(4 + body.length)
  frame.writeUInt32BE(body.length, 0)
  body.copy(frame, 4)
  return frame
}

/**
 * Parses the body of a frame.
 *
 * @throws {SyntaxError | TypeError} when it is not UTF-8 or not JSON.
 */
export function parseFrameBody(body: Uint8Array): unknown {
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
}

/**
 * Returns whether JSON text holds more than `most` values, keys included, without building them: some bytes of text may stand for
 * fifty of memory. Linear, and done as soon as there are too many. Of text that is not JSON it may say either.
 */
export function hasMoreValues(body: Uint8Array, most: number): boolean {
  let values = 1
  for (let at = 0; at < body.length; at++) {
    const byte = body[at]
    if (byte === quote) at = endOfString(body, at)
    else if (byte === comma || byte === colon || byte === bracket || byte === brace) values++
    if (values > most) return true
  }
  return false
}

const [quote, backslash, comma, colon, bracket, brace] = [0x22, 0x5c, 0x2c, 0x3a, 0x5b, 0x7b]

function endOfString(body: Uint8Array, start: number): number {
  let at = start + 1
  while (at < body.length && body[at] !== quote) at += body[at] === backslash ? 2 : 1
  return at
}

/** Cuts a stream of bytes into frames. Linear in the bytes, however small the pieces; holds one frame and the last piece. */
export type FrameDecoder = {
  /** Takes the next bytes. */
  push(chunk: Uint8Array): void
  /**
   * Returns the body of the next whole frame, or `undefined` until there is one.
   *
   * @throws {RangeError} when a frame is empty or longer than allowed, as soon as its length is known.
   */
  next(): Buffer | undefined
  /** Bytes of unfinished frames. */
  held(): number
}

/** Makes a {@link FrameDecoder} that takes bodies up to `maxBytes`. */
export function createFrameDecoder(maxBytes: number): FrameDecoder {
  let buffer = Buffer.allocUnsafe(1024)
  let held = 0
  return {
    push(chunk) {
      if (held + chunk.length > buffer.length) {
        const larger = Buffer.allocUnsafe(Math.max(buffer.length * 2, held + chunk.length))
        buffer.copy(larger, 0, 0, held)
        buffer = larger
      }
      buffer.set(chunk, held)
      held += chunk.length
    },
    next() {
      if (held < 4) return undefined
      const length = buffer.readUInt32BE(0)
      if (length === 0 || length > maxBytes)
        throw new RangeError(`a frame of ${length} bytes came, 1 to ${maxBytes} are allowed`)
      if (held < 4 + length) return undefined
      const body = Buffer.from(buffer.subarray(4, 4 + length))
      buffer.copyWithin(0, 4 + length, held)
      held -= 4 + length
      return body
    },
    held: () => held,
  }
}
