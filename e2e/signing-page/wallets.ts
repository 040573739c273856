/** Wallets of a browser that exist only in a test: announced as EIP-6963 has it, signing in this process with keys that everybody knows. */
import assert from 'node:assert/strict'
import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { testWallet } from '@blockhost/testkit/wallet.ts'
import type { BrowserContext } from 'playwright-core'

/** The account that may sign in. */
export const owner = testWallet(1)
/** One that may not. */
export const stranger = testWallet(13)

/** How a wallet behaves. */
export type Behaviour =
  | 'sign'
  /** With another account the first time, with the right one after that. */
  | 'sign-as-stranger-first'
  /** The person says no (EIP-1193, 4001). */
  | 'decline'
  /** Never answers: its window was closed or lies behind another. */
  | 'hang'
  /** Has no account to offer. */
  | 'locked'
  /** An earlier question is still open (-32002). */
  | 'busy'
  /** Fails with words of its own. */
  | 'break'
  /** Answers with something that is not a signature. */
  | 'babble'

/** One wallet of the browser. */
export type FakeWallet = { readonly name: string; readonly behaviour: Behaviour }

type Answer = { result: unknown } | { error: { code: number; message: string } } | { never: true }

/** Puts wallets into every page of a context. @param old - Puts the first one where wallets were before EIP-6963: `window.ethereum`. */
export async function injectWallets(
  context: BrowserContext,
  wallets: readonly FakeWallet[],
  old = false,
): Promise<void> {
  let signed = 0
  const ask = (behaviour: Behaviour, method: string, params: string[] = []): Answer => {
    const wallet = behaviour === 'sign-as-stranger-first' && signed === 0 ? stranger : owner
    if (method === 'eth_requestAccounts') return accountsOf(behaviour, wallet.address)
    assert.equal(method, 'personal_sign')
    assert.equal(params[1], wallet.address)
    signed++
    if (behaviour === 'babble') return { result: 'Signed!' }
    return { result: signMessage(Buffer.from(params[0]!.slice(2), 'hex').toString('utf8'), wallet.privateKey) }
  }
  await context.exposeFunction('testWalletRequest', ask)
  await context.addInitScript(`(${announce})(${JSON.stringify(wallets)}, ${old})`)
}

function accountsOf(behaviour: Behaviour, address: string): Answer {
  switch (behaviour) {
    case 'decline':
      return { error: { code: 4001, message: 'User rejected the request.' } }
    case 'busy':
      return { error: { code: -32002, message: 'Request of type eth_requestAccounts already pending.' } }
    case 'break':
      return { error: { code: -32603, message: 'Ledger device: UNKNOWN_ERROR (0x6511)' } }
    case 'hang':
      return { never: true }
    case 'locked':
      return { result: [] }
    default:
      return { result: [address] }
  }
}

/** Runs in the page, as an extension's script does. */
const announce = `(wallets, old) => {
  const icon = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 8 8'%3E%3Ccircle cx='4' cy='4' r='4' fill='darkorange'/%3E%3C/svg%3E"
  const providerOf = ({ behaviour }) => ({
    request: async ({ method, params }) => {
      const { result, error, never } = await testWalletRequest(behaviour, method, params)
      if (never) return new Promise(() => undefined)
      if (error) throw Object.assign(new Error(error.message), error)
      return result
    },
  })
  if (old) {
    window.ethereum = providerOf(wallets[0])
    return
  }
  addEventListener('eip6963:requestProvider', () => {
    for (const [index, wallet] of wallets.entries()) {
      const info = { uuid: 'wallet-' + index, name: wallet.name, icon, rdns: 'test.wallet' + index }
      dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail: Object.freeze({ info, provider: providerOf(wallet) }) }))
    }
    for (const detail of [undefined, {}, { info: { uuid: 7 } }, { info: { uuid: 'x', name: 5 }, provider: {} }])
      dispatchEvent(new CustomEvent('eip6963:announceProvider', { detail })) // nonsense of a bad extension
  })
}`
