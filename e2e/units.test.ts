/** The three units under a real systemd, set up as docs/operations.md says. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRpc } from '@blockhost/chain/rpc.ts'
import { publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { systemClock } from '@blockhost/kit/clock.ts'
import { silentLog } from '@blockhost/kit/log.ts'
import { startAnvil } from '@blockhost/testkit/anvil.ts'
import { startMachine } from '@blockhost/testkit/machine.ts'
import { freshWallet, testWallet } from '@blockhost/testkit/wallet.ts'
import { sealPurchase } from './shop/buyer.ts'
import { deployHostContracts } from './shop/contracts.ts'
import { type BootedSystem, bootSystem, missingForBoot, waitFor } from './units/system.ts'

const skip = missingForBoot()

test('the units under systemd', { skip, timeout: 240_000 }, async t => {
  await using machine = await startMachine({ name: 'units' })
  await using anvil = await startAnvil({ prefix: machine.prefix })
  await using forward = await machine.forward(anvil.port)
  const rpc = createRpc({ urls: [`http://127.0.0.1:${forward.port}`] }, { clock: systemClock, log: silentLog })
  let booted: BootedSystem
  try {
    booted = await bootSystem(machine)
  } catch (error) {
    return t.skip((error as Error).message)
  }
  await using system = booted
  const { sh } = system
  const show = async (unit: string, property: string) =>
    (await system.exec('systemctl', ['show', '--property', property, '--value', unit])).stdout.trim()
  const ends = (unit: string, state: string) =>
    waitFor(`${unit} is ${state}`, async () => ((await show(unit, 'ActiveState')) === state ? true : undefined))
  /** Kills a unit's program and waits until systemd has started another. */
  const killed = async (unit: string) => {
    const before = await show(unit, 'MainPID')
    await sh(`systemctl kill --kill-whom=main --signal=KILL ${unit}`)
    await waitFor(`${unit} runs again`, async () => {
      const { stdout } = await system.exec('systemctl', ['show', '--property', 'ActiveState,MainPID', unit])
      const isUp = stdout.includes('ActiveState=active\n') && !stdout.includes(`MainPID=${before}\n`)
      return isUp ? true : undefined
    })
  }

  await t.test('broker: set up, served, killed, stopped; its tunnels stay until they are taken down', async () => {
    const made = await sh(`
      cd /opt/blockhost
      ln -s /opt/blockhost/services/broker/bin/blockhost-broker /usr/bin/blockhost-broker
      useradd --system --home-dir /var/lib/blockhost-broker --no-create-home --shell /usr/sbin/nologin blockhost-broker
      install -d -o blockhost-broker -g blockhost-broker -m 750 /etc/blockhost-broker
      cp services/broker/blockhost-broker.service /etc/systemd/system/ && systemctl daemon-reload
      runuser -u blockhost-broker -- blockhost-broker keygen --json`)
    await rpc.call('anvil_setBalance', [JSON.parse(made).operator, '0x8ac7230489e80000'])
    await sh(`runuser -u blockhost-broker -- blockhost-broker deploy --rpc-url ${anvil.url} --chain-id 31337 --write-config
      systemctl enable --now blockhost-broker`)
    assert.match(await show('blockhost-broker', 'StatusText'), /^Serving 0 leases$/)
    await using api = await machine.forward(8080)
    const health = await fetch(`http://127.0.0.1:${api.port}/health`)
    assert.equal(((await health.json()) as { status: string }).status, 'healthy')
    const carrier = await sh('pgrep wireguard-go || true')
    await killed('blockhost-broker')
    assert.equal(await sh('pgrep wireguard-go || true'), carrier)
    await sh('systemctl stop blockhost-broker; wg show wg-broker; blockhost-broker down')
    assert.doesNotMatch(await sh('ip -o link; nft list ruleset'), /wg-broker/)
  })

  await t.test(
    'broker: reads its configuration again; one that can not be used is no reason to end, but none to start',
    async () => {
      await sh(
        'systemctl start blockhost-broker; echo "nonsense = 1" >>/etc/blockhost-broker/config.toml; systemctl reload blockhost-broker',
      )
      await waitFor(
        'the log says so',
        async () => /was not read again.*/.exec(await sh('journalctl -u blockhost-broker -o cat --no-pager'))?.[0],
      )
      assert.equal(await show('blockhost-broker', 'ActiveState'), 'active')
      await sh('systemctl restart blockhost-broker || true')
      await ends('blockhost-broker', 'failed')
      assert.deepEqual(
        [await show('blockhost-broker', 'ExecMainStatus'), await show('blockhost-broker', 'NRestarts')],
        ['78', '0'],
      )
    },
  )

  await t.test(
    'root agent: makes its folders, serves its group and nobody else, and is back when it was killed',
    async () => {
      await sh(`
      cd /opt/blockhost
      for program in services/root-agent/bin/blockhost-root-agent services/engine/bin/blockhost-engine cli/blockhost/bin/blockhost
      do ln -s /opt/blockhost/$program /usr/bin/; done
      useradd --system --home-dir /var/lib/blockhost --no-create-home --shell /usr/sbin/nologin blockhost
      install -d -o root -g blockhost -m 750 /etc/blockhost
      install -m 644 services/root-agent/config.example.toml /etc/blockhost/root-agent.toml
      echo 'ip_pool: { network: 10.77.0.0/24, start: 10, end: 250, gateway: 10.77.0.1 }' >/etc/blockhost/db.yaml
      cp services/root-agent/blockhost-root-agent.service services/engine/blockhost-engine.service /etc/systemd/system/
      systemctl daemon-reload
      systemctl enable --now blockhost-root-agent`)
      const modes =
        'stat -c "%n %U:%G %a" /run/blockhost/root-agent.sock /var/lib/blockhost /var/lib/blockhost/templates /var/lib/blockhost/vms'
      const expected = [
        '/run/blockhost/root-agent.sock root:blockhost 660',
        '/var/lib/blockhost root:blockhost 1771',
        '/var/lib/blockhost/templates root:root 711',
        '/var/lib/blockhost/vms root:root 711',
      ]
      assert.deepEqual((await sh(modes)).trim().split('\n'), expected)
      assert.match(await sh('ip -o addr show br-blockhost; nft list tables'), /10\.77\.0\.1\/24[\s\S]*blockhost_vms/)
      assert.match(await sh(askHostStatus('blockhost')), /"accelerator"/)
      assert.match(await sh(askHostStatus('nobody')), /EACCES/)
      await killed('blockhost-root-agent')
      assert.deepEqual((await sh(modes)).trim().split('\n'), expected)
    },
  )

  await t.test(
    'engine: serves a purchase, keeps its files when the root agent starts anew, and is back when it was killed',
    async () => {
      const owner = testWallet(1)
      const minter = freshWallet()
      const server = freshWallet()
      const buyer = testWallet(3)
      const shop = await deployHostContracts(rpc, { owner, minter })
      await sh(`
      cd /etc/blockhost
      printf 'blockchain:\\n  chain_id: 31337\\n  rpc_url: ${anvil.url}\\n' >web3-defaults.yaml
      printf '  subscription_contract: "${shop.subscriptions}"\\n  nft_contract: "${shop.nft}"\\n' >>web3-defaults.yaml
      printf 'plans:\\n  default: { cpu: 1, memory: 1024, disk: 10 }\\n' >blockhost.yaml
      printf 'provisioner: fake\\nconfirmations: 0\\npoll_interval_ms: 200\\n' >engine.yaml
      (umask 027; echo ${minter.privateKeyHex} >minter.key; echo ${server.privateKeyHex} >server.key)
      chgrp blockhost minter.key server.key
      systemctl enable --now blockhost-engine`)
      await shop.equip([buyer])
      await shop.buy(buyer, { plan: 1, days: 30, data: sealPurchase(buyer, publicKeyOf(server.privateKey), '1') })
      const status = async () => JSON.parse(await sh('runuser -u blockhost -- blockhost status --json'))
      await waitFor('the VM is sold', async () => ((await status()).subscriptions.live === 1 ? true : undefined))
      await sh('systemctl restart blockhost-root-agent')
      assert.equal(
        await sh('stat -c %U:%G /var/lib/blockhost/engine.db /var/lib/blockhost/vms.db | sort -u'),
        'blockhost:blockhost\n',
      )
      await killed('blockhost-engine')
      assert.deepEqual([(await status()).engine.running, (await status()).subscriptions], [true, { live: 1 }])
      assert.equal(await sh('stat -c %U:%G:%a /run/blockhost-engine/engine.sock'), 'blockhost:blockhost:660\n')
      assert.match(await sh('blockhost doctor || true'), /ok {4}right to mint/)
      await sh('rm /etc/blockhost/minter.key; systemctl restart blockhost-engine || true')
      await ends('blockhost-engine', 'failed')
      assert.equal(await show('blockhost-engine', 'ExecMainStatus'), '78')
    },
  )
})

/** A shell line that asks the root agent, as a Unix user, what there is. */
function askHostStatus(user: string): string {
  const program = `
    const { callFrame } = await import('/opt/blockhost/packages/kit/src/frame.ts')
    const asked = { action: 'host-status', params: {} }
    callFrame('/run/blockhost/root-agent.sock', asked, { timeoutMs: 25000, maxBytes: 65536 }).then(
      answer => console.log(JSON.stringify(answer)),
      error => console.log(error.cause?.code ?? error.message),
    )`
  const node = `/opt/blockhost/node_modules/node-linux-${process.arch === 'arm64' ? 'arm64' : 'x64'}/bin/node`
  return `runuser -u ${user} -- ${node} --input-type=module -e "${program}"`
}
