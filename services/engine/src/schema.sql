-- The engine's database (SQLite, STRICT). SQLite is intent: chain and hypervisor are facts it is reconciled with.
-- Times: *_at of the chain are Unix seconds; retry_at, data_retry_at and updated_at are Unix milliseconds.

-- One row for each subscription that the chain has. What is to be done follows from `state`:
--   seen        on chain, not deep enough yet
--   paid        deep enough; a VM is to be made
--   creating    a VM is being made, or was when the process ended
--   created     the VM runs; its token is to be minted
--   minting     the mint is in the outbox
--   minted      the token exists; the VM's user is to be bound to it
--   live        the holder of the token can log in
--   suspending, suspended, resuming
--   ending      the VM is to be destroyed; `reason` says why
--   ended       nothing is left but this row
--   dropped     a reorganization took the purchase; it may come back
CREATE TABLE subscriptions (
  id INTEGER PRIMARY KEY,                   -- on chain
  subscriber TEXT NOT NULL,                 -- lower-case 0x
  plan_id INTEGER NOT NULL,
  purchase_block INTEGER NOT NULL,          -- as the contract counts
  expires_at INTEGER NOT NULL,              -- the chain's
  state TEXT NOT NULL CHECK (state IN ('seen', 'paid', 'creating', 'created', 'minting', 'minted', 'live', 'suspending',
    'suspended', 'resuming', 'ending', 'ended', 'dropped')),
  reason TEXT,                              -- of ending and ended: cancelled, expired, expired-unserved, reorg; of suspended: cancelled
  changed_block INTEGER NOT NULL,           -- head when the chain last changed it
  suspended_at INTEGER,                     -- chain time when it expired here
  data BLOB,                                -- what the buyer wrote; NULL until it is found
  data_attempts INTEGER NOT NULL DEFAULT 0,
  data_retry_at INTEGER NOT NULL DEFAULT 0,
  access TEXT CHECK (access IN ('sealed', 'needs-key')),
  access_problem TEXT,                      -- why the buyer's data gave no key
  hostname TEXT,                            -- what the token says to its holder
  tx_key TEXT,                              -- outbox.intent_key of the mint
  mint_attempts INTEGER NOT NULL DEFAULT 0, -- mints that failed
  token_id INTEGER,                         -- of the mint's receipt
  token_owner TEXT,                         -- lower-case 0x, as last seen on chain
  bound_token INTEGER,                      -- what the guest was told
  vm_expires_at INTEGER,                    -- what the VM database was told
  vm_owner TEXT,
  attempts INTEGER NOT NULL DEFAULT 0,      -- failures of the present step in a row
  retry_at INTEGER NOT NULL DEFAULT 0,      -- not before that; also the place in the queue
  error TEXT,                               -- of the last failure, for people
  error_code TEXT,
  updated_at INTEGER NOT NULL
) STRICT;
-- What waits, by its place in the queue; what something happens to at a time; each without looking at all others.
CREATE INDEX subscriptions_queue ON subscriptions (state, retry_at, id);
CREATE INDEX subscriptions_expiry ON subscriptions (state, expires_at);
CREATE INDEX subscriptions_recent ON subscriptions (purchase_block);
CREATE INDEX subscriptions_no_data ON subscriptions (data_retry_at)
  WHERE data IS NULL AND state IN ('paid', 'creating', 'created');
CREATE INDEX subscriptions_with_token ON subscriptions (id) WHERE token_id IS NOT NULL AND state <> 'ended';
-- The queries of these say the same conditions in the same words, or SQLite does not use them.
CREATE INDEX subscriptions_unsynced ON subscriptions (id)
  WHERE vm_expires_at IS NOT NULL AND state NOT IN ('creating', 'ending', 'ended')
    AND (vm_expires_at <> expires_at OR (token_owner IS NOT NULL AND vm_owner IS NOT token_owner));
CREATE UNIQUE INDEX subscriptions_token ON subscriptions (token_id) WHERE token_id IS NOT NULL;

CREATE TABLE state (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT;
