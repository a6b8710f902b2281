-- Statement triggers append what changed to feedback_changes in the writer's own transaction, so late commits, back-dated,
-- edited and deleted rows are exact. Days are UTC days of reviewed_at. Rows of the execution side name their key only: which
-- days they touch is decided when the change is read, since the review may be committed by another session at the same time.
-- One table a transaction: a writer that uses several of them in another order cannot deadlock with this file.

-- NULL outside the years that every reader's calendar holds ('infinity' included).
CREATE OR REPLACE FUNCTION feedback_utc_day(moment timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN moment >= '0001-01-02 00:00:00+00' AND moment < '9999-12-31 00:00:00+00'
                THEN (moment AT TIME ZONE 'UTC')::date END
$$;

-- Rows are compared as text: whatever the types of the table's columns, also json, which has no equality.
CREATE OR REPLACE FUNCTION feedback_reviews_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO feedback_changes (source, operation, row_id, new_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, n.id::text, feedback_utc_day(n.reviewed_at), coalesce(n.is_training_data, false)
        FROM new_rows n;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO feedback_changes (source, operation, row_id, old_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, o.id::text, feedback_utc_day(o.reviewed_at), coalesce(o.is_training_data, false)
        FROM old_rows o;
    ELSE
        INSERT INTO feedback_changes (source, operation, row_id, old_day, new_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, coalesce(n.id, o.id)::text, feedback_utc_day(o.reviewed_at), feedback_utc_day(n.reviewed_at),
               coalesce(o.is_training_data, false) OR coalesce(n.is_training_data, false)
        FROM old_rows o FULL JOIN new_rows n ON o.id = n.id
        WHERE o::text IS DISTINCT FROM n::text;
    END IF;
    RETURN NULL;
END $$;

-- TG_ARGV[0]: the column that names what the row belongs to. A row that names nothing belongs to no review; its change is
-- not recorded (a NULL row_id means the whole table).
CREATE OR REPLACE FUNCTION feedback_executions_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO feedback_changes (source, operation, row_id) SELECT DISTINCT %L, %L, key FROM ('
        || CASE TG_OP
               WHEN 'INSERT' THEN 'SELECT n.%3$I::text FROM new_rows n'
               WHEN 'DELETE' THEN 'SELECT o.%3$I::text FROM old_rows o'
               ELSE 'SELECT side.key FROM old_rows o FULL JOIN new_rows n ON o.id = n.id '
                    'CROSS JOIN LATERAL (VALUES (o.%3$I::text), (n.%3$I::text)) AS side (key) '
                    'WHERE o::text IS DISTINCT FROM n::text'
           END
        || ') AS touched (key) WHERE key IS NOT NULL',
        TG_TABLE_NAME, TG_OP, TG_ARGV[0]);
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION feedback_table_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO feedback_changes (source, operation) VALUES (TG_TABLE_NAME, TG_OP);
    RETURN NULL;
END $$;

-- The writer may have any search_path, time zone and rights: none of them may make its own statement fail or move a day.
DO $$
DECLARE
    schemas text := (SELECT string_agg(quote_ident(name), ', ') FROM unnest(current_schemas(false)) AS name);
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['feedback_reviews_changed', 'feedback_executions_changed', 'feedback_table_truncated'] LOOP
        EXECUTE format('ALTER FUNCTION %I() SET search_path = %s, pg_temp', target, schemas);
        EXECUTE format('ALTER FUNCTION %I() SET TimeZone = ''UTC''', target);
    END LOOP;
END $$;

CREATE OR REPLACE FUNCTION feedback_track(target regclass, handler text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    op text;
BEGIN
    FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
        EXECUTE format(
            'CREATE OR REPLACE TRIGGER feedback_changes_%s AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
            lower(op), op, target,
            CASE op WHEN 'INSERT' THEN 'NEW TABLE AS new_rows' WHEN 'DELETE' THEN 'OLD TABLE AS old_rows'
                    ELSE 'OLD TABLE AS old_rows NEW TABLE AS new_rows' END,
            handler);
    END LOOP;
    EXECUTE format('CREATE OR REPLACE TRIGGER feedback_changes_truncate AFTER TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION feedback_table_truncated()', target);
END $$;

SELECT feedback_track('review_feedback', 'feedback_reviews_changed()');
SELECT feedback_track('agent_performance', 'feedback_executions_changed(''execution_id'')');
SELECT feedback_track('agent_decisions', 'feedback_executions_changed(''performance_id'')');
SELECT feedback_track('content_review_workflows', 'feedback_executions_changed(''id'')');

DROP FUNCTION feedback_track(regclass, text);
