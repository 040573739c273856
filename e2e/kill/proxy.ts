// Runs inside a test machine: a JSON-RPC endpoint on 127.0.0.1:8600 in front of the one named by the first argument. While the file
// /run/hold names a method ("eth_sendRawTransaction before" or "… after"), a request with that method never gets an answer: held
// back before it is passed on, or after it took effect. Then /run/held appears, and somebody gets killed.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'

const target = process.argv[2]!

createServer(async (request, response) => {
  const body = await read(request)
  if (holds(body, 'before')) return
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(target, { method: 'POST', headers, body }).then(reply => reply.text())
  if (holds(body, 'after')) return
  response.setHeader('content-type', 'application/json').end(answer)
}).listen(8600, '127.0.0.1', () => process.stdout.write('listening\n'))

function holds(body: string, when: string): boolean {
  const [method, moment] = existsSync('/run/hold') ? readFileSync('/run/hold', 'utf8').trim().split(' ') : []
  if (method === undefined || moment !== when || !body.includes(`"${method}"`)) return false
  writeFileSync('/run/held', '')
  return true
}

async function read(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks).toString('utf8')
}
