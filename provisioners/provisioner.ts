/** What a hypervisor does for us, whichever it is. Nothing in here knows the chain, the database or money. */

/** Everything a VM is made of. */
export type VmSpec = {
  /** `blockhost-NNN`; also the name in the hypervisor. */
  readonly name: string
  readonly vmid: number
  readonly vcpus: number
  readonly memoryMiB: number
  readonly diskGiB: number
  /** Ethernet address of its only interface, lower case with colons. */
  readonly mac: string
  readonly ipv4: { readonly address: string; readonly prefixLength: number; readonly gateway: string }
  /** One address, RFC 5952, and where the guest sends everything else; `undefined`: no IPv6. */
  readonly ipv6: { readonly address: string; readonly gateway: string } | undefined
  /** `#cloud-config` text, see image/cloud-init.ts. */
  readonly userData: string
}

/** What the hypervisor says of a VM. `absent`: it knows none of that name. */
export type VmPower = 'running' | 'stopped' | 'absent'

/** A VM of the hypervisor's list. */
export type VmListEntry = { readonly name: string; readonly power: Exclude<VmPower, 'absent'> }

/** What a command in the guest did. Each stream is cut at 64 KiB. */
export type GuestResult = { readonly exitCode: number; readonly stdout: string; readonly stderr: string }

/** One sample of a VM's use. Counters grow from the start of the VM. */
export type VmMetrics = {
  readonly power: VmPower
  readonly cpuNanoseconds: bigint
  readonly vcpus: number
  readonly memoryMiB: number
  readonly diskReadBytes: bigint
  readonly diskWriteBytes: bigint
  readonly netReceivedBytes: bigint
  readonly netSentBytes: bigint
}

/**
 * A hypervisor. Each method may be called again after any failure, and does nothing when it is so already. They throw
 * {@link BlockHostError} of `@blockhost/kit/errors.ts`, `retryable` when the same call may succeed later.
 */
export type Provisioner = {
  /**
   * Makes the VM, starts it and waits until it can be logged in to, its route and its firewall included. A failure takes back what this
   * call made, and nothing that was there before: what a crash left half made is finished by the next call, or ended by `destroy`.
   *
   * @param signal - Ends the waiting; what was made is taken back.
   */
  create(spec: VmSpec, signal?: AbortSignal): Promise<void>
  /** Takes away everything that carries the name: domain, disk, seed, route, firewall. Fine when there is nothing. */
  destroy(name: string): Promise<void>
  /** Starts a VM that exists, with its route and firewall. */
  start(name: string): Promise<void>
  /** Asks the guest to shut down, and cuts the power when it does not within the configured time. */
  stop(name: string): Promise<void>
  /** Stops the VM and takes its route away; the disk stays. */
  suspend(name: string): Promise<void>
  /** Undoes {@link Provisioner.suspend}, and waits until the VM can be logged in to. */
  resume(name: string, signal?: AbortSignal): Promise<void>
  status(name: string): Promise<VmPower>
  /** Every VM that this provisioner made. */
  list(): Promise<readonly VmListEntry[]>
  /**
   * Runs a program in the guest, without a shell, as its root.
   *
   * @throws {BlockHostError} `BH_GUEST_UNREACHABLE` (retryable) when nothing answers in the guest.
   */
  guestExec(name: string, argv: readonly [string, ...string[]]): Promise<GuestResult>
  /** @throws {BlockHostError} `BH_VM_ABSENT`. */
  metrics(name: string): Promise<VmMetrics>
}

/** The program in every VM that does what the host may ask for, see image/template/files. */
export const guestProgram = '/usr/lib/blockhost/guest'
