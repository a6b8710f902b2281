-- Two roles for least privilege, without a login: GRANT feedback_reader TO somebody. Roles belong to the whole server, so they may
-- exist already, and only a user with CREATEROLE can make them; without them everything else works. Whoever makes them later, or
-- adds a table, runs SELECT feedback_grant_roles().

CREATE OR REPLACE FUNCTION feedback_grant_roles() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    -- What is published: no source table as a whole, so no free text and nothing that is not yet learned.
    published CONSTANT text[] := ARRAY[
        'feedback_quality_correlations', 'agent_learning_patterns', 'agent_recommendations', 'agent_learning_state',
        'content_segments', 'content_allocations', 'human_preference_models', 'reviewer_agreement', 'reviewer_components',
        'reviewer_bridges', 'reviewer_severity_months', 'learning_runs', 'quality_models', 'quality_forecasts', 'pattern_effects',
        'queue_draws'];
    sources CONSTANT text[] := ARRAY['agent_performance', 'agent_decisions', 'content_review_workflows', 'review_feedback'];
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
    FOREACH target IN ARRAY sources LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO feedback_writer', target);
        FOR counter IN SELECT d.objid::regclass FROM pg_depend d JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
                       WHERE d.refobjid = target::regclass AND d.deptype IN ('a', 'i') LOOP
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO feedback_writer', counter);
        END LOOP;
    END LOOP;
    -- Which outputs wait for a review, so that a reader sees forecasts and the queue: keys and a time, no text and nobody's name.
    FOR target, key IN
        SELECT keys.target, keys.key FROM (VALUES
            ('agent_performance', 'agent_name'), ('agent_performance', 'execution_id'), ('agent_performance', 'status'),
            ('content_review_workflows', 'id'), ('content_review_workflows', 'workflow_execution_id'),
            ('review_feedback', 'workflow_id'), ('review_feedback', 'reviewed_at')) AS keys (target, key)
        WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(keys.target) AND attname = keys.key AND NOT attisdropped)
    LOOP
        EXECUTE format('GRANT SELECT (%I) ON %I TO feedback_reader', key, target);
    END LOOP;
    IF to_regclass('queue_draws') IS NOT NULL THEN
        GRANT INSERT ON queue_draws TO feedback_writer;
    END IF;
    IF to_regclass('learning_applications') IS NOT NULL THEN
        GRANT SELECT, INSERT ON learning_applications TO feedback_writer;
    END IF;
END $$;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['feedback_reader', 'feedback_writer'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', name);
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN RAISE NOTICE 'role % is not created: that takes CREATEROLE', name;
        END;
    END LOOP;
END $$;

SELECT feedback_grant_roles();
