-- The broker's database (SQLite, STRICT). SQLite is intent: the kernel and the chain are reconciled to it.
-- allocations, tokens, audit_log and state carry the columns that the design document names; the rest is ours.
-- Times: TEXT is ISO 8601 UTC, INTEGER is Unix milliseconds.

CREATE TABLE allocations (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  prefix TEXT NOT NULL UNIQUE,              -- RFC 5952, e.g. 2001:db8::100/120
  prefix_index INTEGER NOT NULL UNIQUE,     -- 1.. ; 0 is the broker's own
  pubkey TEXT NOT NULL UNIQUE,              -- WireGuard public key, base64: one key, one lease
  endpoint TEXT,                            -- address:port where the host was last heard from
  nft_contract TEXT NOT NULL UNIQUE,        -- lower-case 0x: one NFT contract, one lease
  allocated_at TEXT NOT NULL,
  last_seen_at TEXT,                        -- latest handshake noted (at most an hour behind)
  wallet TEXT,                              -- who asked, lower-case 0x; NULL for imported leases
  tunnel_seen INTEGER NOT NULL DEFAULT 0,   -- 1 once a handshake was seen with any key of this lease
  request_contract TEXT,                    -- the request that the lease answers; NULL for imported leases
  request_id INTEGER,
  request_digest TEXT,
  rests_until INTEGER                       -- when the prefix was resting: what was left of that, should nobody use it now
) STRICT;
CREATE INDEX allocations_wallet ON allocations (wallet);
CREATE INDEX allocations_unseen ON allocations (id) WHERE tunnel_seen = 0;

-- Space nobody holds, as ranges of indices, so that an empty pool of any size is one row.
CREATE TABLE free_ranges (
  first INTEGER PRIMARY KEY,
  last INTEGER NOT NULL CHECK (last >= first)
) STRICT;

-- Freed prefixes: kept for the same NFT contract while they rest, given to anybody from available_at on.
CREATE TABLE resting (
  prefix_index INTEGER PRIMARY KEY,
  nft_contract TEXT NOT NULL,
  freed_at INTEGER NOT NULL,
  available_at INTEGER NOT NULL
) STRICT;
CREATE INDEX resting_nft ON resting (nft_contract);
CREATE INDEX resting_available ON resting (available_at);

-- Every request the broker decided on, one row for each content that an id has had (a reorg can change it).
--   leased     the lease is in the database; the answer is still to be sent
--   answering  the answer is in the outbox
--   answered   the chain has the answer
--   releasing  taken back here; the release on chain is in the outbox
--   refused, superseded, dropped (by a reorg), released: over; `reason` says why
CREATE TABLE requests (
  contract TEXT NOT NULL,                   -- requests contract, lower-case 0x
  id INTEGER NOT NULL,
  digest TEXT NOT NULL,                     -- binds id, requester, NFT contract and payload
  requester TEXT NOT NULL,
  nft_contract TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('leased', 'answering', 'answered', 'releasing', 'refused',
    'superseded', 'dropped', 'released')),
  reason TEXT,
  pubkey TEXT,                              -- WireGuard key asked for
  server_pubkey TEXT,                       -- whom the answer is encrypted to, hex
  previous_pubkey TEXT,                     -- the lease as it was before this request: restored if a reorg drops it
  previous_contract TEXT,
  previous_id INTEGER,
  previous_digest TEXT,
  tx_key TEXT,                              -- outbox.key of the answer, later of the release
  attempts INTEGER NOT NULL DEFAULT 0,      -- answers that reverted
  changed_block INTEGER NOT NULL,             -- head when it was last decided on
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (contract, id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_open ON requests (contract, id) WHERE state IN ('leased', 'answering', 'releasing');
CREATE INDEX requests_recent ON requests (contract, changed_block);
CREATE INDEX requests_wallet ON requests (requester, decided_at);

CREATE TABLE tokens (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  token_hash TEXT NOT NULL UNIQUE,          -- SHA-256, hex
  name TEXT,
  max_allocations INTEGER NOT NULL DEFAULT 1,
  is_admin INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL,
  expires_at TEXT,
  revoked INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE audit_log (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  timestamp TEXT NOT NULL,
  action TEXT NOT NULL,                     -- allocate, update_pubkey, release, refuse, import
  nft_contract TEXT,
  prefix TEXT,
  details TEXT                              -- JSON
) STRICT;

CREATE TABLE state (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL,
  updated_at TEXT NOT NULL
) STRICT;
