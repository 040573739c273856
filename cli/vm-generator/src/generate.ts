/** Makes one VM with its access token, or nothing. */

import type { MintRequest } from '@blockhost/engine/mint-call.ts'
import { isRetryable } from '@blockhost/kit/errors.ts'
import { memoryJournal, runSteps, type Step, undoSteps } from '@blockhost/kit/steps.ts'
import { cancelMint, type MintDeps, mintToken } from '@blockhost/mint-nft/mint.ts'
import { bindToken } from '@blockhost/provisioners/bind-token.ts'
import type { Provisioner, VmSpec } from '@blockhost/provisioners/provisioner.ts'
import type { Vm } from '@blockhost/vmdb/vm.ts'
import type { ReserveVm, VmDatabase } from '@blockhost/vmdb/vm-database.ts'

/** What {@link generateVm} needs. */
export type GenerateDeps = {
  readonly vms: VmDatabase
  readonly provisioner: Provisioner
  /** Describes a VM whose numbers are reserved. */
  specOf(vm: Vm): VmSpec
  /** Absent: no token is minted. */
  readonly mint?: { readonly deps: MintDeps; requestOf(vm: Vm): MintRequest }
}

/** What to make. */
export type GenerateRequest = Required<ReserveVm> & {
  /** Token that was minted before; it is bound, and none is minted. */
  readonly nftTokenId: bigint | undefined
}

/**
 * Reserves, makes, starts and, where it is asked for, mints and binds; then announces the VM. A failure leaves nothing behind, except a
 * mint that is on its way: then the VM waits for it, and the same call goes on.
 *
 * @returns The VM, active.
 * @throws {BlockHostError} of the database, the provisioner and the mint.
 */
export async function generateVm(deps: GenerateDeps, request: GenerateRequest): Promise<Vm> {
  const { vms, provisioner } = deps
  const { name, expiresAt, username, ownerWallet } = request
  const journal = memoryJournal()
  const steps = generateSteps(deps)
  await runSteps(steps, request, journal)
  try {
    const tokenId = await obtainToken(deps, request)
    if (tokenId !== undefined) {
      await bindToken(provisioner, { name, username, tokenId })
      vms.markNftMinted(name, tokenId, ownerWallet)
    }
  } catch (error) {
    const isUnderWay = isRetryable(error) && mayStillMint(deps, name)
    if (!isUnderWay) await undoSteps(steps, request, journal, error)
    throw error
  }
  return vms.markActive(name, { expiresAt })
}

/** Returns the steps up to a VM that runs, for one run. Undoing touches only a VM that these steps reserved, never one that was there. */
export function generateSteps({ vms, provisioner, specOf }: GenerateDeps): Step<GenerateRequest>[] {
  let isReserved = false
  return [
    {
      name: 'reserve',
      do: request => {
        vms.reserveVm(request)
        isReserved = true
      },
      undo: ({ name }) => {
        const vm = vms.findVm(name)
        if (!isReserved || vm === undefined || vm.state === 'destroyed') return
        vms.markDestroying(name)
        vms.markDestroyed(name)
      },
    },
    {
      name: 'create',
      do: ({ name }) => provisioner.create(specOf(vms.findVm(name)!)),
      undo: async ({ name }) => {
        if (isReserved) await provisioner.destroy(name)
      },
    },
  ]
}

async function obtainToken({ vms, mint }: GenerateDeps, request: GenerateRequest): Promise<bigint | undefined> {
  if (request.nftTokenId !== undefined) return request.nftTokenId
  if (mint === undefined) return undefined
  const { tokenId } = await mintToken(mint.deps, mint.requestOf(vms.findVm(request.name)!))
  return tokenId
}

/** A transaction that a node may have seen can't be taken back: the VM that its token will open must be there. */
function mayStillMint({ vms, mint }: GenerateDeps, name: string): boolean {
  return mint !== undefined && !cancelMint(mint.deps, mint.requestOf(vms.findVm(name)!))
}
