import { mkdirSync } from 'node:fs'
import type { Address } from 'viem'
import { demoTimes, runBroker, startBroker } from '../broker.ts'
import type { Demo, Stage } from '../context.ts'
import { expect } from '../expect.ts'
import { prepareHost } from '../host.ts'

const keys = '/etc/blockhost-broker'

/** The operator makes keys, deploys both contracts, registers and starts the daemon; each host deploys its NFT contract. */
export async function deploy(stage: Stage): Promise<{ demo: Demo; detail: string }> {
  const { lab, chain, story } = stage
  mkdirSync(lab.broker.path(keys), { recursive: true, mode: 0o750 })
  const made = JSON.parse(await runBroker(lab.broker, ['keygen', '--dir', keys, '--json'])) as { operator: Address }
  story.tell('operator', `makes keys: blockhost-broker keygen (wallet ${short(made.operator)})`)
  await chain.fund(made.operator, 10n)

  const deployed = await deployContracts(stage)
  story.tell('operator', `deploys: registry ${short(deployed.registry)}, requests ${short(deployed.requests)}`)

  const broker = await startBroker({ lab, chain, ...deployed })
  story.tell('operator', 'starts blockhost-broker; /health says healthy')
  story.tell('', `(for the demo a tunnel has ${demoTimes.tunnelTimeoutS} s to come up instead of 120)`)

  const [a, b] = await Promise.all(
    (['a', 'b'] as const).map(letter => prepareHost(lab, chain, letter, deployed.registry)),
  )
  story.tell('hosts', `deploy their NFT contracts: A ${short(a!.nft)}, B ${short(b!.nft)}`)
  const detail = `registry ${deployed.registry}, requests ${deployed.requests}, one block a second`
  return { demo: { ...stage, broker, a: a!, b: b! }, detail }
}

async function deployContracts({ lab, chain }: Stage): Promise<{ registry: Address; requests: Address }> {
  const args = ['deploy', '--rpc-url', chain.rpcUrl, '--chain-id', `${chain.chainId}`, '--region', 'lab', '--json']
  const printed = await runBroker(lab.broker, [
    ...args,
    '--operator-key',
    `${keys}/operator.key`,
    '--ecies-key',
    `${keys}/ecies.key`,
  ])
  const { registry_contract: registry, requests_contract: requests } = JSON.parse(printed)
  expect(
    /^0x[0-9a-fA-F]{40}$/.test(registry) && /^0x[0-9a-fA-F]{40}$/.test(requests),
    'two contract addresses',
    printed,
  )
  return { registry, requests }
}

function short(address: string): string {
  return `${address.slice(0, 8)}…${address.slice(-4)}`
}
