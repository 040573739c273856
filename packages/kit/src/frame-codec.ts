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
  /** Whether bytes of an unfinished frame are held. */
  pending(): boolean
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
    pending: () => held > 0,
  }
}
