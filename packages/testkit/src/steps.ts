/** What every workflow made of steps must pass: whatever happens at whichever step, nothing is left half done. */
import assert from 'node:assert/strict'
import { runSteps, type Step, type StepJournal, undoSteps } from '@blockhost/kit/steps.ts'

/** One fresh world in which a workflow can be run, and be looked at from outside. */
export type StepsWorld<Context> = {
  readonly steps: readonly Step<Context>[]
  readonly context: Context
  readonly journal: StepJournal
  /** Everything the workflow may change, as text; equal texts mean equal worlds. */
  snapshot(): string
}

/** Makes a world that is the same each time. */
export type MakeStepsWorld<Context> = () => StepsWorld<Context> | Promise<StepsWorld<Context>>

/**
 * Fails the workflow before, and after, the work of every step in turn and asserts that the world is as it was before it began.
 *
 * @returns How many failures were tried.
 */
export async function unwindsFromEveryStep<Context>(makeWorld: MakeStepsWorld<Context>): Promise<number> {
  const { steps } = await makeWorld()
  let tried = 0
  for (const [index, step] of steps.entries())
    for (const when of ['before', 'after'] as const) {
      const world = await makeWorld()
      const before = world.snapshot()
      const failure = new Error(`made to fail ${when} ${step.name}`)
      const failing = failAt(world.steps, index, when, failure)
      await assert.rejects(runSteps(failing, world.context, world.journal), failure)
      assert.equal(world.snapshot(), before, `${step.name}, failed ${when} its work, left something behind`)
      assert.deepEqual(world.journal.begun(), [], `${step.name}, failed ${when} its work, left a note in the journal`)
      tried++
    }
  return tried
}

/**
 * Asserts that running twice changes nothing more than running once, that undoing twice is undoing once, and that a workflow that
 * was killed (no undo ran) at any step can be finished by running it again, or be taken back by undoing.
 */
export async function isIdempotent<Context>(makeWorld: MakeStepsWorld<Context>): Promise<void> {
  const world = await makeWorld()
  const before = world.snapshot()
  await runSteps(world.steps, world.context, world.journal)
  const done = world.snapshot()
  await runSteps(world.steps, world.context, world.journal)
  assert.equal(world.snapshot(), done, 'the second run changed something')
  for (const step of world.steps) if (!world.journal.begun().includes(step.name)) world.journal.begin(step.name)
  await undoSteps(world.steps, world.context, world.journal)
  assert.equal(world.snapshot(), before, 'undoing left something behind')
  for (const step of world.steps) world.journal.begin(step.name)
  await undoSteps(world.steps, world.context, world.journal)
  assert.equal(world.snapshot(), before, 'undoing twice changed something')
  for (const index of world.steps.keys()) await survivesKill(makeWorld, index, { before, done })
}

/**
 * For workflows that only go forward (a removal): asserts that after a failure before, and after, the work of every step the next
 * run ends as an undisturbed one does, and that running twice is running once.
 *
 * @returns How many failures were tried.
 */
export async function finishesFromEveryStep<Context>(makeWorld: MakeStepsWorld<Context>): Promise<number> {
  const world = await makeWorld()
  await runSteps(world.steps, world.context, world.journal)
  const done = world.snapshot()
  await runSteps(world.steps, world.context, world.journal)
  assert.equal(world.snapshot(), done, 'the second run changed something')
  let tried = 0
  for (const [index, step] of world.steps.entries())
    for (const when of ['before', 'after'] as const) {
      const again = await makeWorld()
      const failure = new Error(`made to fail ${when} ${step.name}`)
      await assert.rejects(runSteps(failAt(again.steps, index, when, failure), again.context, again.journal), failure)
      await runSteps(again.steps, again.context, again.journal)
      assert.equal(again.snapshot(), done, `failed ${when} ${step.name}, the next run ended differently`)
      tried++
    }
  return tried
}

async function survivesKill<Context>(
  makeWorld: MakeStepsWorld<Context>,
  index: number,
  expected: { before: string; done: string },
): Promise<void> {
  const finished = await makeWorld()
  const { name } = finished.steps[index]!
  await killAfter(finished, index)
  await runSteps(finished.steps, finished.context, finished.journal)
  assert.equal(finished.snapshot(), expected.done, `killed after ${name}, the next run ended differently`)
  const undone = await makeWorld()
  await killAfter(undone, index)
  await undoSteps(undone.steps, undone.context, undone.journal)
  assert.equal(undone.snapshot(), expected.before, `killed after ${name}, undoing left something behind`)
}

/** The process ends: the work of the step is done, nobody writes anything down any more. */
async function killAfter<Context>(world: StepsWorld<Context>, index: number): Promise<void> {
  for (const step of world.steps.slice(0, index + 1)) {
    if (!world.journal.begun().includes(step.name)) world.journal.begin(step.name)
    await step.do(world.context)
  }
}

function failAt<Context>(
  steps: readonly Step<Context>[],
  index: number,
  when: 'before' | 'after',
  failure: Error,
): Step<Context>[] {
  return steps.map((step, at) => ({
    ...step,
    do: async context => {
      if (at === index && when === 'before') throw failure
      await step.do(context)
      if (at === index) throw failure
    },
  }))
}
