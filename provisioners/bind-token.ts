import { BlockHostError } from '@blockhost/kit/errors.ts'
import { guestProgram, type Provisioner } from './provisioner.ts'

/** Which token opens which Unix user of a VM. */
export type Binding = { readonly name: string; readonly username: string; readonly tokenId: bigint }

/**
 * Makes a token the key of a VM's Unix user, in place of any other.
 *
 * @throws {BlockHostError} `BH_BIND_FAILED` (retryable) when the guest refuses; what `guestExec` throws.
 */
export async function bindToken(
  provisioner: Pick<Provisioner, 'guestExec'>,
  { name, username, tokenId }: Binding,
): Promise<void> {
  const { exitCode, stderr } = await provisioner.guestExec(name, [guestProgram, 'bind', username, String(tokenId)])
  if (exitCode === 0) return
  throw new BlockHostError({
    code: 'BH_BIND_FAILED',
    message: `The guest ${name} did not take its access token (exit status ${exitCode}): ${stderr.trim().slice(0, 200)}`,
    hint: 'The same step can be taken again; the template may be older than this program.',
    fields: { name, exitCode },
    retryable: true,
  })
}
