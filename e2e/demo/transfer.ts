// A plain TCP transfer between two machines of the lab, for its throughput. Run inside one of them:
//   node transfer.ts listen|connect send|receive <address> <port> <seconds>
// The receiver prints one line of JSON: {"bytes": …, "ms": …}.
import { once } from 'node:events'
import { connect, createServer, type Socket } from 'node:net'
import type { Machine } from '@blockhost/testkit/machine.ts'
import { eventually, expect } from './expect.ts'

/** One direction of a transfer. */
export type Transfer = {
  /** Waits for the connection at `address`. */
  listener: Machine
  address: string
  /** Makes the connection. */
  connector: Machine
  /** Which of the two sends. */
  sender: 'listener' | 'connector'
  /** Default 2. */
  seconds?: number
}

const port = 5001

/** Measures a transfer and returns its throughput in Mbit/s, as the receiver saw it. */
export async function measureTransfer(transfer: Transfer): Promise<number> {
  const { listener, connector, address, sender, seconds = 2 } = transfer
  const argv = (how: string, what: string) =>
    [process.execPath, import.meta.filename, how, what, address, `${port}`, `${seconds}`] as const
  const listening = await listener.spawn([...argv('listen', sender === 'listener' ? 'send' : 'receive')])
  await eventually('a listener', () => (listening.lastLines().includes('listening') ? true : undefined))
  const [program, ...args] = argv('connect', sender === 'connector' ? 'send' : 'receive')
  const connected = await connector.exec(program, args, { timeoutMs: (seconds + 20) * 1000 })
  await listening.ended
  const said = `${connected.stdout}\n${listening.lastLines().join('\n')}`
  const result = said.match(/^\{"bytes":(\d+),"ms":([\d.]+)\}$/m)
  expect(result !== null, 'the receiver to say how much it got', said.trim())
  return (Number(result[1]) * 8) / (Number(result[2]) * 1000)
}

async function main([how, what, address, , seconds]: readonly string[]): Promise<void> {
  const socket = how === 'listen' ? await accept(address!) : connect(port, address)
  if (what === 'send') await send(socket, Number(seconds) * 1000)
  else await receive(socket)
}

async function accept(address: string): Promise<Socket> {
  const server = createServer()
  server.listen(port, address, () => console.log('listening'))
  const [socket] = (await once(server, 'connection')) as [Socket]
  server.close()
  return socket
}

async function send(socket: Socket, ms: number): Promise<void> {
  const chunk = Buffer.alloc(256 * 1024, 'BlockHost')
  const end = performance.now() + ms
  while (performance.now() < end) if (!socket.write(chunk)) await once(socket, 'drain')
  socket.end()
  await once(socket, 'close')
}

async function receive(socket: Socket): Promise<void> {
  let bytes = 0
  let startedAt = 0
  socket.on('data', chunk => {
    startedAt ||= performance.now()
    bytes += chunk.length
  })
  await once(socket, 'end')
  console.log(JSON.stringify({ bytes, ms: Math.max(1, performance.now() - startedAt) }))
}

if (import.meta.main) await main(process.argv.slice(2))
