import { encodeRequest, encodeResponse } from '@blockhost/crypto/broker-messages.ts'
import { createDecryptor, encrypt } from '@blockhost/crypto/ecies.ts'
import { generatePrivateKey, publicKeyOf } from '@blockhost/crypto/key-file.ts'
import { decrypt as plainDecrypt, encrypt as plainEncrypt } from 'eciesjs'
import type { BenchGroup } from './figure.ts'
import { brokerAddress } from './inside.ts'
import { newLease } from './leases.ts'
import { median, round } from './statistics.ts'

/** What one request costs in cryptography: opening it and sealing its answer. */
export const ecies: BenchGroup = {
  keys: ['ecies.perSecond'],
  async run() {
    const pairs = makePairs()
    const own: number[] = []
    const plain: number[] = []
    for (let run = -1; run < 5; run++) {
      const rates = [pairsPerSecond(pairs.own, 200), pairsPerSecond(pairs.plain, 20)]
      if (run < 0) continue
      own.push(rates[0]!)
      plain.push(rates[1]!)
    }
    return {
      'ecies.perSecond': {
        value: round(median(own)),
        unit: '/s',
        comparedWith: `eciesjs, all JavaScript, the same pairs: ${round(median(plain))}/s`,
      },
    }
  },
}

/** The same request and answer for both implementations, of usual size. */
function makePairs() {
  const brokerKey = generatePrivateKey()
  const serverPublicKey = publicKeyOf(generatePrivateKey())
  const { publicKey, nftContract } = newLease(1n)
  const request = encodeRequest({
    wgPubkey: publicKey,
    nftContract,
    serverPubkey: Buffer.from(serverPublicKey).toString('hex'),
  })
  const response = encodeResponse({
    prefix: '2001:db8:1:2::100/120',
    gateway: brokerAddress,
    brokerPubkey: publicKey,
    brokerEndpoint: '198.51.100.1:51820',
  })
  const sealed = encrypt(publicKeyOf(brokerKey), request)
  const decrypt = createDecryptor(brokerKey)
  return {
    own: () => {
      decrypt(sealed)
      return encrypt(serverPublicKey, response)
    },
    plain: () => {
      plainDecrypt(brokerKey, sealed)
      return plainEncrypt(serverPublicKey, response)
    },
  }
}

function pairsPerSecond(pair: () => unknown, count: number): number {
  const start = performance.now()
  for (let left = count; left > 0; left--) pair()
  return (count / (performance.now() - start)) * 1000
}
