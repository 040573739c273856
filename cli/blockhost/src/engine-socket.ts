import { request } from 'node:http'

/** What a running engine says of itself; `undefined`: none answers. */
export type EngineHealth = { readonly healthy: boolean; readonly version: string; readonly reasons: readonly string[] }

/** Asks the engine's socket for its health. Never rejects. @param path - `socket` of engine.yaml. */
export async function askEngine(path: string): Promise<EngineHealth | undefined> {
  const text = await get(path, '/health')
  if (text === undefined) return undefined
  try {
    const { status, version, reasons } = JSON.parse(text) as { status: string; version: string; reasons: string[] }
    return { healthy: status === 'healthy', version, reasons }
  } catch {
    return undefined // something else listens there
  }
}

function get(socketPath: string, path: string): Promise<string | undefined> {
  return new Promise(resolve => {
    const asked = request({ socketPath, path, timeout: 3_000 }, response => {
      let text = ''
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part
      })
      response.on('end', () => resolve(text))
    })
    asked.on('timeout', () => asked.destroy())
    asked.on('error', () => resolve(undefined)).end()
  })
}
