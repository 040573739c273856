/** The service in this process, its signing page in Debian's Chromium, and a terminal that asks the service as the PAM module does. */
import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { systemClock } from '@blockhost/kit/clock.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { readConfig } from '@blockhost/web3-auth-svc/config.ts'
import { type Service, startService } from '@blockhost/web3-auth-svc/service.ts'
import { type Browser, chromium, type Page } from 'playwright-core'
import { findBarriers, findFaults, watchShifts } from './inspect.ts'
import { type FakeWallet, injectWallets, owner } from './wallets.ts'

/** Where Debian puts the browser. */
export const chromiumPath = '/usr/bin/chromium'
/** Name of the server that is signed in to. */
export const machineId = 'blockhost-005.1a2b3c4d'
/** Where the terminal is. */
export const source = '2001:db8:0:1:2a0:c9ff:fe01:203'

const screens = 'build/screens'

/** What the terminal shows. */
export type Connected = { session: string; code: string; url: string; message: string; fingerprint: string }

/** What the page is told a session is for: `GET /auth/pending/<session>`. */
export type Pending = { otp: string; machine_id: string; user: string; from: string; message: string }

/** How a tab is opened. */
export type TabOptions = {
  readonly wallets?: readonly FakeWallet[]
  /** The first wallet is `window.ethereum` and does not announce itself. */
  readonly old?: boolean
  /** Changes the server's answer on its way: names that no test server has, or a code that ends at once. */
  readonly pending?: Partial<Pending & { expires_in_seconds: number }>
  /** The server's answer comes when this resolves. */
  readonly until?: Promise<void>
  readonly javaScript?: boolean
}

/** A tab of the browser. */
export type Tab = AsyncDisposable & {
  readonly tab: Page
  /** Errors and warnings of the console and of scripts, refusals by the policy among them. */
  readonly problems: string[]
  text(selector: string): Promise<string>
  /** What is said to those who hear the page. */
  heard(): Promise<string>
  /** Looks at what is shown, on a phone, a tablet and a desk, light and dark: takes pictures, and expects no fault and no barrier. */
  look(name: string): Promise<void>
}

/** The service and the browser. */
export type World = AsyncDisposable & {
  readonly port: number
  /** What the PAM module does first. */
  connect(user?: string): Promise<Connected>
  /** What it does with an answer; empty = Enter. */
  enter(session: string, answer?: string): Promise<unknown>
  /** Opens an address. At its end the tab expects that nothing but the page's own server was asked. */
  open(url: string, options?: TabOptions): Promise<Tab>
}

/** Starts both. */
export async function makeWorld(): Promise<World> {
  mkdirSync(screens, { recursive: true })
  const folder = mkdtempSync(join(tmpdir(), 'signing-page-'))
  const service = await startTestService(folder)
  const browser = await chromium.launch({ executablePath: chromiumPath, args: chromiumArguments })
  const call = (method: string, params: object) =>
    callFrame(join(folder, 'socket'), { method, params }, { timeoutMs: 20_000, maxBytes: 16_384 })
  return {
    port: service.pagePort!,
    connect: async (user = 'admin') => {
      const reply = (await call('challenge', { user, service: 'sshd', rhost: source })) as Record<string, string>
      return readInvitation(reply.session!, reply.prompt_text!)
    },
    enter: (session, answer = '') => call('verify', { session, answer }),
    open: (url, options = {}) => openTab(browser, url, options),
    [Symbol.asyncDispose]: async () => {
      await browser.close()
      await service.close()
    },
  }
}

const chromiumArguments = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

function readInvitation(session: string, text: string): Connected {
  const line = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(text)![1]!
  assert.equal(line('Machine'), machineId)
  const message = line('Or sign this text with your wallet')
  const fingerprint = [...text.matchAll(/^ *((?:[0-9A-F]{2}[: ]?){16})$/gm)].map(([, half]) => half).join('')
  return { session, code: line('Code'), url: line('Sign at'), message, fingerprint }
}

function startTestService(folder: string): Promise<Service> {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  const wallets = write('wallets', `${owner.address}:admin\n`)
  const service = write(
    'service.toml',
    `socket_path = "${folder}/socket"\nstate_dir = "${folder}/state"\n[login]\nattempts_per_minute_per_source = 1000\n` +
      `attempts_per_minute_per_user = 1000\n[page]\nhost = "127.0.0.1"\nport = 0\n`,
  )
  const login = write(
    'login.toml',
    `[machine]\nid = "${machineId}"\n[auth]\nmode = "wallet"\n[wallet]\nwallets_path = "${wallets}"\n`,
  )
  const addresses = () => [{ address: '127.0.0.1', internal: false }]
  const deps = { clock: systemClock, log: silentLog, addresses, trustedUser: process.getuid?.() ?? 0 }
  return startService(readConfig({ service, login }), {}, deps)
}

const looks = (['light', 'dark'] as const).flatMap(theme => [360, 768, 1280].map(width => ({ theme, width })))

async function openTab(browser: Browser, url: string, options: TabOptions): Promise<Tab> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true, // the certificate signs itself; that it is right is tested beside it
    viewport: { width: 1280, height: 800 },
    javaScriptEnabled: options.javaScript ?? true,
  })
  if (options.wallets !== undefined) await injectWallets(context, options.wallets, options.old)
  await context.addInitScript(watchShifts)
  const tab = await context.newPage()
  if (options.pending !== undefined || options.until !== undefined) await changeAnswer(tab, options)
  const problems: string[] = []
  tab.on('console', message => {
    if (['warning', 'error'].includes(message.type())) problems.push(message.text())
  })
  tab.on('pageerror', error => problems.push(String(error)))
  const foreign: string[] = []
  context.on('request', request => {
    if (!/^data:/.test(request.url()) && new URL(request.url()).origin !== new URL(url).origin)
      foreign.push(request.url())
  })
  await tab.goto(url)
  return {
    tab,
    problems,
    text: async selector => (await tab.locator(selector).textContent()) ?? '',
    heard: async () => (await tab.locator('#status').textContent()) ?? '',
    look: name => look(tab, name, options.javaScript ?? true),
    [Symbol.asyncDispose]: async () => {
      await context.close()
      assert.deepEqual(foreign, [], 'asked another server')
    },
  }
}

async function changeAnswer(tab: Page, { pending, until }: TabOptions): Promise<void> {
  await tab.route('**/auth/pending/*', async route => {
    await until
    const response = await route.fetch()
    if (!response.ok()) return route.fulfill({ response })
    await route.fulfill({ response, json: { ...((await response.json()) as object), ...pending } })
  })
}

/** On a small machine most of the time goes into axe and pictures: both only where they tell something new. Axe needs a page's scripts. */
async function look(tab: Page, name: string, canRunAxe: boolean): Promise<void> {
  for (const { theme, width } of looks) {
    await tab.emulateMedia({ colorScheme: theme, reducedMotion: 'reduce' })
    await tab.setViewportSize({ width, height: 800 })
    const title = `${name}-${theme}-${width}`
    const tells = width === (theme === 'light' ? 360 : 1280)
    if (tells || process.env.SCREENS === 'all')
      await tab.screenshot({ path: join(screens, `${title}.png`), fullPage: true, caret: 'hide' })
    assert.deepEqual(await findFaults(tab), [], title)
    if (tells && canRunAxe) assert.deepEqual(await findBarriers(tab), [], title)
  }
}
