import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { isIdempotent, unwindsFromEveryStep } from '@blockhost/testkit/steps.ts'
import { BlockHostError } from './errors.ts'
import { memoryJournal, runSteps, type Step, undoSteps } from './steps.ts'

type World = Set<string>

function put(name: string): Step<World> {
  return { name, do: world => void world.add(name), undo: world => void world.delete(name) }
}

const look: Step<World> = { name: 'look', do: () => undefined }

function makeWorld(steps: readonly Step<World>[]) {
  return () => {
    const context: World = new Set()
    return { steps, context, journal: memoryJournal(), snapshot: () => [...context].sort().join(' ') }
  }
}

describe('runSteps', () => {
  test('runs each step in order', async () => {
    const { context, journal } = makeWorld([])()
    await runSteps([put('a'), look, put('b')], context, journal)
    assert.deepEqual([...context], ['a', 'b'])
    assert.deepEqual(journal.begun(), ['a', 'look', 'b'])
  })

  test('undoes the last first, and what an earlier run began', async () => {
    const told: string[] = []
    const step = (name: string, fails = false): Step<null> => ({
      name,
      do: () => {
        if (fails) throw new Error('no')
      },
      undo: () => void told.push(name),
    })
    const journal = memoryJournal()
    for (const name of ['a', 'b', 'c']) journal.begin(name)
    await assert.rejects(runSteps([step('a'), step('b', true), step('c')], null, journal), /no/)
    assert.deepEqual(told, ['c', 'b', 'a'])
    assert.deepEqual(journal.begun(), [])
  })

  test('unwinds from every step; twice is once', async () => {
    const world = makeWorld([put('a'), look, put('b'), put('c')])
    assert.equal(await unwindsFromEveryStep(world), 8)
    await isIdempotent(world)
  })

  test('the helpers notice a step that leaves something behind, and one that can not be repeated', async () => {
    const forgetful: Step<World> = { name: 'f', do: world => void world.add('f') }
    await assert.rejects(unwindsFromEveryStep(makeWorld([forgetful])), /left something behind/)
    const growing: Step<World> = {
      name: 'g',
      do: world => void world.add(`g${world.size}`),
      undo: world => world.clear(),
    }
    await assert.rejects(isIdempotent(makeWorld([growing])), /the second run changed something/)
  })
})

describe('undoSteps', () => {
  test('goes on past an undo that fails, and keeps that one for the next time', async () => {
    const context: World = new Set()
    let broken = true
    const failing: Step<World> = {
      ...put('b'),
      undo: world => {
        if (broken) throw new BlockHostError({ code: 'BH_TEST', message: 'not now', retryable: true })
        world.delete('b')
      },
    }
    const steps = [put('a'), failing, put('c')]
    const journal = memoryJournal()
    await runSteps(steps, context, journal)
    await assert.rejects(undoSteps(steps, context, journal), { code: 'BH_UNDO_FAILED', retryable: true })
    assert.deepEqual([...context], ['b'])
    assert.deepEqual(journal.begun(), ['b'])
    broken = false
    await undoSteps(steps, context, journal)
    assert.deepEqual([...context], [])
  })
})
