-- Roles that are made after the migrations get all that they need from one function: 019 had left out the salt of the holdout.

CREATE OR REPLACE FUNCTION feedback_grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- What is published: no free text, and nothing that is not yet learned.
    published CONSTANT text[] := ARRAY[
        'feedback_quality_correlations', 'agent_learning_patterns', 'agent_recommendations', 'agent_learning_state',
        'content_segments', 'content_allocations', 'human_preference_models', 'reviewer_agreement', 'reviewer_components',
        'reviewer_bridges', 'reviewer_severity_months', 'learning_runs', 'quality_models', 'quality_forecasts', 'pattern_effects',
        'queue_draws'];
    sources CONSTANT text[] := ARRAY['agent_performance', 'agent_decisions', 'content_review_workflows', 'review_feedback'];
    who text;
    target text;
    key text;
    counter regclass;
BEGIN
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('feedback_reader', 'feedback_writer')) < 2 THEN
        RAISE NOTICE 'the roles feedback_reader and feedback_writer do not exist';
        RETURN;
    END IF;
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO feedback_reader, feedback_writer', current_schema());
    FOREACH target IN ARRAY published LOOP
        IF to_regclass(target) IS NOT NULL THEN
            EXECUTE format('GRANT SELECT ON %I TO feedback_reader, feedback_writer', target);
        END IF;
    END LOOP;
    -- Executions and reviews can be added, and neither changed nor read again.
    FOREACH target IN ARRAY sources LOOP
        EXECUTE format('REVOKE ALL ON %I FROM feedback_reader, feedback_writer', target);
        EXECUTE format('GRANT INSERT ON %I TO feedback_writer', target);
        FOR counter IN SELECT d.objid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
                       WHERE d.refobjid = target::regclass AND d.deptype IN ('a', 'i') LOOP
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO feedback_writer', counter);
        END LOOP;
    END LOOP;
    -- Readers: which outputs wait for a review, for forecasts and the queue. Writers: which execution or workflow a review is of.
    FOR who, target, key IN
        SELECT keys.who, keys.target, keys.key FROM (VALUES
            ('feedback_reader', 'agent_performance', 'agent_name'), ('feedback_reader', 'agent_performance', 'execution_id'),
            ('feedback_reader', 'agent_performance', 'status'), ('feedback_reader', 'content_review_workflows', 'id'),
            ('feedback_reader', 'content_review_workflows', 'workflow_execution_id'),
            ('feedback_reader', 'review_feedback', 'workflow_id'), ('feedback_reader', 'review_feedback', 'reviewed_at'),
            ('feedback_writer', 'agent_performance', 'execution_id'), ('feedback_writer', 'content_review_workflows', 'id'),
            ('feedback_writer', 'content_review_workflows', 'workflow_execution_id'),
            ('feedback_writer', 'content_review_workflows', 'content_id'),
            ('feedback_writer', 'content_review_workflows', 'created_at')) AS keys (who, target, key)
        WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(keys.target) AND attname = keys.key AND NOT attisdropped)
    LOOP
        EXECUTE format('GRANT SELECT (%I) ON %I TO %I', key, target, who);
    END LOOP;
    IF to_regclass('queue_draws') IS NOT NULL THEN
        GRANT INSERT ON queue_draws TO feedback_writer;
    END IF;
    IF to_regclass('learning_applications') IS NOT NULL THEN
        REVOKE ALL ON learning_applications FROM feedback_writer;
        GRANT INSERT ON learning_applications TO feedback_writer;
    END IF;
    IF to_regclass('intake_receipts') IS NOT NULL THEN
        REVOKE ALL ON intake_receipts FROM feedback_writer;
        GRANT SELECT, INSERT ON intake_receipts TO feedback_writer;
    END IF;
    IF to_regclass('installation') IS NOT NULL THEN
        -- It salts who is held out: an agent reads it with its recommendations.
        GRANT SELECT (id) ON installation TO feedback_reader, feedback_writer;
    END IF;
END $$;

SELECT feedback_grant_roles();

-- What it was before 019, with rights that are not given any more.
DROP FUNCTION feedback_grant_tables();
