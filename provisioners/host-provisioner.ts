import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { createLibvirtProvisioner, type VmAddresses } from './libvirt/libvirt.ts'
import { connectRootAgent } from './libvirt/root-agent.ts'
import type { Provisioner } from './provisioner.ts'

/** What of the host's configuration names its hypervisor. */
export type HostProvisionerConfig = {
  readonly rootAgentSocket: string
  /** Id of the template that new VMs start from. */
  readonly vmTemplate: string | undefined
  readonly nameservers: readonly string[]
}

/**
 * Connects the hypervisor of this host, for commands that run beside the engine.
 *
 * @param vms - Has the addresses of the VMs.
 * @throws {BlockHostError} `BH_CONFIG_INVALID` (exit 78) when no template is configured.
 */
export function connectHostProvisioner(
  config: HostProvisionerConfig,
  vms: { findVm(name: string): VmAddresses | undefined },
): Provisioner {
  const { rootAgentSocket, vmTemplate, nameservers } = config
  if (vmTemplate === undefined)
    throw new BlockHostError({
      code: 'BH_CONFIG_INVALID',
      message: 'engine.yaml names no vm_template',
      hint: 'Run `build-template` and put the id it prints there.',
      exitCode: exitCodes.badConfig,
    })
  const agent = connectRootAgent(rootAgentSocket)
  return createLibvirtProvisioner(
    { template: vmTemplate, nameservers },
    { agent, addressesOf: name => vms.findVm(name) },
  )
}
