import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { loadOrder } from './initrd.ts'

const dep = [
  'kernel/drivers/virtio/virtio_pci.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko',
  'kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko',
  'kernel/drivers/virtio/virtio.ko:',
  'kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko kernel/drivers/virtio/virtio.ko',
  'kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/mbcache.ko kernel/fs/jbd2/jbd2.ko',
  'kernel/lib/crc16.ko:',
  'kernel/fs/mbcache.ko:',
  'kernel/fs/jbd2/jbd2.ko:',
  'kernel/drivers/char/hw_random/virtio-rng.ko: kernel/drivers/virtio/virtio.ko',
  '',
].join('\n')

describe('loadOrder', () => {
  test('puts every module after all it needs, once', () => {
    const order = loadOrder(dep, new Set(['crc32c_generic']))
    assert.equal(new Set(order).size, order.length)
    const at = (name: string) => order.findIndex(path => path.endsWith(`/${name}.ko`))
    assert.ok(at('virtio') < at('virtio_ring') && at('virtio_ring') < at('virtio_pci'))
    assert.ok(at('jbd2') < at('ext4') && at('crc16') < at('ext4'))
    assert.ok(at('virtio-rng') > at('virtio'), 'a dash in the file is an underscore in the name')
  })

  test('needs no file for what the kernel has inside, and refuses what is nowhere', () => {
    assert.throws(() => loadOrder(dep, new Set()), { code: 'BH_TEMPLATE_KERNEL' })
  })
})
