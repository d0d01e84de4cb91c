-- Why a watched symbol has no price, as the collector last knew.
CREATE TABLE symbol_notes (
    symbol TEXT PRIMARY KEY,
    note TEXT NOT NULL
) WITHOUT ROWID, STRICT;
