-- What starts a learning pass by itself: changes that say whose reviews they touch, and the book of why a pass was started or not.

ALTER TABLE feedback_changes ADD COLUMN IF NOT EXISTS workflows text[];
COMMENT ON COLUMN feedback_changes.workflows IS
    'review_feedback only: the workflows the review belongs to or belonged to; a deleted review names them nowhere else';
COMMENT ON COLUMN feedback_changes.operation IS
    'INSERT, UPDATE, DELETE, TRUNCATE by triggers; CHECK: the daily check found that a day differs from the feature store; '
    'EXISTING: rows that were there before the triggers';

UPDATE feedback_changes c SET workflows = ARRAY[r.workflow_id::text]
FROM review_feedback r
WHERE c.source = 'review_feedback' AND c.workflows IS NULL AND r.id::text = c.row_id AND r.workflow_id IS NOT NULL;

-- As before, and with the workflows: copied from the row, so a writer pays for no look-up.
CREATE OR REPLACE FUNCTION feedback_reviews_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO feedback_changes (source, operation, row_id, new_day, trainable, workflows)
        SELECT TG_TABLE_NAME, TG_OP, n.id::text, feedback_utc_day(n.reviewed_at), coalesce(n.is_training_data, false),
               array_remove(ARRAY[n.workflow_id::text], NULL)
        FROM new_rows n;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO feedback_changes (source, operation, row_id, old_day, trainable, workflows)
        SELECT TG_TABLE_NAME, TG_OP, o.id::text, feedback_utc_day(o.reviewed_at), coalesce(o.is_training_data, false),
               array_remove(ARRAY[o.workflow_id::text], NULL)
        FROM old_rows o;
    ELSE
        INSERT INTO feedback_changes (source, operation, row_id, old_day, new_day, trainable, workflows)
        SELECT TG_TABLE_NAME, TG_OP, coalesce(n.id, o.id)::text, feedback_utc_day(o.reviewed_at), feedback_utc_day(n.reviewed_at),
               coalesce(o.is_training_data, false) OR coalesce(n.is_training_data, false),
               array_remove(ARRAY[n.workflow_id::text, nullif(o.workflow_id::text, n.workflow_id::text)], NULL)
        FROM old_rows o FULL JOIN new_rows n ON o.id = n.id
        WHERE o::text IS DISTINCT FROM n::text;
    END IF;
    RETURN NULL;
END $$;

-- A replaced function has lost its settings: the writer may have any search_path and time zone.
DO $$
DECLARE
    schemas text := (SELECT string_agg(quote_ident(name), ', ') FROM unnest(current_schemas(false)) AS name);
BEGIN
    EXECUTE format('ALTER FUNCTION feedback_reviews_changed() SET search_path = %s, pg_temp', schemas);
    ALTER FUNCTION feedback_reviews_changed() SET TimeZone = 'UTC';
END $$;

-- Reviews that were there before anything was tracked are new to this pipeline.
INSERT INTO feedback_changes (source, operation)
SELECT 'review_feedback', 'EXISTING'
WHERE EXISTS (SELECT FROM review_feedback) AND NOT EXISTS (SELECT FROM learning_runs) AND NOT EXISTS (SELECT FROM feedback_changes);

CREATE TABLE trigger_decisions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind       text NOT NULL CHECK (kind IN ('fired', 'retry', 'idle', 'waiting', 'settling', 'pausing', 'in_flight', 'gave_up',
                                             'failed', 'retrain', 'safety_net')),
    reason     text NOT NULL,
    batch_id   text,
    run_id     text,
    agents     jsonb NOT NULL DEFAULT '{}'::jsonb
);
COMMENT ON TABLE trigger_decisions IS
    'why a learning pass was started by itself, or not: a row for each start, and for each change of the reason not to start';
COMMENT ON COLUMN trigger_decisions.batch_id IS 'of the pending changes of reviews: first id, last id, number';
COMMENT ON COLUMN trigger_decisions.run_id IS 'the Dagster run';
COMMENT ON COLUMN trigger_decisions.agents IS '{agent: pending reviews}';
CREATE INDEX idx_trigger_decisions_decided ON trigger_decisions (decided_at DESC);
CREATE UNIQUE INDEX idx_trigger_decisions_failed ON trigger_decisions (run_id) WHERE kind = 'failed';
