/** The states of a VM, in the order of its life; `active` and `suspended` may alternate. */
export const vmStates = ['creating', 'active', 'suspended', 'destroying', 'destroyed'] as const
/** One of {@link vmStates}. */
export type VmState = (typeof vmStates)[number]

/** A VM as the database knows it. Times are Unix seconds. */
export type Vm = {
  /** `blockhost-NNN`. Unique among the living. */
  readonly name: string
  /** The hypervisor's number, from the configured range. Unique among the living, as are the addresses. */
  readonly vmid: number
  readonly state: VmState
  /** Ethernet address of its only interface; follows from the IPv4 address, so it is unique on the bridge. */
  readonly mac: string
  readonly ipv4: string
  /** RFC 5952; `undefined` when the host has no prefix. */
  readonly ipv6: string | undefined
  /** Lower-case 0x address; `undefined` for VMs of an earlier generation that had none. */
  readonly ownerWallet: string | undefined
  /** The owner as text: the wallet, or what an earlier generation wrote. */
  readonly owner: string
  readonly username: string
  readonly purpose: string
  /** What the owner signs for; unique per operator and VM. */
  readonly machineId: string
  /** The chain's expiry. */
  readonly expiresAt: number
  readonly createdAt: number
  readonly suspendedAt: number | undefined
  readonly destroyedAt: number | undefined
  readonly nftTokenId: bigint | undefined
  readonly nftMintedAt: number | undefined
  /** Keys of vms.json that belong to others; kept for the export. */
  readonly extra: Readonly<Record<string, unknown>>
}

/** A row of the table `vms`. */
export type VmRow = {
  id: number
  name: string
  state: VmState
  vmid: number
  ipv4: string
  ipv6: string | null
  owner: string
  owner_wallet: string | null
  username: string
  purpose: string
  machine_id: string
  expires_at: number
  created_at: number
  suspended_at: number | null
  destroyed_at: number | null
  nft_token_id: number | null
  nft_minted_at: number | null
  extra: string
  creator: string | null
}

/** Returns the VM of a row. */
export function toVm(row: VmRow): Vm {
  return {
    name: row.name,
    vmid: row.vmid,
    state: row.state,
    mac: macOf(row.ipv4),
    ipv4: row.ipv4,
    ipv6: row.ipv6 ?? undefined,
    ownerWallet: row.owner_wallet ?? undefined,
    owner: row.owner,
    username: row.username,
    purpose: row.purpose,
    machineId: row.machine_id,
    expiresAt: row.expires_at,
    createdAt: row.created_at,
    suspendedAt: row.suspended_at ?? undefined,
    destroyedAt: row.destroyed_at ?? undefined,
    nftTokenId: row.nft_token_id === null ? undefined : BigInt(row.nft_token_id),
    nftMintedAt: row.nft_minted_at ?? undefined,
    extra: JSON.parse(row.extra) as Record<string, unknown>,
  }
}

/** Returns the Ethernet address that goes with an IPv4 address: 52:54 (local, unicast; what QEMU uses) and its four bytes. */
export function macOf(ipv4: string): string {
  return ['52', '54', ...ipv4.split('.').map(octet => Number(octet).toString(16).padStart(2, '0'))].join(':')
}

/** Where a VM may go from each state. Going where it is already is no change and fine. */
export const transitions: Readonly<Record<VmState, readonly VmState[]>> = {
  creating: ['active', 'destroying'],
  active: ['suspended', 'destroying'],
  suspended: ['active', 'destroying'],
  destroying: ['destroyed'],
  destroyed: [],
}
