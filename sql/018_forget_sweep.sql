-- A forgetting ends once nothing comes after it any more ("swept"), and says why an attempt did not get on.

ALTER TABLE forget_receipts
    DROP CONSTRAINT forget_receipts_state_check,
    DROP CONSTRAINT forget_receipts_check,
    ADD CONSTRAINT forget_receipts_state_check
        CHECK (state IN ('deleted', 'withdrawn', 'relearned', 'retrained', 'swept', 'done')),
    ADD CONSTRAINT forget_receipts_check CHECK ((state IN ('swept', 'done')) = (target IS NULL)),
    ADD COLUMN failure jsonb;
COMMENT ON COLUMN forget_receipts.state IS 'the last step that is complete: deleted, withdrawn, relearned, retrained, swept, done';
COMMENT ON COLUMN forget_receipts.target IS 'the id and the keys of its rows, which the remaining steps need; NULL from swept on';
COMMENT ON COLUMN forget_receipts.counts IS '{table: rows deleted}; begun_again: how often rows came meanwhile';
COMMENT ON COLUMN forget_receipts.failure IS '{at, reason} of the last attempt, where it did not get to the next step';
