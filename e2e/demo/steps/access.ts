import { contains, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import type { ShopDemo } from '../context.ts'
import { readAccess } from '../customer.ts'
import { expect } from '../expect.ts'

/** The buyer reads where the VM is out of the token, with the shipped tool. */
export async function access(demo: ShopDemo): Promise<string> {
  const { story, customers, a } = demo
  const { hostname, port, username } = await readAccess(demo, customers[0]!)
  const { prefix } = a.lease()
  const address = parseAddress(hostname)
  expect(address !== undefined && contains(parsePrefix(prefix)!, address), `an address of ${prefix}`, hostname)
  story.tell('buyer', 'signs the token’s public secret; pam_web3_tool decrypt-symmetric')
  return `${username}@${hostname}, port ${port}`
}
