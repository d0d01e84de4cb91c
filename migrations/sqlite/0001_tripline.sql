-- Prices and thresholds are counts of 10^-8; times are milliseconds since 1970 (UTC).
-- Commands write users, sessions, watches, watched_symbols, changes, requests, imports.
-- The evaluator alone writes watch_states, symbol_states, prices, applied_changes, alerts.
-- The notifier writes deliveries; a deletion cancels them.

CREATE TABLE topics (
    topic TEXT PRIMARY KEY,
    partitions INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

-- Where each partition stands, and the epoch of its owner: every commit names both.
CREATE TABLE partitions (
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    position INTEGER NOT NULL,
    last_seq INTEGER NOT NULL DEFAULT 0,
    published_seq INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITHOUT ROWID, STRICT;

CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL,
    email_folded TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    password_hash TEXT,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE sessions (
    token BLOB PRIMARY KEY,
    user_id INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    expires_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX sessions_user ON sessions (user_id, created_ms);
CREATE INDEX sessions_expires ON sessions (expires_ms);

CREATE TABLE watches (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    partition INTEGER NOT NULL,
    version INTEGER NOT NULL,
    fresh_since INTEGER NOT NULL,
    cooldown_since INTEGER NOT NULL,
    paused INTEGER NOT NULL,
    low INTEGER,
    high INTEGER,
    policy TEXT NOT NULL,
    step INTEGER,
    hysteresis INTEGER,
    cooldown_s INTEGER NOT NULL
) STRICT;
CREATE INDEX watches_user ON watches (user_id, id);
CREATE INDEX watches_partition ON watches (partition, id);

-- How many watches a symbol has, so that the collector never scans them.
CREATE TABLE watched_symbols (
    symbol TEXT PRIMARY KEY,
    watches INTEGER NOT NULL,
    active INTEGER NOT NULL
) WITHOUT ROWID, STRICT;

CREATE TABLE watch_states (
    watch_id INTEGER PRIMARY KEY,
    version INTEGER NOT NULL,
    -- NULL, 'above' or 'below'
    told TEXT,
    bucket INTEGER NOT NULL,
    last_alert_ms INTEGER
) STRICT;

-- Changes that no evaluation has applied yet; watch_id is NULL for the reset of a symbol.
CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    watch_id INTEGER
) STRICT;
CREATE INDEX changes_partition ON changes (partition, id);

CREATE TABLE applied_changes (
    id INTEGER PRIMARY KEY,
    symbol TEXT NOT NULL,
    watch_id INTEGER,
    version INTEGER,
    after_ms INTEGER,
    applied_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX applied_changes_age ON applied_changes (applied_ms);

CREATE TABLE symbol_states (
    symbol TEXT PRIMARY KEY,
    partition INTEGER NOT NULL,
    last_ms INTEGER,
    last_price INTEGER,
    currency TEXT,
    prices INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
CREATE INDEX symbol_states_partition ON symbol_states (partition, symbol);

-- A ring of the newest prices per symbol: slot is the price's number modulo the number kept.
CREATE TABLE prices (
    symbol TEXT NOT NULL,
    slot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    price INTEGER NOT NULL,
    PRIMARY KEY (symbol, slot)
) WITHOUT ROWID, STRICT;

CREATE TABLE alerts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    partition INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    watch_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    time_ms INTEGER NOT NULL,
    condition TEXT NOT NULL,
    user_id INTEGER NOT NULL,
    symbol TEXT NOT NULL,
    price INTEGER NOT NULL,
    threshold INTEGER NOT NULL,
    accepted_ms INTEGER NOT NULL,
    made_ms INTEGER NOT NULL,
    UNIQUE (watch_id, time_ms, version, condition),
    UNIQUE (partition, seq)
) STRICT;
CREATE INDEX alerts_user ON alerts (user_id, id);
CREATE INDEX alerts_age ON alerts (made_ms);

-- One delivery an alert (by e-mail), under the alert's id.
CREATE TABLE deliveries (
    alert_id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL,
    watch_id INTEGER NOT NULL,
    -- 'pending', 'claimed', 'delivered', 'dead' or 'cancelled'
    state TEXT NOT NULL,
    due_ms INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    owner TEXT,
    lease_until_ms INTEGER,
    -- What the mail server said last, or what was deleted: 'user' or 'watch'.
    reason TEXT,
    changed_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX deliveries_due ON deliveries (due_ms) WHERE state = 'pending';
CREATE INDEX deliveries_lease ON deliveries (lease_until_ms) WHERE state = 'claimed';
CREATE INDEX deliveries_open_user ON deliveries (user_id) WHERE state IN ('pending', 'claimed');
CREATE INDEX deliveries_open_watch ON deliveries (watch_id) WHERE state IN ('pending', 'claimed');
CREATE INDEX deliveries_dead ON deliveries (changed_ms, alert_id) WHERE state = 'dead';

CREATE TABLE dead_records (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    reason TEXT NOT NULL,
    key BLOB,
    value BLOB NOT NULL,
    set_aside_ms INTEGER NOT NULL,
    UNIQUE (topic, partition, offset)
) STRICT;
CREATE INDEX dead_records_age ON dead_records (set_aside_ms, id);

CREATE TABLE requests (
    caller TEXT NOT NULL,
    id TEXT NOT NULL,
    method TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    reply TEXT NOT NULL,
    answered_ms INTEGER NOT NULL,
    PRIMARY KEY (caller, id)
) WITHOUT ROWID, STRICT;
CREATE INDEX requests_age ON requests (answered_ms);

CREATE TABLE imports (
    content BLOB PRIMARY KEY,
    imported_ms INTEGER NOT NULL
) WITHOUT ROWID, STRICT;
