import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { changed, flag, integer, listOf, oneOf, optional, type Shape, section, text, withDefault } from './shape.ts'

const host = section({
  name: text(/^[a-z]+$/, 'expected small letters'),
  port: withDefault(integer(1, 65_535), 22),
  kind: optional(oneOf('real', 'virtual')),
  aliases: withDefault(listOf(changed(text(/^[A-Z]+$/, 'expected capitals'), word => word.toLowerCase())), []),
  rack: section({ cooled: withDefault(flag, true) }),
})

describe('shapes', () => {
  it('fill in what is left out, tables too, and change what has to be', () => {
    const absent = { port: 22, kind: undefined, aliases: [], rack: { cooled: true } }
    assert.deepEqual(read(host, { name: 'a' }), { value: { name: 'a', ...absent }, problems: [] })
    const whole = { name: 'b', port: 1, kind: 'real', aliases: ['X', 'Y'], rack: { cooled: false } }
    assert.deepEqual(read(host, whole), { value: { ...whole, aliases: ['x', 'y'] }, problems: [] })
  })

  it('say all that is wrong at once, where, and what was expected', () => {
    const wrong = { port: 0, kind: 'other', aliases: ['X', 'y', 3], rack: { cooled: 'yes', hight: 4 }, extra: 1 }
    assert.deepEqual(read(host, wrong).problems, [
      'extra: there is no such key',
      'name: is missing; expected small letters',
      'port: expected a whole number from 1 to 65535',
      'kind: expected "real" or "virtual"',
      'aliases.1: expected capitals',
      'aliases.2: expected capitals',
      'rack.hight: there is no such key',
      'rack.cooled: expected true or false',
    ])
  })

  it('take nothing for a table, a list or a number that is none', () => {
    for (const value of [1, 'x', true, [], new Date(0), null])
      assert.deepEqual(read(section({}), { ...{ at: value } }.at).problems, [': expected a table'], String(value))
    assert.deepEqual(read(listOf(flag), {}).problems, [': expected a list'])
    for (const value of [1.5, '1', 2n, Number.NaN, 2 ** 53]) assert.equal(read(integer(0, 9), value).problems.length, 1)
  })

  it('know no key of Object’s as their own', () => {
    const table = JSON.parse('{"__proto__": 1, "constructor": 2}')
    assert.equal(read(section({}), table).problems.length, 2)
  })
})

function read<T>(shape: Shape<T>, value: unknown): { value: T; problems: string[] } {
  const problems: string[] = []
  return { value: shape(value, '', problems), problems }
}
