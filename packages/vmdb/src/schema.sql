-- The VM database (SQLite, STRICT). It is intent: hypervisor and chain are reconciled to it. Several processes write it.
-- Times: Unix seconds, as on chain.

CREATE TABLE vms (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,                       -- blockhost-NNN; free again once destroyed
  state TEXT NOT NULL CHECK (state IN ('creating', 'active', 'suspended', 'destroying', 'destroyed')),
  vmid INTEGER NOT NULL,
  ipv4 TEXT NOT NULL,
  ipv6 TEXT,                                -- RFC 5952
  owner TEXT NOT NULL,                      -- free text of the earlier generation; else the wallet
  owner_wallet TEXT,                        -- lower-case 0x
  username TEXT NOT NULL,
  purpose TEXT NOT NULL,
  machine_id TEXT NOT NULL,
  expires_at INTEGER NOT NULL,              -- the chain's
  created_at INTEGER NOT NULL,
  suspended_at INTEGER,
  destroyed_at INTEGER,
  nft_token_id INTEGER,
  nft_minted_at INTEGER,
  extra TEXT NOT NULL DEFAULT '{}',         -- JSON object: keys of vms.json that are somebody else's
  creator TEXT                              -- the process that makes it, or takes it away: "<boot id> <pid> <start time>"; only meanwhile
) STRICT;
-- What lives is unique; what is gone stays as history.
CREATE UNIQUE INDEX vms_name ON vms (name) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX vms_vmid ON vms (vmid) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX vms_ipv4 ON vms (ipv4) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX vms_ipv6 ON vms (ipv6) WHERE state <> 'destroyed';
CREATE UNIQUE INDEX vms_token ON vms (nft_token_id) WHERE state <> 'destroyed';
CREATE INDEX vms_history ON vms (name, id);
CREATE INDEX vms_due ON vms (state, expires_at);

-- Per pool: the numbers nobody holds, as ranges.
CREATE TABLE free_vmid (first INTEGER PRIMARY KEY, last INTEGER NOT NULL CHECK (last >= first)) STRICT;
CREATE TABLE free_ipv4 (first INTEGER PRIMARY KEY, last INTEGER NOT NULL CHECK (last >= first)) STRICT;
CREATE TABLE free_ipv6 (first INTEGER PRIMARY KEY, last INTEGER NOT NULL CHECK (last >= first)) STRICT;

-- Numbers that a destroyed VM had: kept for a VM of the same name while they rest, free for everybody from available_at on.
CREATE TABLE resting (
  pool TEXT NOT NULL CHECK (pool IN ('vmid', 'ipv4', 'ipv6')),
  number INTEGER NOT NULL,
  name TEXT NOT NULL,
  available_at INTEGER NOT NULL,
  PRIMARY KEY (pool, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX resting_name ON resting (pool, name, available_at);
CREATE INDEX resting_due ON resting (available_at);

-- VM ids handed out without a VM (allocateVmid).
CREATE TABLE held_vmids (vmid INTEGER PRIMARY KEY, held_at INTEGER NOT NULL) STRICT;

CREATE TABLE nft_tokens (
  token_id INTEGER PRIMARY KEY,
  vm_name TEXT NOT NULL,
  status TEXT NOT NULL CHECK (status IN ('reserved', 'minted', 'failed')),
  reserved_at INTEGER NOT NULL,
  owner_wallet TEXT,
  minted_at INTEGER,
  failed_at INTEGER
) STRICT;
CREATE INDEX nft_tokens_vm ON nft_tokens (vm_name);

CREATE TABLE settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
