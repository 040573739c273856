// Runs inside a machine: what connects to TCP argv[3] on 127.0.0.1 is joined to the Unix socket argv[2], which the test listens on.
import { connect, createServer } from 'node:net'
import { splice } from '@blockhost/testkit/machine.ts'

const [socket, port] = process.argv.slice(2)
if (import.meta.main)
  createServer(client => splice(client, connect(socket!))).listen(Number(port), '127.0.0.1', () => console.log('ready'))
