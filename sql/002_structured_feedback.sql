-- The enhancement of review_feedback: structured feedback for learning. Every default is a constant, so no row is rewritten.
ALTER TABLE review_feedback
    ADD COLUMN IF NOT EXISTS feedback_categories     jsonb DEFAULT '{}'::jsonb,
    ADD COLUMN IF NOT EXISTS quality_scores          jsonb DEFAULT '{}'::jsonb,
    ADD COLUMN IF NOT EXISTS improvement_suggestions text[],
    ADD COLUMN IF NOT EXISTS feedback_confidence     double precision,
    ADD COLUMN IF NOT EXISTS is_training_data        boolean DEFAULT true;

DO $$ BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint
        WHERE conrelid = 'review_feedback'::regclass AND contype = 'c'
          AND pg_get_constraintdef(oid) LIKE '%feedback_confidence%'
    ) THEN
        -- NOT VALID: existing rows are not scanned under the lock; the new column is NULL in all of them.
        ALTER TABLE review_feedback ADD CONSTRAINT review_feedback_feedback_confidence_check
            CHECK (feedback_confidence >= 0 AND feedback_confidence <= 1) NOT VALID;
    END IF;
END $$;
