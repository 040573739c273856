import { addressAt, formatAddress, formatPrefix, parseAddress, parsePrefix } from '@blockhost/net/prefix.ts'
import { z } from 'zod'
import { type ConfigFile, defineConfigFile } from './config-folder.ts'

const prefix = z.string().transform((text, context) => {
  const parsed = parsePrefix(text)
  if (parsed === undefined) context.addIssue('expected an IPv6 prefix like 2001:db8::/64')
  return parsed === undefined ? { network: 0n, length: 0 } : parsed
})

const gateway = z.string().refine(text => parseAddress(text) !== undefined, 'expected an IPv6 address')

// The WireGuard key in this file is nobody's business but broker-client's: it is not passed on.
const schema = z
  .looseObject({
    prefix,
    gateway: gateway.optional(),
    broker_pubkey: z.string().optional(),
    broker_endpoint: z.string().optional(),
    broker_wallet: z.string().optional(),
    dns_zone: z.string().nullish(),
    mode: z.string().optional(),
  })
  .transform(file => ({
    prefix: formatPrefix(file.prefix),
    /** The host's own address in the prefix, number 1. */
    hostAddress: formatAddress(addressAt(file.prefix, file.prefix.length === 128 ? 0n : 1n)),
    gateway: file.gateway,
    brokerPublicKey: file.broker_pubkey || undefined,
    brokerEndpoint: file.broker_endpoint || undefined,
    brokerWallet: /^0x[\da-fA-F]{40}$/.test(file.broker_wallet ?? '') ? file.broker_wallet : undefined,
    dnsZone: file.dns_zone || undefined,
    mode: file.mode === 'manual' ? ('manual' as const) : ('broker' as const),
  }))

/** `broker-allocation.json`: the host's IPv6 prefix, leased from a broker or set by hand. */
export type BrokerAllocation = Readonly<z.output<typeof schema>>

/** `broker-allocation.json`, of a broker client of any generation or of the wizard's manual mode. */
export const brokerAllocationFile: ConfigFile<BrokerAllocation> = defineConfigFile('broker-allocation.json', schema)
