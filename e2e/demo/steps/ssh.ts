import { signMessage } from '@blockhost/crypto/signed-message.ts'
import type { ShopDemo } from '../context.ts'
import { connectTo } from '../customer.ts'
import { expect } from '../expect.ts'

/** The buyer connects from the internet, signs the code, and is in. */
export async function ssh({ lab, story, customers }: ShopDemo): Promise<string> {
  const customer = customers[0]!
  const { hostname, username } = customer.access!
  story.tell('buyer', `ssh ${username}@${hostname}`)
  const connection = await connectTo(lab.internet, customer.access!)
  const { message } = connection.shown
  story.tell('buyer', `is asked to sign “${message}”`)
  const ended = await connection.answer(signMessage(message, customer.wallet.privateKey))
  expect(ended.in, `a shell as ${username} at ${hostname}`, ended.screen)
  const took = `${(ended.answerMs! / 1000).toFixed(1)} s`
  story.tell('buyer', `pastes the signature and is in, ${took} later`)
  return `from the internet over IPv6; shell ${took} after the signature was pasted`
}
