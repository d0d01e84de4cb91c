-- Which topic it is: a log that was lost and made anew must not be taken for the one before.
CREATE TABLE topic (
    name TEXT PRIMARY KEY,
    id BLOB NOT NULL
) WITHOUT ROWID, STRICT;

INSERT INTO topic (name, id)
SELECT topic, randomblob(16) FROM (SELECT DISTINCT topic FROM partition);

PRAGMA user_version = 2;
