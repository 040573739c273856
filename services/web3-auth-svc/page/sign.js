// The signing page: shows what a session is for, has a wallet sign it (EIP-6963, EIP-191), and sends the signature back to the server.

/**
 * @typedef {{ otp: string, machine_id: string, user: string, from: string, message: string, answered: boolean, expires_in_seconds: number }} Pending
 * @typedef {{ request(call: { method: string, params?: unknown[] }): Promise<unknown> }} Provider
 * @typedef {{ name: string, icon: string, provider: Provider }} Wallet
 */

const views = /** @type {const} */ (['loading', 'start', 'over', 'unreachable', 'signing', 'done'])
const steps = /** @type {const} */ (['ask', 'waiting', 'sent', 'unsent'])

/** How long wallets may take to announce themselves, milliseconds. */
const announceMs = 400
/** How often it is asked whether the terminal took the signature, milliseconds. */
const followMs = 2000

const session = new URLSearchParams(location.search).get('session') ?? ''
/** @type {Set<string>} */
const wallets = new Set()
/** @type {Pending | undefined} */
let pending
let signature = ''
/** A wallet's answer counts only while nobody cancelled and tried again. */
let attempt = 0
/** @type {ReturnType<typeof setTimeout> | undefined} */
let clock

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id)
  if (found === null) throw new Error(`the page has no #${id}`)
  return found
}

/** Shows one of the page's views. @param {typeof views[number]} view */
function showView(view) {
  for (const each of views) element(each).hidden = each !== view
  if (view !== 'signing') clearTimeout(clock)
}

/** Shows one step of signing. @param {typeof steps[number]} step */
function showStep(step) {
  for (const each of steps) element(each).hidden = each !== step
  element('by-hand').hidden = step === 'sent'
  document.title = step === 'sent' ? 'Signed: press Enter in your terminal' : 'Sign in to your server'
}

/** Says something to those who hear the page. @param {string} text */
function say(text) {
  element('status').textContent = text
}

/** Shows text that breaks where a person would break it, never within a group of an address. @param {string} id @param {string} text */
function showBreakable(id, text) {
  const parts = text.split(/(?<=[:.@_-])/).flatMap(part => [part, document.createElement('wbr')])
  element(id).replaceChildren(...parts)
}

// --- the code ----------------------------------------------------------------------------------------------------------

async function load() {
  if (!/^[0-9a-f]{32}$/.test(session)) return showView('start')
  const skeleton = setTimeout(() => showView('loading'), 200)
  try {
    const answer = await fetchPending()
    await walletsFound // so that nothing moves when they come
    if (answer === undefined) showOver('This code can’t be used any more')
    else show(answer)
  } catch {
    showView('unreachable')
    say('Your server does not answer.')
  } finally {
    clearTimeout(skeleton)
  }
}

/** @returns {Promise<Pending | undefined>} `undefined`: the code is not there, or no longer. */
async function fetchPending() {
  const response = await fetch(`/auth/pending/${session}`)
  if (response.status === 404) return undefined
  if (!response.ok) throw new Error(`${response.status}`)
  return response.json()
}

/** @param {Pending} answer */
function show(answer) {
  pending = answer
  element('code').textContent = answer.otp
  element('code-spoken').textContent = [...answer.otp].join(' ')
  element('waiting-code').textContent = answer.otp
  showBreakable('machine', answer.machine_id)
  showBreakable('user', answer.user)
  showBreakable('from', answer.from === '' ? 'the server itself' : answer.from)
  element('text').textContent = answer.message
  showStep('ask')
  moveFocus(element('title'), () => showView('signing'))
  countDown(performance.now() + answer.expires_in_seconds * 1000)
  if (answer.answered) showSent(undefined)
}

/** @param {number} end On the page's own clock: the machine's may differ. */
function countDown(end) {
  const left = element('left')
  const tick = () => {
    const seconds = Math.max(0, Math.round((end - performance.now()) / 1000))
    left.textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`
    if (seconds <= 60 && left.dataset.kind === undefined) {
      left.dataset.kind = 'attention'
      say('The code is valid for one more minute.')
    }
    if (seconds > 0) clock = setTimeout(tick, 1000)
    else showOver('This code has expired')
  }
  tick()
}

/** @param {string} title */
function showOver(title) {
  attempt++
  element('over-title').textContent = title
  document.title = title
  moveFocus(element('over-title'), () => showView('over'))
  say(`${title}. Connect with ssh again.`)
}

/**
 * Takes the focus along when `change` hides what has it; it stays where it is otherwise.
 *
 * @param {HTMLElement} target
 * @param {() => void} change
 */
function moveFocus(target, change) {
  const hadFocus = document.activeElement
  change()
  if (hadFocus instanceof HTMLElement && hadFocus !== document.body && !hadFocus.checkVisibility()) target.focus()
}

// --- wallets -----------------------------------------------------------------------------------------------------------

/** Resolves when a wallet has announced itself, or none did. @returns {Promise<void>} */
function findWallets() {
  return new Promise(resolve => {
    addEventListener('eip6963:announceProvider', event => {
      addAnnounced(/** @type {CustomEvent<unknown>} */ (event).detail)
      if (wallets.size > 0) resolve()
    })
    dispatchEvent(new Event('eip6963:requestProvider'))
    setTimeout(() => {
      // Wallets in the apps of phones, and older ones, do not announce themselves.
      const { ethereum } = /** @type {{ ethereum?: Provider }} */ (/** @type {unknown} */ (window))
      if (wallets.size === 0 && typeof ethereum?.request === 'function')
        addWallet('', { name: 'your browser’s wallet', icon: '', provider: ethereum })
      element('no-wallet').hidden = wallets.size > 0
      resolve()
    }, announceMs)
  })
}

/** Any extension may announce anything. @param {unknown} detail */
function addAnnounced(detail) {
  const { info, provider } = /** @type {{ info?: Record<string, unknown>, provider?: Provider }} */ (detail ?? {})
  if (typeof info?.uuid !== 'string' || typeof provider?.request !== 'function') return
  const name = typeof info.name === 'string' ? info.name.trim().slice(0, 60) : ''
  const icon = typeof info.icon === 'string' ? info.icon : ''
  addWallet(info.uuid, { name: name === '' ? 'a wallet without name' : name, icon, provider })
}

/**
 * @param {string} uuid
 * @param {Wallet} wallet
 */
function addWallet(uuid, wallet) {
  if (wallets.has(uuid)) return
  wallets.add(uuid)
  element('no-wallet').hidden = true
  const button = document.createElement('button')
  button.type = 'button'
  button.className = wallets.size === 1 ? 'button primary' : 'button'
  if (wallet.icon.startsWith('data:image/')) {
    const icon = document.createElement('img')
    icon.src = wallet.icon
    icon.alt = ''
    button.append(icon)
  }
  button.append(`Sign with ${wallet.name}`)
  button.addEventListener('click', () => sign(wallet, button))
  element('wallets').append(button)
}

/**
 * @param {Wallet} wallet
 * @param {HTMLElement} button
 */
async function sign({ name, provider }, button) {
  if (pending === undefined) return
  const mine = ++attempt
  element('message').hidden = true
  element('waiting-title').textContent = `Confirm in ${name}`
  moveFocus(element('waiting-title'), () => showStep('waiting'))
  say(`Confirm in ${name}.`)
  try {
    const accounts = await provider.request({ method: 'eth_requestAccounts' })
    const account = Array.isArray(accounts) ? accounts[0] : undefined
    if (typeof account !== 'string') throw Object.assign(new Error('It gave no account.'), { code: unauthorized })
    if (mine !== attempt) return
    const answer = await provider.request({ method: 'personal_sign', params: [toHex(pending.message), account] })
    if (mine !== attempt) return
    signature = String(answer)
    await send(account)
  } catch (error) {
    if (mine === attempt) complain(error, button)
  }
}

// EIP-1193 and EIP-1474.
const userRejected = 4001
const unauthorized = 4100
const alreadyAsked = -32002

/**
 * Says what the wallet said, and goes back to where it can be tried again.
 *
 * @param {unknown} error
 * @param {HTMLElement} button The one that had been used.
 */
function complain(error, button) {
  const { code, message } = /** @type {{ code?: unknown, message?: unknown }} */ (error ?? {})
  const known = {
    [userRejected]: 'Your wallet declined. Nothing was signed. You can try again.',
    [unauthorized]: 'Your wallet offers no account. Unlock it, allow an account for this page, and try again.',
    [alreadyAsked]: 'Your wallet still waits for an answer. Open it, finish or refuse what it asks, and try again.',
  }[Number(code)]
  const text = known ?? 'Your wallet could not sign. Try again, use another wallet, or sign anywhere else and paste.'
  showMessage(known === undefined ? 'danger' : 'attention', text, known === undefined ? String(message ?? error) : '')
  moveFocus(button, () => showStep('ask'))
}

/**
 * @param {'attention' | 'danger'} kind
 * @param {string} text
 * @param {string} detail
 */
function showMessage(kind, text, detail) {
  const notice = element('message')
  notice.dataset.kind = kind
  element('message-icon').setAttribute('href', `#icon-${kind}`)
  element('message-text').textContent = text
  element('message-detail').hidden = detail === ''
  element('message-detail-text').textContent = detail.slice(0, 500)
  notice.hidden = false
}

function cancel() {
  attempt++
  const first = element('wallets').querySelector('button')
  moveFocus(first ?? element('copy-text'), () => showStep('ask'))
  say('Cancelled. What your wallet still asks can be refused there.')
}

// --- the signature -----------------------------------------------------------------------------------------------------

/** @param {string} account */
async function send(account) {
  const mine = attempt
  element('signature').textContent = signature
  const status = await post()
  if (mine !== attempt) return
  // 409: the terminal took a signature of this page already, and the answer to it was lost.
  if (status === 200 || status === 409) return showSent(account)
  if (status === 404) return showOver('This code can’t be used any more')
  if (status === 400 || status === 413) throw new Error(`The wallet gave no signature: ${signature.slice(0, 200)}`)
  element('resend').onclick = () => send(account)
  moveFocus(element('resend'), () => showStep('unsent'))
}

/** @returns {Promise<number>} The HTTP status; 0 when the server can not be reached. */
async function post() {
  try {
    const response = await fetch(`/auth/callback/${session}`, { method: 'POST', body: signature })
    return response.status
  } catch {
    return 0
  }
}

/** @param {string | undefined} account Who signed; unknown when that was before the page was loaded. */
function showSent(account) {
  element('sent-by').hidden = account === undefined
  element('sign-again').hidden = wallets.size === 0
  const short = account === undefined ? undefined : `${account.slice(0, 6)}…${account.slice(-4)}`
  element('account').textContent = short ?? ''
  element('account').title = account ?? ''
  element('done-account').textContent = short === undefined ? 'the account' : short
  showStep('sent')
  element('sent-title').focus()
  say('Signed. Now press Enter in your terminal.')
  follow(attempt)
}

/** Asks whether the terminal has taken the signature, until it has or something else was begun. @param {number} mine */
async function follow(mine) {
  for (;;) {
    await new Promise(resolve => setTimeout(resolve, followMs))
    if (mine !== attempt) return
    const answer = await fetchPending().catch(() => pending) // a connection that broke says nothing
    if (mine !== attempt) return
    if (answer === undefined) return showDone()
  }
}

function showDone() {
  document.title = 'Sign in to your server'
  moveFocus(element('done-title'), () => showView('done'))
  say('Your terminal took the signature.')
}

function signAgain() {
  attempt++
  const first = element('wallets').querySelector('button')
  moveFocus(first ?? element('copy-text'), () => showStep('ask'))
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
      target.textContent = 'Selected: copy it'
    }
    say(target.textContent)
    setTimeout(() => {
      target.textContent = label
    }, 2000)
  })
}

copies('copy-text', 'text')
copies('copy-signature', 'signature')
element('reload').addEventListener('click', load)
element('look-again').addEventListener('click', () => location.reload())
element('cancel').addEventListener('click', cancel)
element('sign-again').addEventListener('click', signAgain)
const walletsFound = findWallets()
load()
