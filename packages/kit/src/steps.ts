import { BlockHostError, isRetryable } from './errors.ts'

/**
 * One step of something that touches several systems. Both directions are safe to repeat: `do` leaves alone what is so already,
 * `undo` is fine when there is nothing (its step may have failed before, in the middle of, or after its work).
 */
export type Step<Context> = {
  /** Unique in its list; goes to the journal and into messages. */
  readonly name: string
  do(context: Context): Promise<void> | void
  /** Absent: there is nothing to take back. */
  undo?(context: Context): Promise<void> | void
}

/** Which steps have something to take back, kept where a crash does not reach it. Writes are durable when they return. */
export type StepJournal = {
  /** Steps that began and were not undone, in the order they began. */
  begun(): readonly string[]
  begin(step: string): void
  undone(step: string): void
}

/**
 * Runs the steps in order; when one fails, undoes what began, the last first, and throws what the step threw.
 *
 * Every step runs, also those that the journal knows: a run after a crash looks at what is there rather than at what was written
 * down. The journal says what to take back, also of an earlier run.
 *
 * @throws what the failing step threw; {@link undoFailed} when something could not be taken back (the journal keeps it).
 */
export async function runSteps<Context>(
  steps: readonly Step<Context>[],
  context: Context,
  journal: StepJournal,
): Promise<void> {
  for (const step of steps) {
    if (!journal.begun().includes(step.name)) journal.begin(step.name)
    try {
      await step.do(context)
    } catch (error) {
      await undoSteps(steps, context, journal, error)
      throw error
    }
  }
}

/**
 * Undoes what the journal says began, the last first. One undo that fails does not keep the others from being tried.
 *
 * @param because - What made it necessary; named in the error.
 * @throws {BlockHostError} `BH_UNDO_FAILED`, retryable if each failure is; undo again to go on.
 */
export async function undoSteps<Context>(
  steps: readonly Step<Context>[],
  context: Context,
  journal: StepJournal,
  because?: unknown,
): Promise<void> {
  const failures: { step: string; error: unknown }[] = []
  for (const name of journal.begun().toReversed()) {
    try {
      await steps.find(step => step.name === name)?.undo?.(context)
      journal.undone(name)
    } catch (error) {
      failures.push({ step: name, error })
    }
  }
  if (failures.length > 0) throw undoFailed(failures, because)
}

/** Makes a journal that lives as long as the process; for work that is found again by other means after a crash. */
export function memoryJournal(): StepJournal {
  let names: string[] = []
  return {
    begun: () => names,
    begin: step => void names.push(step),
    undone: step => {
      names = names.filter(name => name !== step)
    },
  }
}

function undoFailed(failures: readonly { step: string; error: unknown }[], because: unknown): BlockHostError {
  const [first] = failures
  const names = failures.map(({ step }) => step)
  return new BlockHostError({
    code: 'BH_UNDO_FAILED',
    message: `Could not take back ${names.join(', ')}`,
    hint: 'What is left is remembered; the same command goes on with it.',
    fields: {
      steps: names,
      ...(because === undefined ? {} : { because: because instanceof Error ? because.message : String(because) }),
    },
    retryable: failures.every(({ error }) => isRetryable(error)),
    cause: first?.error,
  })
}
