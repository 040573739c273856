/** Codes that were shown and wait for an answer. They live in memory only: what ends the service ends them. */
import { randomBytes } from 'node:crypto'
import { makeOtp, signInText } from '@blockhost/crypto/otp.ts'
import type { Clock } from '@blockhost/kit/clock.ts'

/** Who wants to sign in, as PAM says. */
export type SignInRequest = {
  readonly user: string
  /** PAM service, e.g. `sshd`. */
  readonly service: string
  /** Where from: address or name, empty when local. */
  readonly rhost: string
}

/** One code and what it is for. */
export type Challenge = SignInRequest & {
  /** 32 hex digits nobody can guess: whoever has them may answer. */
  readonly session: string
  readonly code: string
  /** What has to be signed, exactly. */
  readonly text: string
  /** On the monotonic clock, milliseconds. */
  readonly endsAtMs: number
}

/** Longest answer: signatures of contract wallets with many owners or a passkey have some thousand bytes. */
export const maxSignatureBytes = 4096

/** What became of an answer from the signing page. */
export type PageAnswer = 'taken' | 'unknown' | 'answered'

/** The open codes of this process. */
export type Challenges = {
  /** Makes a code. At most 4,096 are open: the oldest of the source with most of them makes room. */
  open(request: SignInRequest, source: string): Challenge
  /** Returns an open code that nobody has answered in the terminal. */
  find(session: string): (Challenge & { readonly answered: boolean }) | undefined
  /** Takes a code for judging: nobody else gets it, now or later. `undefined` when it is unknown, used or over. */
  take(session: string): Challenge | undefined
  /** Keeps what the page sent, the last of several: who chose the wrong account signs again. `answered`: the terminal took one already. */
  answer(session: string, signature: string): PageAnswer
  /** Returns what the page sent, waiting for it `ms` at most and not beyond the code's life. Only after {@link Challenges.take}. */
  pageAnswer(session: string, ms: number): Promise<string | undefined>
  /** Forgets a taken code. */
  close(session: string): void
  /** Codes that can still be answered. */
  count(): number
  /** Milliseconds until the last of them is over; 0 when there is none. */
  longestMs(): number
}

/** What {@link createChallenges} needs. */
export type ChallengeOptions = {
  readonly machineId: string
  readonly secret: Uint8Array
  readonly codeLength: number
  readonly ttlMs: number
  /** Default 4,096. */
  readonly max?: number
}

type Open = Challenge & { source: string; taken: boolean; signature: string | undefined; wake: () => void }

/** Makes the store of codes. Times are the monotonic clock's: setting the machine's time neither ends nor extends a code. */
export function createChallenges(options: ChallengeOptions, clock: Clock): Challenges {
  const { machineId, secret, codeLength, ttlMs, max = 4096 } = options
  const open = new Map<string, Open>()

  /** The map is in order of making, and all live equally long: the dead are in front. */
  function sweep(): void {
    const nowMs = clock.monotonic()
    for (const challenge of open.values()) {
      if (challenge.endsAtMs > nowMs) return
      remove(challenge)
    }
  }

  function remove(challenge: Open): void {
    open.delete(challenge.session)
    challenge.wake()
  }

  function makeRoom(): void {
    const counts = new Map<string, number>()
    for (const { source } of open.values()) counts.set(source, (counts.get(source) ?? 0) + 1)
    const [busiest] = [...counts].reduce((most, each) => (each[1] > most[1] ? each : most))
    remove(open.values().find(({ source, taken }) => source === busiest && !taken) ?? open.values().next().value!)
  }

  function live(session: string): Open | undefined {
    sweep()
    return open.get(session)
  }

  return {
    open(request, source) {
      sweep()
      if (open.size >= max) makeRoom()
      const bytes = randomBytes(16)
      const timeSeconds = Math.floor(clock.now() / 1000)
      const code = makeOtp({ secret, machineId, timeSeconds, session: bytes, length: codeLength })
      const { user, service, rhost } = request
      const fixed = { user, service, rhost, session: bytes.toString('hex'), code, text: signInText(machineId, code) }
      const challenge = { ...fixed, endsAtMs: clock.monotonic() + ttlMs }
      open.set(challenge.session, { ...challenge, source, taken: false, signature: undefined, wake: () => undefined })
      return challenge
    },
    find(session) {
      const challenge = live(session)
      return challenge === undefined ? undefined : { ...challenge, answered: challenge.signature !== undefined }
    },
    take(session) {
      const challenge = live(session)
      if (challenge === undefined || challenge.taken) return undefined
      challenge.taken = true
      return challenge
    },
    answer(session, signature) {
      const challenge = live(session)
      if (challenge === undefined) return 'unknown'
      if (challenge.taken && challenge.signature !== undefined) return 'answered'
      challenge.signature = signature
      challenge.wake()
      return 'taken'
    },
    async pageAnswer(session, ms) {
      const challenge = live(session)
      if (challenge === undefined || challenge.signature !== undefined) return challenge?.signature
      const waiting = new AbortController()
      challenge.wake = () => waiting.abort()
      await clock.sleep(Math.min(ms, challenge.endsAtMs - clock.monotonic()), waiting.signal)
      return challenge.signature
    },
    close(session) {
      const challenge = open.get(session)
      if (challenge !== undefined) remove(challenge)
    },
    count() {
      sweep()
      return open.size
    },
    longestMs() {
      sweep()
      const last = [...open.values()].at(-1)
      return last === undefined ? 0 : last.endsAtMs - clock.monotonic()
    },
  }
}
