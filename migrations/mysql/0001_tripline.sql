-- Prices and thresholds are counts of 10^-8; times are milliseconds since 1970 (UTC).
-- Commands write users, sessions, watches, watched_symbols, changes, requests, imports.
-- The evaluator alone writes watch_states, symbol_states, prices, applied_changes, alerts.
-- The notifier writes deliveries; a deletion cancels them.
--
-- Valid on MySQL 8.4 and MariaDB 10.11. A migration can be repeated after it was interrupted,
-- because neither of them undoes a CREATE.

CREATE TABLE IF NOT EXISTS topics (
    topic VARCHAR(64) NOT NULL,
    partitions INT NOT NULL,
    -- Which topic the positions are of: 16 bytes.
    id BINARY(16) NOT NULL,
    PRIMARY KEY (topic)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Where each partition stands, and the epoch of its owner: every commit names both.
CREATE TABLE IF NOT EXISTS partitions (
    topic VARCHAR(64) NOT NULL,
    `partition` INT NOT NULL,
    epoch BIGINT NOT NULL,
    position BIGINT NOT NULL,
    last_seq BIGINT NOT NULL DEFAULT 0,
    published_seq BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, `partition`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS users (
    id BIGINT NOT NULL AUTO_INCREMENT,
    email VARCHAR(254) NOT NULL,
    -- Lower case may be longer.
    email_folded VARCHAR(512) NOT NULL,
    role VARCHAR(16) NOT NULL,
    password_hash VARCHAR(255),
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY users_email (email_folded)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS sessions (
    token BINARY(32) NOT NULL,
    user_id BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT NOT NULL,
    PRIMARY KEY (token),
    KEY sessions_user (user_id, created_ms),
    KEY sessions_expires (expires_ms)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- One row, raised by whatever may void a session or the role that one has.
CREATE TABLE IF NOT EXISTS account_changes (
    id TINYINT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
INSERT INTO account_changes (id, count) VALUES (1, 0) ON DUPLICATE KEY UPDATE id = id;

CREATE TABLE IF NOT EXISTS watches (
    id BIGINT NOT NULL AUTO_INCREMENT,
    user_id BIGINT NOT NULL,
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partition` INT NOT NULL,
    version BIGINT NOT NULL,
    fresh_since BIGINT NOT NULL,
    cooldown_since BIGINT NOT NULL,
    paused TINYINT NOT NULL,
    low BIGINT,
    high BIGINT,
    policy VARCHAR(16) NOT NULL,
    step BIGINT,
    hysteresis BIGINT,
    cooldown_s BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY watches_user (user_id, id),
    KEY watches_partition (`partition`, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- How many watches a symbol has, so that the collector never scans them.
CREATE TABLE IF NOT EXISTS watched_symbols (
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    watches BIGINT NOT NULL,
    active BIGINT NOT NULL,
    PRIMARY KEY (symbol)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS watch_states (
    watch_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    -- NULL, 'above' or 'below'
    told VARCHAR(8),
    bucket BIGINT NOT NULL,
    last_alert_ms BIGINT,
    PRIMARY KEY (watch_id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Changes that no evaluation has applied yet; watch_id is NULL for the reset of a symbol. Ids
-- are not in the order of commits: a change is known by being here, never by its number.
CREATE TABLE IF NOT EXISTS changes (
    id BIGINT NOT NULL AUTO_INCREMENT,
    `partition` INT NOT NULL,
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    watch_id BIGINT,
    PRIMARY KEY (id),
    KEY changes_partition (`partition`, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS applied_changes (
    id BIGINT NOT NULL,
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    watch_id BIGINT,
    version BIGINT,
    after_ms BIGINT,
    applied_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    KEY applied_changes_age (applied_ms)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS symbol_states (
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    `partition` INT NOT NULL,
    last_ms BIGINT,
    last_price BIGINT,
    currency VARCHAR(16),
    prices BIGINT NOT NULL,
    PRIMARY KEY (symbol),
    KEY symbol_states_partition (`partition`, symbol)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- A ring of the newest prices per symbol: slot is the price's number modulo the number kept.
CREATE TABLE IF NOT EXISTS prices (
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    slot BIGINT NOT NULL,
    number BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    price BIGINT NOT NULL,
    PRIMARY KEY (symbol, slot)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS alerts (
    id BIGINT NOT NULL AUTO_INCREMENT,
    `partition` INT NOT NULL,
    seq BIGINT NOT NULL,
    watch_id BIGINT NOT NULL,
    version BIGINT NOT NULL,
    time_ms BIGINT NOT NULL,
    `condition` VARCHAR(8) NOT NULL,
    user_id BIGINT NOT NULL,
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    price BIGINT NOT NULL,
    threshold BIGINT NOT NULL,
    accepted_ms BIGINT NOT NULL,
    made_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY alerts_identity (watch_id, time_ms, version, `condition`),
    UNIQUE KEY alerts_seq (`partition`, seq),
    KEY alerts_user (user_id, id),
    KEY alerts_age (made_ms)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- One delivery an alert (by e-mail), under the alert's id.
CREATE TABLE IF NOT EXISTS deliveries (
    alert_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    watch_id BIGINT NOT NULL,
    -- 'pending', 'claimed', 'delivered', 'dead' or 'cancelled'
    state VARCHAR(16) NOT NULL,
    due_ms BIGINT NOT NULL,
    attempts INT NOT NULL,
    owner VARCHAR(255),
    lease_until_ms BIGINT,
    -- What the mail server said last, or what was deleted: 'user' or 'watch'.
    reason MEDIUMTEXT,
    changed_ms BIGINT NOT NULL,
    PRIMARY KEY (alert_id),
    KEY deliveries_due (state, due_ms, alert_id),
    KEY deliveries_lease (state, lease_until_ms, alert_id),
    KEY deliveries_changed (state, changed_ms, alert_id),
    KEY deliveries_user (user_id, state),
    KEY deliveries_watch (watch_id, state)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS dead_records (
    id BIGINT NOT NULL AUTO_INCREMENT,
    topic VARCHAR(64) NOT NULL,
    `partition` INT NOT NULL,
    `offset` BIGINT NOT NULL,
    reason MEDIUMTEXT NOT NULL,
    `key` LONGBLOB,
    value LONGBLOB NOT NULL,
    set_aside_ms BIGINT NOT NULL,
    PRIMARY KEY (id),
    UNIQUE KEY dead_records_place (topic, `partition`, `offset`),
    KEY dead_records_age (set_aside_ms, id)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Bytes, because text is compared without regard to blanks at its end.
CREATE TABLE IF NOT EXISTS requests (
    caller VARBINARY(1024) NOT NULL,
    id VARBINARY(512) NOT NULL,
    method VARCHAR(255) NOT NULL,
    fingerprint BINARY(32) NOT NULL,
    reply MEDIUMTEXT NOT NULL,
    answered_ms BIGINT NOT NULL,
    PRIMARY KEY (caller, id),
    KEY requests_age (answered_ms)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS imports (
    content BINARY(32) NOT NULL,
    imported_ms BIGINT NOT NULL,
    PRIMARY KEY (content)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
