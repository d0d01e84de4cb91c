-- Which topic the positions are of; NULL until the broker's is known.
ALTER TABLE topics ADD COLUMN id BLOB;
