-- The embedded log: one row per appended batch, written by one task.

-- A topic is the set of its partitions. `end` is written when retention drops batches, so that
-- offsets do not start again after all of them were dropped.
CREATE TABLE partition (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    number INTEGER NOT NULL,
    end INTEGER NOT NULL DEFAULT 0,
    UNIQUE (topic, number)
) STRICT;

-- `bytes_before` counts the bytes of the partition's earlier batches, dropped ones included: the
-- bytes in use are the difference of two rows, without a scan.
CREATE TABLE batch (
    partition INTEGER NOT NULL,
    base INTEGER NOT NULL,
    records INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    bytes_before INTEGER NOT NULL,
    appended_ms INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (partition, base)
) STRICT;

-- What each group has committed; written late, with the sweeps.
CREATE TABLE position (
    partition INTEGER NOT NULL,
    consumer TEXT NOT NULL,
    next INTEGER NOT NULL,
    PRIMARY KEY (partition, consumer)
) WITHOUT ROWID, STRICT;

PRAGMA application_id = 1416785007;
PRAGMA user_version = 1;
