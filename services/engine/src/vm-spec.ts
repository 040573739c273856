import { createHmac } from 'node:crypto'
import { machineIdOf as machineIdFor } from '@blockhost/crypto/signed-message.ts'
import type { PlanSize } from '@blockhost/hostconfig/blockhost-config.ts'
import { readCloudInitTemplate, renderCloudInit } from '@blockhost/image/cloud-init.ts'
import { parseIpv4Prefix } from '@blockhost/net/ipv4.ts'
import type { VmSpec } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { EngineConfig } from './config.ts'
import type { Subscription } from './subscription.ts'

/** What describes VMs: their machine id, and everything that the hypervisor needs. */
export type VmSpecs = {
  machineIdOf(name: string): string
  /** @throws {BlockHostError} when the plan's cloud-init template is missing or unusable. */
  specOf(subscription: Subscription, vm: Vm): VmSpec
}

/** The host's link-local address on the bridge: no guest needs to assume that anything of its prefix is on the link. */
const ipv6Gateway = 'fe80::1'

/**
 * Makes what describes VMs. Pure but for reading templates: a VM that is made again is described the same.
 *
 * @param serverKey - `server.key`; the sign-in secret of each VM is derived from it and never stored.
 */
export function createVmSpecs(config: EngineConfig, serverKey: Uint8Array): VmSpecs {
  const { rules, chainId, hostIpv6 } = config
  const machineIdOf = (vmName: string) =>
    machineIdFor({ vmName, chainId, nftContract: rules.nft, hostIpv6: hostIpv6 ?? '' })
  return {
    machineIdOf,
    specOf: ({ planId, tokenId }, vm) =>
      vmSpecOf(config, vm, {
        template: readCloudInitTemplate(config.cloudInitOf(planId)),
        otpSecret: createHmac('sha256', serverKey).update(`sign-in code of ${vm.machineId}`).digest(),
        size: config.sizeOf(planId),
        tokenId,
      }),
  }
}

/** What of a VM the configuration and the VM database do not say. */
export type VmChoices = {
  /** cloud-init template, its text. */
  readonly template: string
  /** Makes the codes of the VM's sign-in. */
  readonly otpSecret: Uint8Array
  readonly size: PlanSize
  /** Token that its user is bound to from the first boot on. */
  readonly tokenId?: bigint | undefined
}

/** Returns everything that the hypervisor needs of a VM. Pure. @throws {BlockHostError} when the template is unusable. */
export function vmSpecOf(config: EngineConfig, vm: Vm, { template, otpSecret, size, tokenId }: VmChoices): VmSpec {
  const { pools, web3 } = config
  const userData = renderCloudInit(template, {
    ...{ name: vm.name, username: vm.username, machineId: vm.machineId },
    ...{ otpSecret, otpLength: web3.otpLength, otpTtlSeconds: web3.otpTtlSeconds, pagePort: web3.signingPagePort },
    ...{ chainId: config.chainId, nftContract: config.rules.nft, rpcUrls: config.guestRpcUrls },
    nameservers: config.nameservers,
    ...(tokenId === undefined ? {} : { nftTokenId: tokenId }),
  })
  const { length: prefixLength } = parseIpv4Prefix(pools.ipv4.network)!
  return {
    ...{ name: vm.name, vmid: vm.vmid, mac: vm.mac, ...size, userData },
    ipv4: { address: vm.ipv4, prefixLength, gateway: pools.ipv4.gateway },
    ipv6: vm.ipv6 === undefined ? undefined : { address: vm.ipv6, gateway: ipv6Gateway },
  }
}
