import { BlockHostError } from '@blockhost/kit/errors.ts'
import type { Sockets } from './service.ts'

/**
 * Returns the sockets that systemd passed (sd_listen_fds(3)) by their FileDescriptorName=: `frames` and `page`. Without names the
 * first is `frames` and the second `page`.
 *
 * @param env - The process's environment; LISTEN_PID must name `pid`.
 * @throws {BlockHostError} `BH_SOCKET_LISTEN_FAILED` for a socket of another name, or when `frames` is missing.
 */
export function inheritedSockets(env: Readonly<Record<string, string | undefined>>, pid: number): Sockets | undefined {
  const count = Number(env.LISTEN_FDS ?? 0)
  if (!(count > 0) || Number(env.LISTEN_PID) !== pid) return undefined
  const names = env.LISTEN_FDNAMES?.split(':') ?? ['frames', 'page']
  const sockets: { frames?: number; page?: number } = {}
  for (let index = 0; index < count; index++) {
    const name = names[index]
    if (name !== 'frames' && name !== 'page') throw unexpected(`a socket named ${name ?? 'nothing'}`)
    sockets[name] = 3 + index
  }
  if (sockets.frames === undefined) throw unexpected('no socket named frames')
  return sockets
}

function unexpected(what: string): BlockHostError {
  return new BlockHostError({
    code: 'BH_SOCKET_LISTEN_FAILED',
    message: `Got ${what} from systemd`,
    hint: 'The .socket units must say FileDescriptorName=frames and FileDescriptorName=page.',
  })
}
