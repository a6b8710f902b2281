-- Statement triggers append what changed to feedback_changes in the writer's own transaction, so late commits, back-dated,
-- edited and deleted rows are exact. Days are UTC days of reviewed_at. Rows of the execution side name their key only: which
-- days they touch is decided when the change is read, since the review may be committed by another session at the same time.

CREATE FUNCTION feedback_utc_day(moment timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT (moment AT TIME ZONE 'UTC')::date $$;

CREATE FUNCTION feedback_reviews_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        INSERT INTO feedback_changes (source, operation, row_id, new_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, id::text, feedback_utc_day(reviewed_at), coalesce(is_training_data, false) FROM new_rows;
    ELSIF TG_OP = 'DELETE' THEN
        INSERT INTO feedback_changes (source, operation, row_id, old_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, id::text, feedback_utc_day(reviewed_at), coalesce(is_training_data, false) FROM old_rows;
    ELSE
        INSERT INTO feedback_changes (source, operation, row_id, old_day, new_day, trainable)
        SELECT TG_TABLE_NAME, TG_OP, coalesce(n.id, o.id)::text, feedback_utc_day(o.reviewed_at), feedback_utc_day(n.reviewed_at),
               coalesce(o.is_training_data, false) OR coalesce(n.is_training_data, false)
        FROM old_rows o FULL JOIN new_rows n USING (id)
        WHERE o IS DISTINCT FROM n;
    END IF;
    RETURN NULL;
END $$;

-- TG_ARGV[0]: the column that names what the row belongs to.
CREATE FUNCTION feedback_executions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP IN ('INSERT', 'UPDATE') THEN
        EXECUTE format('INSERT INTO feedback_changes (source, operation, row_id) SELECT DISTINCT %L, %L, %I::text FROM new_rows',
                       TG_TABLE_NAME, TG_OP, TG_ARGV[0]);
    END IF;
    IF TG_OP IN ('DELETE', 'UPDATE') THEN
        EXECUTE format('INSERT INTO feedback_changes (source, operation, row_id) SELECT DISTINCT %L, %L, %I::text FROM old_rows%s',
                       TG_TABLE_NAME, TG_OP, TG_ARGV[0],
                       CASE WHEN TG_OP = 'UPDATE'
                            THEN format(' EXCEPT SELECT %L, %L, %I::text FROM new_rows', TG_TABLE_NAME, TG_OP, TG_ARGV[0]) ELSE '' END);
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION feedback_table_truncated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO feedback_changes (source, operation) VALUES (TG_TABLE_NAME, TG_OP);
    RETURN NULL;
END $$;

DO $$
DECLARE
    target text[];
    op text;
    body text;
BEGIN
    FOREACH target SLICE 1 IN ARRAY ARRAY[
        ['review_feedback', 'feedback_reviews_changed()'],
        ['agent_performance', 'feedback_executions_changed(''execution_id'')'],
        ['agent_decisions', 'feedback_executions_changed(''performance_id'')'],
        ['content_review_workflows', 'feedback_executions_changed(''id'')']]
    LOOP
        FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
            body := CASE op WHEN 'INSERT' THEN 'NEW TABLE AS new_rows' WHEN 'DELETE' THEN 'OLD TABLE AS old_rows'
                            ELSE 'OLD TABLE AS old_rows NEW TABLE AS new_rows' END;
            EXECUTE format('CREATE TRIGGER feedback_changes_%s AFTER %s ON %I REFERENCING %s FOR EACH STATEMENT EXECUTE FUNCTION %s',
                           lower(op), op, target[1], body, target[2]);
        END LOOP;
        EXECUTE format('CREATE TRIGGER feedback_changes_truncate AFTER TRUNCATE ON %I FOR EACH STATEMENT EXECUTE FUNCTION feedback_table_truncated()',
                       target[1]);
    END LOOP;
END $$;
