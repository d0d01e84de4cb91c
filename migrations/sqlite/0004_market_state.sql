-- The state of the market as it was stated with the last price: pre, regular, post or closed.
ALTER TABLE symbol_states ADD COLUMN market TEXT;
