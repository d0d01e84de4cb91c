-- The span that accepted the alert, as in the header of a record, so that whoever sends the mail goes
-- on with its trace. NULL where nothing was traced.
ALTER TABLE deliveries ADD COLUMN traceparent VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin;
