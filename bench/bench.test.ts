import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { allKeys } from './bench.ts'

describe('bench', () => {
  it('measures what the issues name, each figure once', () => {
    const keys = allKeys()
    assert.equal(new Set(keys).size, keys.length)
    assert.deepEqual(
      keys.filter(key => !key.startsWith('gas.')),
      [
        'ipam.allocateUs.1000',
        'ipam.allocateUs.1000000',
        'ipam.backlogPerSecond',
        'activate.processes.kernel',
        'activate.processes.ndppd',
        'restore.seconds',
        'restore.addconfSeconds',
        'restore.processes',
        'reconcile.idleMs',
        'reconcile.idleWrites',
        'change.p99Ms',
        'change.wgSetMs',
        'forward.ppsRatio',
        'ndp.activateMs',
        'ndp.answerUs',
        'backlog.responsesPerSecond',
        'backlog.rpcRoundTripsPerRequest',
        'idle.rpcRoundTripsPerPoll',
        'latency.blocksToAnswer',
        'burst.pingP50Seconds',
        'burst.pingP99Seconds',
        'ecies.perSecond',
        'engine.purchasesPerSecond',
        'engine.catchUpBlocksPerSecond',
        'vmdb.allocateUs.10',
        'vmdb.allocateUs.100000',
        'rootAgent.actionMs',
        'vm.overlayCreateMs',
        'vm.templateMiB',
        'vm.templateBuildSeconds',
        'vm.paymentToSshSeconds',
        'vm.paymentToSshSeconds.chain',
        'vm.paymentToSshSeconds.disk',
        'vm.paymentToSshSeconds.boot',
        'vm.paymentToSshSeconds.cloudInit',
        'vm.paymentToSshSeconds.mint',
        'vm.parallel20Served',
        'login.verifyMs',
        'login.rpcCalls',
        'authSvc.idleRssMiB',
        'authSvc.coldStartMs',
        'daemon.rssMiB',
        'cli.startMs',
      ],
    )
    for (const key of ['gas.submitRequest', 'gas.submitResponse', 'gas.submitResponsesEach'])
      assert.ok(keys.includes(key), key)
  })
})
