import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, before, describe, it } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { sourceClosure } from '@blockhost/image/template/closure.ts'
import { readShift } from './signing-page/inspect.ts'
import { type Behaviour, owner, stranger } from './signing-page/wallets.ts'
import {
  type Connected,
  chromiumPath,
  machineId,
  makeWorld,
  source,
  type Tab,
  type TabOptions,
  type World,
} from './signing-page/world.ts'

const needsChromium = { skip: existsSync(chromiumPath) ? false : `needs ${chromiumPath} (apt-get install chromium)` }
const limit = { timeout: 60_000 }
const longMachine = `blockhost-4294967295.${'very-long-name-of-a-host.'.repeat(4)}1a2b3c4d`

describe('signing page', needsChromium, () => {
  let world: World
  before(async () => {
    world = await makeWorld()
  }, limit)
  after(() => world?.[Symbol.asyncDispose]())

  it('shows code, server, user and source; signs; Enter in the terminal signs in, once', limit, async () => {
    const { page, challenge } = await openWith('sign')
    await using _ = page
    assert.deepEqual(
      [await page.text('#code'), await page.text('#machine'), await page.text('#user'), await page.text('#from')],
      [challenge.code, machineId, 'admin', source],
    )
    assert.match(await page.text('#left'), /^(5:00|4:5\d)$/)
    await sign(page)
    await seeHeading(page, 'Signed. Now press Enter in your terminal.')
    assert.equal(await page.text('#account'), `${owner.address.slice(0, 6)}…${owner.address.slice(-4)}`)
    assert.equal(await page.tab.title(), 'Signed: press Enter in your terminal')
    assert.deepEqual(await world.enter(challenge.session), { success: true })
    await seeHeading(page, 'Your terminal took the signature')
    const again = (await world.enter(challenge.session)) as { success: boolean; reason: string; error: string }
    assert.deepEqual([again.success, again.reason], [false, 'denied'])
    assert.match(again.error, /^This code was used already/)
    assert.deepEqual(page.problems, ['Failed to load resource: the server responded with a status of 404 (Not Found)'])
  })

  it('takes the signature also when Enter came first', limit, async () => {
    const { page, challenge } = await openWith('sign')
    await using _ = page
    const entered = world.enter(challenge.session)
    await sign(page)
    assert.deepEqual(await entered, { success: true })
    await seeHeading(page, 'Your terminal took the signature')
  })

  it('the wrong account: the page says which one signed, and signs again', limit, async () => {
    const { page, challenge } = await openWith('sign-as-stranger-first')
    await using _ = page
    await sign(page)
    await seeHeading(page, 'Signed. Now press Enter in your terminal.')
    assert.equal(await page.text('#account'), `${stranger.address.slice(0, 6)}…${stranger.address.slice(-4)}`)
    await page.tab.getByRole('button', { name: 'Sign again' }).click()
    await sign(page)
    await page.tab.locator('#account').getByText(owner.address.slice(-4)).waitFor()
    assert.deepEqual(await world.enter(challenge.session), { success: true })
  })

  it('uses what wallets were before EIP-6963', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, { wallets: [{ name: 'old', behaviour: 'sign' }], old: true })
    await page.tab.getByRole('button', { name: 'Sign with your browser’s wallet' }).click()
    await seeHeading(page, 'Signed. Now press Enter in your terminal.')
    assert.deepEqual(await world.enter(challenge.session), { success: true })
  })

  it('is usable by keyboard alone, and those who hear it are told every step', limit, async () => {
    const challenge = await world.connect()
    const wallets = [
      { name: 'Hanging Wallet', behaviour: 'hang' },
      { name: 'Shy Wallet', behaviour: 'decline' },
      { name: 'Test Wallet', behaviour: 'sign' },
    ] as const
    await using page = await world.open(challenge.url, { wallets })
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).waitFor()
    const order = [
      'Theme: system',
      'Sign with Hanging Wallet',
      'Sign with Shy Wallet',
      'Sign with Test Wallet',
      'Copy text',
    ]
    for (const name of order) assert.equal(await tabTo(page), name)
    for (const name of order.slice(1, -1).reverse()) assert.equal(await tabTo(page, 'Shift+Tab'), name)
    await page.tab.keyboard.press('Enter')
    assert.equal(await focused(page), 'Confirm in Hanging Wallet')
    assert.equal(await page.heard(), 'Confirm in Hanging Wallet.')
    assert.equal(await tabTo(page), 'Cancel')
    await page.tab.keyboard.press('Enter')
    assert.equal(await focused(page), 'Sign with Hanging Wallet')
    assert.match(await page.heard(), /^Cancelled/)
    await tabTo(page)
    await page.tab.keyboard.press('Enter')
    await page.tab.getByRole('alert').getByText('Your wallet declined').waitFor()
    assert.equal(await focused(page), 'Sign with Shy Wallet', 'where it can be tried again')
    await tabTo(page)
    await page.tab.keyboard.press('Space')
    await seeHeading(page, 'Signed. Now press Enter in your terminal.')
    assert.equal(await focused(page), 'Signed. Now press Enter in your terminal.')
    assert.equal(await page.heard(), 'Signed. Now press Enter in your terminal.')
    assert.deepEqual(await world.enter(challenge.session), { success: true })
    await seeHeading(page, 'Your terminal took the signature')
    assert.equal(await focused(page), 'Your terminal took the signature')
  })

  it('roles and names are those a screen reader needs', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url, { wallets: [{ name: 'Test Wallet', behaviour: 'sign' }] })
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).waitFor()
    const tree = await page.tab.locator('body').ariaSnapshot()
    assert.equal(tree.replace(/4:5\d|5:00/, '5:00'), treeOf(challenge))
  })

  it('what a wallet says too late, after it was cancelled, changes nothing', limit, async () => {
    const { page } = await openWith('hang')
    await using _ = page
    await sign(page)
    await page.tab.getByRole('button', { name: 'Cancel' }).click()
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).waitFor()
    assert.equal(await page.tab.locator('#message').isVisible(), false)
  })

  it('keeps the signature when the server can not be reached, and sends it again', limit, async () => {
    const { page, challenge } = await openWith('sign')
    await using _ = page
    await page.tab.context().setOffline(true)
    await sign(page)
    await page.tab.getByRole('alert').getByText('your server did not get it').waitFor()
    assert.equal(await page.text('#signature'), signMessage(challenge.message, owner.privateKey))
    await page.tab.getByRole('button', { name: 'Send again' }).click()
    await page.tab.context().setOffline(false)
    await page.tab.getByRole('button', { name: 'Send again' }).click()
    await seeHeading(page, 'Signed. Now press Enter in your terminal.')
    assert.deepEqual(await world.enter(challenge.session), { success: true })
  })

  it('shows what to sign elsewhere and what to do with it, with and without a wallet', limit, async () => {
    for (const wallets of [[], [{ name: 'Test Wallet', behaviour: 'hang' }]] as const) {
      const challenge = await world.connect()
      await using page = await world.open(challenge.url, { wallets })
      await page.tab.getByText('Paste the signature into your terminal').waitFor()
      assert.equal(await page.text('#text'), challenge.message)
      const answer = signMessage(await page.text('#text'), owner.privateKey)
      assert.deepEqual(await world.enter(challenge.session, answer), { success: true })
    }
  })

  it('copies the text to sign', limit, async () => {
    const { page, challenge } = await openWith('sign')
    await using _ = page
    await page.tab.context().grantPermissions(['clipboard-read', 'clipboard-write'])
    await page.tab.getByRole('button', { name: 'Copy text' }).click()
    await page.tab.getByRole('button', { name: 'Copied' }).waitFor()
    assert.equal(await page.tab.evaluate('navigator.clipboard.readText()'), challenge.message)
    assert.equal(await page.heard(), 'Copied')
  })

  it('keeps the theme that was chosen, also where nothing can be kept', limit, async () => {
    const { page } = await openWith('sign')
    await using _ = page
    const theme = () => page.tab.evaluate('document.documentElement.dataset.theme')
    await page.tab.getByRole('button', { name: 'Theme: system' }).click()
    await page.tab.getByRole('button', { name: 'Theme: light' }).click()
    await page.tab.reload()
    await page.tab.getByRole('button', { name: 'Theme: dark' }).waitFor()
    assert.equal(await theme(), 'dark')
    await page.tab.evaluate('Object.defineProperty(window, "localStorage", { get() { throw new Error("closed") } })')
    await page.tab.getByRole('button', { name: 'Theme: dark' }).click()
    assert.equal(await theme(), 'system')
  })

  it('nothing jumps while the page comes, with wallets, without, and when the server is slow', limit, async () => {
    for (const wallets of [[], [{ name: 'Test Wallet', behaviour: 'hang' }]] as const)
      for (const slow of [false, true]) {
        const { promise: until, resolve } = Promise.withResolvers<void>()
        if (!slow) resolve()
        const challenge = await world.connect()
        await using page = await world.open(challenge.url, { wallets, until })
        if (slow) await page.tab.getByText('Asking your server for the code').waitFor()
        resolve()
        await page.tab.getByText('Paste the signature into your terminal').waitFor()
        await page.tab.evaluate('new Promise(resolve => setTimeout(resolve, 500))') // longer than wallets take
        assert.ok(
          (await readShift(page.tab)) < 0.01,
          `${wallets.length} wallets, slow: ${slow}: ${await readShift(page.tab)}`,
        )
      }
  })

  it('the fingerprint in the terminal is that of the certificate a browser is shown', limit, async () => {
    const { fingerprint } = await world.connect()
    const socket = connectTls({ port: world.port, host: '127.0.0.1', rejectUnauthorized: false })
    await new Promise(resolve => socket.once('secureConnect', resolve))
    assert.equal(fingerprint, socket.getPeerCertificate().fingerprint256)
    socket.destroy()
  })

  it('the VM template carries every file that the page loads', limit, async () => {
    const challenge = await world.connect()
    await using page = await world.open(challenge.url)
    await page.tab.getByText('Paste the signature into your terminal').waitFor()
    const loaded = (await page.tab.evaluate(
      `performance.getEntriesByType('resource').map(entry => new URL(entry.name).pathname)`,
    )) as string[]
    const root = fileURLToPath(new URL('..', import.meta.url))
    const names = sourceClosure(root, 'services/web3-auth-svc/src/main.ts').map(({ path }) =>
      path.replace(/^.*\//, '/'),
    )
    const files = loaded.filter(path => /\.\w+$/.test(path))
    assert.deepEqual(files.toSorted(), ['/sign.css', '/sign.js', '/theme.css', '/theme.js'])
    assert.deepEqual(
      files.filter(file => !names.includes(file)),
      [],
    )
  })

  describe('every state: light and dark, 360, 768 and 1,280 px, no fault, no barrier', () => {
    const never = new Promise<void>(() => undefined)
    const states: Record<
      string,
      { with?: Behaviour[]; options?: TabOptions; url?: string; reach(tab: Tab, at: Connected): unknown }
    > = {
      loading: { options: { until: never }, reach: page => page.tab.getByText('Asking your server').waitFor() },
      'one-wallet': {
        with: ['sign'],
        reach: page => page.tab.getByRole('button', { name: 'Sign with Test' }).waitFor(),
      },
      'several-wallets': {
        with: ['sign', 'decline', 'hang'],
        reach: page => page.tab.getByRole('button', { name: 'Sign with Test' }).waitFor(),
      },
      'no-wallet': { with: [], reach: page => seeHeading(page, 'No wallet was found in this browser') },
      waiting: {
        with: ['hang'],
        reach: async page => {
          await sign(page)
          await seeHeading(page, 'Confirm in Test Wallet')
        },
      },
      declined: {
        with: ['decline'],
        reach: async page => {
          await sign(page)
          await page.tab.getByRole('alert').getByText('Your wallet declined. Nothing was signed.').waitFor()
        },
      },
      locked: {
        with: ['locked'],
        reach: async page => {
          await sign(page)
          await page.tab.getByRole('alert').getByText('Your wallet offers no account').waitFor()
        },
      },
      busy: {
        with: ['busy'],
        reach: async page => {
          await sign(page)
          await page.tab.getByRole('alert').getByText('still waits for an answer').waitFor()
        },
      },
      broken: {
        with: ['break'],
        reach: async page => {
          await sign(page)
          await page.tab.getByText('What the wallet said').click()
          await page.tab.getByText('UNKNOWN_ERROR').waitFor()
        },
      },
      'no-signature': {
        with: ['babble'],
        reach: async page => {
          await sign(page)
          await page.tab.getByText('What the wallet said').click()
          await page.tab.getByText('The wallet gave no signature: Signed!').waitFor()
        },
      },
      signed: {
        with: ['sign'],
        reach: async page => {
          await sign(page)
          await seeHeading(page, 'Signed. Now press Enter in your terminal.')
        },
      },
      'signed-and-reloaded': {
        with: ['sign'],
        reach: async page => {
          await sign(page)
          await seeHeading(page, 'Signed. Now press Enter in your terminal.')
          await page.tab.reload()
          await seeHeading(page, 'Signed. Now press Enter in your terminal.')
          assert.equal(await page.tab.locator('#sent-by').isVisible(), false)
        },
      },
      done: {
        with: ['sign'],
        reach: async (page, { session }) => {
          await sign(page)
          await seeHeading(page, 'Signed. Now press Enter in your terminal.')
          await world.enter(session)
          await seeHeading(page, 'Your terminal took the signature')
        },
      },
      unsent: {
        with: ['sign'],
        reach: async page => {
          await page.tab.context().setOffline(true)
          await sign(page)
          await page.tab.getByRole('button', { name: 'Send again' }).waitFor()
        },
      },
      'last-minute': {
        with: ['sign'],
        options: { pending: { expires_in_seconds: 59 } },
        reach: async page => {
          await page.tab.getByRole('button', { name: 'Sign with Test' }).waitFor()
          assert.equal(await page.heard(), 'The code is valid for one more minute.')
        },
      },
      expired: {
        with: ['sign'],
        options: { pending: { expires_in_seconds: 1 } },
        reach: page => seeHeading(page, 'This code has expired'),
      },
      used: {
        reach: async (page, { session }) => {
          await world.enter(session, 'garbage')
          await page.tab.reload()
          await seeHeading(page, 'This code can’t be used any more')
        },
      },
      'unknown-session': {
        url: `/?session=${'0'.repeat(32)}`,
        reach: page => seeHeading(page, 'This code can’t be used any more'),
      },
      'no-session': { url: '/', reach: page => seeHeading(page, 'This address is not complete') },
      unreachable: {
        reach: async page => {
          await page.tab.route('**/auth/pending/*', route => route.abort())
          await page.tab.reload()
          await seeHeading(page, 'Your server does not answer')
        },
      },
      'no-script': {
        options: { javaScript: false },
        reach: page => page.tab.locator('noscript p').waitFor(),
      },
      'long-names': {
        with: ['sign'],
        options: {
          pending: {
            machine_id: longMachine,
            user: 'a-user-with-a-name-that-is-rather-long-and-goes-on',
            from: '2001:0db8:1111:2222:3333:4444:5555:6666',
            message: `Authenticate to ${longMachine} with code: ABC234`,
          },
        },
        reach: page => page.tab.getByRole('button', { name: 'Sign with Test' }).waitFor(),
      },
    }
    const names = ['Test Wallet', 'Another Wallet', 'Wallet of a Company with a Long Name GmbH & Co. KG']

    for (const [name, state] of Object.entries(states))
      it(name, limit, async () => {
        const challenge = await world.connect()
        const wallets = state.with?.map((behaviour, index) => ({ name: names[index]!, behaviour }))
        const url = state.url === undefined ? challenge.url : new URL(state.url, challenge.url).href
        await using page = await world.open(url, { ...state.options, ...(wallets === undefined ? {} : { wallets }) })
        await state.reach(page, challenge)
        await page.look(name)
      })
  })

  async function openWith(behaviour: Behaviour): Promise<{ page: Tab; challenge: Connected }> {
    const challenge = await world.connect()
    const page = await world.open(challenge.url, { wallets: [{ name: 'Test Wallet', behaviour }] })
    await page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).waitFor()
    return { page, challenge }
  }
})

/** As Chromium hands it to a screen reader. */
function treeOf({ code, message }: Connected): string {
  return `- banner:
  - text: BlockHost
  - 'button "Theme: system"'
- main:
  - heading "Sign in to your server" [level=1]
  - status
  - region "Sign in":
    - term: Code
    - definition: ${[...code].join(' ')}
    - term: Server
    - definition: ${machineId}
    - term: User
    - definition: admin
    - term: Valid for
    - definition: 5:00
    - term: Connecting from
    - definition: ${source}
    - paragraph:
      - strong: Sign only if your own terminal shows the same code.
      - text: Signing lets in whoever is connected there.
    - paragraph: Your wallet will ask to connect, and then to sign a text with this code. Use the account that holds your access token. Signing is free and moves no money.
    - region "Wallets in this browser":
      - button "Sign with Test Wallet"
    - region "Or sign anywhere else and paste":
      - heading "Or sign anywhere else and paste" [level=2]
      - list:
        - listitem:
          - paragraph: Sign exactly this text as a message, with any wallet.
          - paragraph: "${message}"
          - paragraph:
            - button "Copy text"
        - listitem:
          - paragraph: Paste the signature into your terminal, where it asks for it, and press Enter. The terminal does not show what you paste.`
}

function sign(page: Tab): Promise<void> {
  return page.tab.getByRole('button', { name: 'Sign with Test Wallet' }).click()
}

function seeHeading(page: Tab, name: string): Promise<void> {
  return page.tab.getByRole('heading', { name, exact: true }).waitFor()
}

async function tabTo(page: Tab, key = 'Tab'): Promise<unknown> {
  await page.tab.keyboard.press(key)
  return focused(page)
}

function focused(page: Tab): Promise<unknown> {
  return page.tab.evaluate('document.activeElement.textContent')
}
