// The signing page: shows what a session is for, has a wallet sign it (EIP-6963, EIP-191), and sends the signature back to the server.

/**
 * @typedef {{ otp: string, machine_id: string, user: string, from: string, message: string, answered: boolean, expires_in_seconds: number }} Pending
 * @typedef {{ request(call: { method: string, params?: unknown[] }): Promise<unknown> }} Provider
 * @typedef {{ info: { uuid: string, name: string, icon: string }, provider: Provider }} Wallet
 */

const session = new URLSearchParams(location.search).get('session') ?? ''
/** @type {Map<string, Wallet>} */
const wallets = new Map()
/** @type {Pending | undefined} */
let pending
let signature = ''

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page has no #${id}`)
  return found
}

/** Shows one of the page's views. @param {'loading' | 'start' | 'over' | 'unreachable' | 'signing'} view */
function showView(view) {
  for (const each of ['loading', 'start', 'over', 'unreachable', 'signing']) element(each).hidden = each !== view
}

/** Shows one step of signing. @param {'ask' | 'waiting' | 'sent' | 'unsent'} step */
function showStep(step) {
  for (const each of ['ask', 'waiting', 'sent', 'unsent']) element(each).hidden = each !== step
  element('by-hand').hidden = step === 'sent'
  if (step === 'sent') element('sent').focus()
}

async function load() {
  if (!/^[0-9a-f]{32}$/.test(session)) return showView('start')
  const skeleton = setTimeout(() => showView('loading'), 200)
  try {
    const response = await fetch(`/auth/pending/${session}`)
    if (response.status === 404) return showView('over')
    if (!response.ok) return showView('unreachable')
    show(await response.json())
  } catch {
    showView('unreachable')
  } finally {
    clearTimeout(skeleton)
  }
}

/** @param {Pending} answer */
function show(answer) {
  pending = answer
  element('code').textContent = answer.otp
  element('machine').textContent = answer.machine_id
  element('user').textContent = answer.user
  element('from').textContent = answer.from === '' ? 'the server itself' : answer.from
  element('text').textContent = answer.message
  showView('signing')
  showStep(answer.answered ? 'sent' : 'ask')
  countDown(performance.now() + answer.expires_in_seconds * 1000)
  findWallets()
}

/** @param {number} end On the page's own clock: the machine's may differ. */
function countDown(end) {
  const tick = () => {
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000))
    element('left').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
    if (seconds > 0) setTimeout(tick, 1000)
    else showView('over')
  }
  tick()
}

function findWallets() {
  addEventListener('eip6963:announceProvider', event => {
    const { detail } = /** @type {CustomEvent<Wallet>} */ (event)
    if (typeof detail?.info?.uuid !== 'string' || wallets.has(detail.info.uuid)) return
    wallets.set(detail.info.uuid, detail)
    addButton(detail)
  })
  dispatchEvent(new Event('eip6963:requestProvider'))
  // Wallets in the apps of phones, and older ones, do not announce themselves.
  setTimeout(() => {
    const { ethereum } = /** @type {{ ethereum?: Provider }} */ (/** @type {unknown} */ (window))
    if (wallets.size === 0 && ethereum !== undefined)
      addButton({ info: { uuid: '', name: 'browser wallet', icon: '' }, provider: ethereum })
    else element('no-wallet').hidden = wallets.size > 0
  }, 400)
}

/** @param {Wallet} wallet */
function addButton(wallet) {
  element('no-wallet').hidden = true
  const button = document.createElement('button')
  button.type = 'button'
  button.className = element('wallets').childElementCount === 0 ? 'button primary' : 'button'
  if (wallet.info.icon.startsWith('data:image/')) {
    const icon = document.createElement('img')
    icon.src = wallet.info.icon
    icon.alt = ''
    button.append(icon)
  }
  button.append(`Sign with ${wallet.info.name}`)
  button.addEventListener('click', () => sign(wallet))
  element('wallets').append(button)
}

/** @param {Wallet} wallet */
async function sign({ info, provider }) {
  if (pending === undefined) return
  element('message').hidden = true
  element('waiting-for').textContent = info.name
  showStep('waiting')
  try {
    const accounts = /** @type {string[]} */ (await provider.request({ method: 'eth_requestAccounts' }))
    const params = [toHex(pending.message), accounts[0]]
    signature = String(await provider.request({ method: 'personal_sign', params }))
  } catch (error) {
    return complain(error)
  }
  await send()
}

/** @param {unknown} error */
function complain(error) {
  const { code, message } = /** @type {{ code?: unknown, message?: unknown }} */ (error ?? {})
  const notice = element('message')
  // EIP-1193: 4001 is the person's own no.
  notice.dataset.kind = code === 4001 ? 'attention' : 'danger'
  notice.textContent =
    code === 4001
      ? 'The wallet declined. Nothing was signed; you can try again.'
      : `The wallet could not sign: ${String(message ?? error).slice(0, 200)}`
  notice.hidden = false
  showStep('ask')
}

async function send() {
  element('signature').textContent = signature
  try {
    const response = await fetch(`/auth/callback/${session}`, { method: 'POST', body: signature })
    element('offline').hidden = true
    // 409: a signature of this page came already, and its answer was lost.
    if (response.ok || response.status === 409) return showStep('sent')
    if (response.status === 404) return showView('over')
  } catch {
    element('offline').hidden = false
  }
  showStep('unsent')
}

/** @param {string} text */
function toHex(text) {
  return `0x${[...new TextEncoder().encode(text)].map(byte => byte.toString(16).padStart(2, '0')).join('')}`
}

/**
 * @param {string} button
 * @param {string} source
 */
function copies(button, source) {
  const target = element(button)
  const label = target.textContent
  target.addEventListener('click', async () => {
    try {
      await navigator.clipboard.writeText(element(source).textContent ?? '')
      target.textContent = 'Copied'
    } catch {
      getSelection()?.selectAllChildren(element(source))
      target.textContent = 'Selected: press Ctrl+C'
    }
    setTimeout(() => {
      target.textContent = label
    }, 2000)
  })
}

function switchTheme() {
  const themes = ['system', 'light', 'dark']
  const button = element('theme')
  /** @param {string} theme */
  const apply = theme => {
    document.documentElement.dataset.theme = theme
    button.textContent = `Theme: ${theme}`
  }
  apply(readTheme())
  button.addEventListener('click', () => {
    const at = themes.indexOf(document.documentElement.dataset.theme ?? 'system')
    const next = themes[(at + 1) % themes.length] ?? 'system'
    apply(next)
    keepTheme(next)
  })
}

// A browser that keeps nothing for this page throws; the theme is then the system's each time.

function readTheme() {
  try {
    return localStorage.getItem('theme') ?? 'system'
  } catch {
    return 'system'
  }
}

/** @param {string} theme */
function keepTheme(theme) {
  try {
    localStorage.setItem('theme', theme)
  } catch {
    // It was only for the next visit.
  }
}

switchTheme()
copies('copy-text', 'text')
copies('copy-signature', 'signature')
element('reload').addEventListener('click', load)
element('resend').addEventListener('click', send)
load()
