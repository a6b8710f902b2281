-- The receipts of what was forgotten, and how far a forgetting that is under way has come.

CREATE TABLE forget_receipts (
    receipt_id      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind            text NOT NULL CHECK (kind IN ('reviewer', 'feedback', 'content')),
    salt            text NOT NULL,
    id_sha256       text NOT NULL,
    state           text NOT NULL CHECK (state IN ('deleted', 'withdrawn', 'relearned', 'retrained', 'done')),
    target          jsonb,
    counts          jsonb NOT NULL DEFAULT '{}'::jsonb,
    model_versions  integer[] NOT NULL DEFAULT '{}',
    champion        integer,
    learning_run_id uuid,
    dagster_run_id  text,
    times           jsonb NOT NULL DEFAULT '{}'::jsonb,
    CHECK ((state = 'done') = (target IS NULL))
);
CREATE INDEX idx_forget_receipts_unfinished ON forget_receipts ((times ->> 'deleted')) WHERE state <> 'done';
COMMENT ON TABLE forget_receipts IS 'one row for every reviewer, review or content that was forgotten; it proves that, and names nobody';
COMMENT ON COLUMN forget_receipts.id_sha256 IS 'SHA-256 of salt followed by the id, in hexadecimal: who knows the id can find its receipt';
COMMENT ON COLUMN forget_receipts.state IS 'the last step that is complete: deleted, withdrawn, relearned, retrained, done';
COMMENT ON COLUMN forget_receipts.target IS 'the id and the keys of its rows, which the remaining steps need; NULL from the last step on';
COMMENT ON COLUMN forget_receipts.counts IS '{table: rows deleted}';
COMMENT ON COLUMN forget_receipts.model_versions IS 'versions of the quality predictor whose files were deleted';
COMMENT ON COLUMN forget_receipts.champion IS 'the version that took over; NULL = too little is left to train one';
COMMENT ON COLUMN forget_receipts.times IS '{state: when it was reached}';
