import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { callFrame } from '@blockhost/kit/frame.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import { readConfig } from '@blockhost/web3-auth-svc/config.ts'
import { type Service, startService } from '@blockhost/web3-auth-svc/service.ts'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

const program = '/usr/bin/chromium'
const needsChromium = { skip: existsSync(program) ? false : `needs ${program} (apt-get install chromium)` }
const limit = { timeout: 60_000 }
const owner = testWallet(1)
const machineId = 'blockhost-005.1a2b3c4d'
const screens = 'build/screens'
const userRejected = 4001

describe('signing page', needsChromium, () => {
  let world: World
  before(async () => {
    world = await makeWorld()
  }, limit)
  after(() => world[Symbol.asyncDispose]())

  it(
    'shows code, server and user; signs with the wallet chosen; Enter in the terminal then signs in',
    limit,
    async () => {
      const challenge = await world.connect()
      await using page = await world.open(challenge.url, [{ name: 'Test Wallet', answer: 'sign' }])
      assert.equal(await page.text('#code'), challenge.code)
      assert.equal(await page.text('#machine'), machineId)
      assert.equal(await page.text('#user'), 'admin')
      assert.equal(await page.text('#from'), '2001:db8:0:1:2a0:c9ff:fe01:203')
      assert.match(await page.text('#left'), /^(5:00|4:5\d)$/)
      await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
      await page.tab.getByRole('status').getByText('press Enter').waitFor()
      assert.deepEqual(await world.enter(challenge.session), { success: true })
      assert.deepEqual(await world.enter(challenge.session), {
        success: false,
        reason: 'denied',
        error: 'This code was used already, or is over. Connect again.',
      })
      assert.deepEqual(page.problems, [])
    },
  )

  it('takes the signature also when Enter came first', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, [{ name: 'Test Wallet', answer: 'sign' }])
    const entered = world.enter(challenge.session)
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
    assert.deepEqual(await entered, { success: true })
  })

  it('is usable by keyboard alone', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, [{ name: 'Test Wallet', answer: 'sign' }])
    const first = page.tab.getByRole('button', { name: 'Sign with Test Wallet' })
    await first.waitFor()
    for (let presses = 0; !(await first.evaluate(button => button.matches(':focus'))); presses++) {
      assert.ok(presses < 10, 'the wallet is reached by Tab')
      await page.tab.keyboard.press('Tab')
    }
    await page.tab.keyboard.press('Enter')
    await page.tab.getByRole('status').getByText('press Enter').waitFor()
    assert.equal(await page.tab.evaluate('document.activeElement.id'), 'sent')
  })

  it('says so when the wallet declines, and lets it be tried again', limit, async () => {
    const challenge = await world.connect()
    const wallets: FakeWallet[] = [
      { name: 'Shy Wallet', answer: 'decline' },
      { name: 'Test Wallet', answer: 'sign' },
    ]
    await using page = await world.open(challenge.url, wallets)
    await page.tab.getByRole('button', { name: 'Sign with Shy Wallet' }).click()
    await page.tab.getByRole('alert').getByText('The wallet declined. Nothing was signed').waitFor()
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
    await page.tab.getByRole('status').getByText('press Enter').waitFor()
  })

  it('keeps the signature when the server can not be reached, and sends it again', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, [{ name: 'Test Wallet', answer: 'sign' }])
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).waitFor()
    await page.tab.context().setOffline(true)
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
    await page.tab.getByRole('button', { name: 'Send again' }).waitFor()
    assert.equal(await page.text('#signature'), signMessage(challenge.message, owner.privateKey))
    await page.tab.context().setOffline(false)
    await page.tab.getByRole('button', { name: 'Send again' }).click()
    await page.tab.getByRole('status').getByText('press Enter').waitFor()
    assert.deepEqual(await world.enter(challenge.session), { success: true })
  })

  it('without a wallet shows the text to sign elsewhere', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, [])
    await page.tab.getByRole('heading', { name: 'No wallet was found in this browser' }).waitFor()
    await page.tab.getByText('Sign with another wallet').click()
    assert.equal(await page.text('#text'), challenge.message)
  })

  it('says what to do without a session, and with one that is over', limit, async () => {
    const challenge = await world.connect()
    await world.enter(challenge.session, 'garbage')
    await using over = await world.open(challenge.url, [])
    await over.tab.getByRole('heading', { name: 'This code is over' }).waitFor()
    await using bare = await world.open(`https://127.0.0.1:${world.port}/`, [])
    await bare.tab.getByRole('heading', { name: 'Which sign-in is this?' }).waitFor()
  })

  for (const [theme, width] of [
    ['light', 390],
    ['light', 1280],
    ['dark', 390],
    ['dark', 1280],
  ] as const)
    it(`fits ${width} px, ${theme}: nothing overflows, every text has its contrast`, limit, async () => {
      const challenge = await world.connect('a-user-with-a-rather-long-name')
      const wallets: FakeWallet[] = [
        { name: 'Test Wallet', answer: 'sign' },
        { name: 'Shy Wallet', answer: 'decline' },
      ]
      await using page = await world.open(challenge.url, wallets, { theme, width })
      await page.tab.getByRole('button', { name: 'Sign with Shy Wallet' }).waitFor()
      await page.look(`signing-${theme}-${width}`)
      await page.tab.getByText('Sign with another wallet').click()
      await page.tab.getByRole('button', { name: 'Sign with Shy Wallet' }).click()
      await page.tab.getByRole('alert').waitFor()
      await page.look(`declined-${theme}-${width}`)
      await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
      await page.tab.getByRole('status').getByText('press Enter').waitFor()
      await page.look(`signed-${theme}-${width}`)
      await using over = await world.open(`https://127.0.0.1:${world.port}/?session=${'0'.repeat(32)}`, [], {
        theme,
        width,
      })
      await over.tab.getByRole('heading', { name: 'This code is over' }).waitFor()
      await over.look(`over-${theme}-${width}`)
    })

  it('fits 360 px', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, [{ name: 'Wallet', answer: 'sign' }], {
      theme: 'light',
      width: 360,
    })
    await page.tab.getByText('Sign with another wallet').click()
    await page.look('signing-light-360')
  })
})

type FakeWallet = { name: string; answer: 'sign' | 'decline' }
type Connected = { session: string; code: string; url: string; message: string }
type Look = { theme: 'light' | 'dark'; width: number }

/** A tab of the browser with what it complained about. */
type Tab = AsyncDisposable & {
  tab: Page
  /** Messages of the console that are warnings or errors, refused by the CSP among them. */
  problems: string[]
  text(selector: string): Promise<string>
  /** Takes a picture, and checks what can be checked without eyes. */
  look(name: string): Promise<void>
}

type World = AsyncDisposable & {
  port: number
  /** What the PAM module does first. */
  connect(user?: string): Promise<Connected>
  /** What it does with an answer; empty = Enter. */
  enter(session: string, answer?: string): Promise<unknown>
  open(url: string, wallets: FakeWallet[], look?: Look): Promise<Tab>
}

/** The service in this process, wallets of a file, and a browser. */
async function makeWorld(): Promise<World> {
  mkdirSync(screens, { recursive: true })
  const folder = mkdtempSync(join(tmpdir(), 'signing-page-'))
  const service = await startTestService(folder)
  const browser = await chromium.launch({ executablePath: program, args: chromiumArguments })
  const call = (method: string, params: object) =>
    callFrame(join(folder, 'socket'), { method, params }, { timeoutMs: 20_000, maxBytes: 16_384 })
  const port = service.pagePort!
  return {
    port,
    connect: async (user = 'admin') => {
      const reply = (await call('challenge', {
        user,
        service: 'sshd',
        rhost: '2001:db8:0:1:2a0:c9ff:fe01:203',
      })) as Record<string, string>
      const line = (name: string) => new RegExp(`^${name}: (.*)$`, 'm').exec(reply.prompt_text!)![1]!
      assert.equal(line('Machine'), machineId)
      const message = line('Or sign this text with your wallet')
      return { session: reply.session!, code: line('Code'), url: line('Sign at'), message }
    },
    enter: (session, answer = '') => call('verify', { session, answer }),
    open: (url, wallets, look) => openTab(browser, url, wallets, look),
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

function startTestService(folder: string): Promise<Service> {
  const write = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 })
    return join(folder, name)
  }
  const wallets = write('wallets', `${owner.address}:admin\n${owner.address}:a-user-with-a-rather-long-name\n`)
  const service = write(
    'service.toml',
    `socket_path = "${folder}/socket"\nstate_dir = "${folder}/state"\n[login]\nattempts_per_minute_per_source = 1000\n` +
      `[page]\nhost = "127.0.0.1"\nport = 0\n`,
  )
  const login = write(
    'login.toml',
    `[machine]\nid = "${machineId}"\n[auth]\nmode = "wallet"\n[wallet]\nwallets_path = "${wallets}"\n`,
  )
  return startService(
    readConfig({ service, login }),
    {},
    {
      clock: systemClock,
      log: silentLog,
      addresses: () => [{ address: '127.0.0.1', internal: false }],
      trustedUser: process.getuid?.() ?? 0,
    },
  )
}

async function openTab(browser: Browser, url: string, wallets: FakeWallet[], look?: Look): Promise<Tab> {
  const context = await browser.newContext({
    ignoreHTTPSErrors: true, // the certificate signs itself; that it is right is tested beside it
    viewport: { width: look?.width ?? 1280, height: 800 },
    colorScheme: look?.theme ?? 'light',
  })
  await injectWallets(context, wallets)
  const tab = await context.newPage()
  const problems: string[] = []
  tab.on('console', message => {
    if (['warning', 'error'].includes(message.type())) problems.push(message.text())
  })
  tab.on('pageerror', error => problems.push(String(error)))
  await tab.goto(url)
  return {
    tab,
    problems,
    text: async selector => (await tab.locator(selector).textContent()) ?? '',
    look: async name => {
      await tab.screenshot({ path: join(screens, `${name}.png`), fullPage: true })
      assert.deepEqual(await tab.evaluate(findFaults), [], name)
    },
    [Symbol.asyncDispose]: () => context.close(),
  }
}

/** Announces wallets as EIP-6963 has it; their signatures are made in this process. */
async function injectWallets(context: BrowserContext, wallets: FakeWallet[]): Promise<void> {
  await context.exposeFunction('testWalletRequest', (answer: string, method: string, params: string[] = []) => {
    if (answer === 'decline') return { error: { code: userRejected, message: 'User rejected the request.' } }
    if (method === 'eth_requestAccounts') return { result: [owner.address] }
    assert.equal(method, 'personal_sign')
    assert.equal(params[1], owner.address)
    return { result: signMessage(Buffer.from(params[0]!.slice(2), 'hex').toString('utf8'), owner.privateKey) }
  })
  await context.addInitScript(`(() => {
    const icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='darkorange'/%3E%3C/svg%3E"
    const announce = () => {
      for (const [index, { name, answer }] of ${JSON.stringify(wallets)}.entries()) {
        const request = async ({ method, params }) => {
          const { result, error } = await testWalletRequest(answer, method, params)
          if (error) throw Object.assign(new Error(error.message), error)
          return result
        }
        const detail = Object.freeze({ info: { uuid: 'wallet-' + index, name, icon, rdns: 'test.wallet' + index }, provider: { request } })
        dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail }))
      }
    }
    addEventListener('eip6963:requestProvider', announce)
  })()`)
}

/** Runs in the page: what is wider than the window, targets below 44 px, and text below 4.5:1 (WCAG 2.2, 1.4.3). */
const findFaults = `(() => {
  const faults = []
  if (document.documentElement.scrollWidth > innerWidth) faults.push('the page is wider than the window')
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
  const rgb = color => {
    canvas.clearRect(0, 0, 1, 1)
    canvas.fillStyle = color
    canvas.fillRect(0, 0, 1, 1)
    return [...canvas.getImageData(0, 0, 1, 1).data]
  }
  const luminance = color => {
    const [r, g, b] = rgb(color).map(v => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b
  }
  const backgroundOf = e => {
    for (; e; e = e.parentElement) {
      const color = getComputedStyle(e).backgroundColor
      if (rgb(color)[3] === 255) return color
    }
    return 'white'
  }
  for (const e of document.querySelectorAll('body *')) {
    const box = e.getBoundingClientRect()
    if (box.width === 0 || !e.checkVisibility()) continue
    const hasText = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim() !== '')
    if (hasText) {
      const [a, b] = [luminance(getComputedStyle(e).color), luminance(backgroundOf(e))].sort((x, y) => y - x)
      const ratio = (a + 0.05) / (b + 0.05)
      if (ratio < 4.5) faults.push(e.tagName + '#' + e.id + ' has contrast ' + ratio.toFixed(2))
    }
    if (e.matches('button, summary') && box.height < 44) faults.push(e.tagName + '#' + e.id + ' is ' + box.height + ' px high')
    if (e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline') faults.push(e.tagName + '#' + e.id + ' is cut off')
    if (e.matches('button') && (e.textContent ?? '').trim() === '') faults.push('a button without a name')
  }
  return faults
})()`
