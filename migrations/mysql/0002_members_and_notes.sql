-- Who shares the partitions of a topic, and until when each is known to live.
CREATE TABLE IF NOT EXISTS members (
    topic VARCHAR(64) NOT NULL,
    `member` VARCHAR(255) NOT NULL,
    lease_until_ms BIGINT NOT NULL,
    PRIMARY KEY (topic, `member`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The owner of each partition that has one; void once the owner's lease has ended. What keeps a
-- stale owner from committing is the epoch in `partitions`.
CREATE TABLE IF NOT EXISTS owners (
    topic VARCHAR(64) NOT NULL,
    `partition` INT NOT NULL,
    `member` VARCHAR(255) NOT NULL,
    PRIMARY KEY (topic, `partition`),
    KEY owners_member (topic, `member`)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Why a watched symbol has no price, as the collector last knew.
CREATE TABLE IF NOT EXISTS symbol_notes (
    symbol VARCHAR(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    note TEXT NOT NULL,
    PRIMARY KEY (symbol)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
