import { signMessage } from '@blockhost/crypto/signed-message.ts'
import { freshWallet } from '@blockhost/testkit/wallet.ts'
import type { ShopDemo } from '../context.ts'
import { connectTo, expectRefused } from '../customer.ts'
import { expect } from '../expect.ts'

/** A stranger, another user's name, and a signature of an earlier code: none gets in. */
export async function refuse({ lab, story, customers }: ShopDemo): Promise<string> {
  const { wallet, access } = customers[0]!
  await expectRefused(lab.internet, freshWallet(), access!)
  story.tell('stranger', 'signs the code with a wallet of its own, and is refused')

  await expectRefused(lab.internet, wallet, { ...access!, username: 'root' })
  story.tell('buyer', 'is refused as root, though the signature is good')

  const earlier = await connectTo(lab.internet, access!)
  const signature = signMessage(earlier.shown.message, wallet.privateKey)
  const first = await earlier.answer(signature)
  expect(first.in, 'a shell for the first use of the signature', first.screen)
  const again = await (await connectTo(lab.internet, access!)).answer(signature)
  expect(!again.in, 'no shell for its second use', again.screen)
  story.tell('stranger', 'pastes a signature that was used before, and is refused')
  return 'a stranger’s wallet, the user root and a used signature: no shell'
}
