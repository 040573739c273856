import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { keyedBlake2s } from './blake2s.ts'

const count = (length: number) => Uint8Array.from({ length }, (_, at) => at)

describe('keyedBlake2s', () => {
  // The first two are the reference implementation's vectors (blake2s-kat.txt), the others what CPython's hashlib says.
  for (const [keyLength, message, length, expected] of [
    [32, count(0), 32, '48a8997da407876b3d79c0d92325ad3b89cbb754d86ab71aee047ad345fd2c49'],
    [32, count(255), 32, '3fb735061abc519dfe979e54c1ee5bfad0a9d858b3315bad34bde999efd724dd'],
    [16, count(116), 16, 'b9b1bbba1b59e4349d1018f97d243fca'],
    [32, new Uint8Array(64), 16, '989ee6f2b1d5a81f5fb3effe2d523b61'],
    [1, new Uint8Array(65), 1, '89'],
  ] as const)
    it(`RFC 7693: ${message.length} bytes, key of ${keyLength}, result of ${length}`, () =>
      assert.equal(keyedBlake2s(count(keyLength), message, length).toString('hex'), expected))
})
