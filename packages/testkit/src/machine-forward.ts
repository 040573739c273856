// Runs inside a machine: what connects to the Unix socket argv[2] is joined to TCP argv[3] (host), argv[4] (port).
import { connect, createServer } from 'node:net'
import { splice } from './machine.ts'

const [socket, host, port] = process.argv.slice(2)
if (import.meta.main)
  createServer(client => splice(client, connect(Number(port), host))).listen(socket, () => console.log('ready'))
