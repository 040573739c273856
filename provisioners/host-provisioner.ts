import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { createLibvirtProvisioner, type VmAddresses } from './libvirt/libvirt.ts'
import { connectRootAgent } from './libvirt/root-agent.ts'
import type { Provisioner } from './provisioner.ts'

/** What of the host's configuration names its hypervisor. */
export type HostProvisionerConfig = {
  /** Where it was read from, for messages. */
  readonly folder: string
  readonly rootAgentSocket: string
  /** Id of the template that new VMs start from. */
  readonly vmTemplate: string | undefined
  readonly nameservers: readonly string[]
}

/**
 * Connects the hypervisor of this host.
 *
 * @param vms - Has the addresses of the VMs.
 * @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78) when no template is configured.
 */
export function connectHostProvisioner(
  config: HostProvisionerConfig,
  vms: { findVm(name: string): VmAddresses | undefined },
): Provisioner {
  const { folder, rootAgentSocket, vmTemplate, nameservers } = config
  if (vmTemplate === undefined)
    throw new BlockHostError({
      code: 'BH_CONFIG_INVALID',
      message: `${folder}/engine.yaml can't be used: vm_template is missing`,
      hint: 'Run `node image/build-template.ts --folder /var/lib/blockhost/templates` in the source tree and put the id it prints there.',
      fields: { folder },
      exitCode: exitCodes.badConfig,
    })
  const agent = connectRootAgent(rootAgentSocket)
  return createLibvirtProvisioner(
    { template: vmTemplate, nameservers },
    { agent, addressesOf: name => vms.findVm(name) },
  )
}
