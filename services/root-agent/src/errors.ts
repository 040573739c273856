import { BlockHostError, exitCodes } from '@blockhost/kit/errors.ts'
import { type Exec, ExecError } from '@blockhost/kit/exec.ts'

/** A call that is not allowed, whoever asks. The message says which parameter and what was expected. */
export function refused(problem: string, fields: Readonly<Record<string, unknown>> = {}): BlockHostError {
  return new BlockHostError({ code: 'BH_ACTION_REFUSED', message: problem, fields })
}

/** What the configuration or the machine is missing. */
export function unusable(problem: string, hint: string): BlockHostError {
  return new BlockHostError({ code: 'BH_HOST_UNUSABLE', message: problem, hint, exitCode: exitCodes.badConfig })
}

/** Debian packages of the programs. */
const packages: Readonly<Record<string, string>> = {
  virsh: 'libvirt-clients libvirt-daemon-system',
  'qemu-img': 'qemu-utils',
  genisoimage: 'genisoimage',
  nft: 'nftables',
  ip: 'iproute2',
  'virt-customize': 'libguestfs-tools',
}

/** Returns an {@link Exec} whose "no such program" is an answer that says what to install. */
export function withMissingPrograms(exec: Exec): Exec {
  return async (command, args, options) => {
    try {
      return await exec(command, args, options)
    } catch (error) {
      if (error instanceof ExecError && (error.cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
        throw notInstalled(command)
      throw error
    }
  }
}

function notInstalled(command: string): BlockHostError {
  const where = packages[command]
  return new BlockHostError({
    code: 'BH_PROGRAM_NOT_INSTALLED',
    message: `${command} is not installed on this machine`,
    hint: where === undefined ? 'This is no Proxmox host.' : `Install it: apt-get install ${where}`,
    fields: { command },
  })
}
