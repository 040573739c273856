import { readFileSync } from 'node:fs'

/** Tells processes apart over restarts and reuse of their numbers. */
export type Processes = {
  /** Identifies this process. */
  readonly self: string
  /** Returns whether the process of an identifier still runs on this machine. */
  isAlive(process: string): boolean
}

/** The machine's processes: an identifier is `<boot id> <pid> <start time>`, from /proc (proc(5)). */
export function systemProcesses(pid: number = process.pid, proc = '/proc'): Processes {
  const bootId = readFileSync(`${proc}/sys/kernel/random/boot_id`, 'utf8').trim()
  const identify = (of: number) => {
    const start = startTime(`${proc}/${of}/stat`)
    return start === undefined ? undefined : `${bootId} ${of} ${start}`
  }
  return {
    self: identify(pid) ?? `${bootId} ${pid} 0`,
    isAlive: id => identify(Number(id.split(' ')[1])) === id,
  }
}

/** Field 22 of stat: clock ticks after boot. The name in field 2 may hold blanks and parentheses. A zombie does not run. */
function startTime(path: string): string | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  return fields[0] === 'Z' ? undefined : fields[19]
}
