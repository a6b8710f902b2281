-- The four tables an agent platform writes. A type or table that already exists is used as it is, with its rows and comments.
-- No foreign keys: the platforms that own these tables write them in any order; `load` and the extraction check the keys.

DO $$ BEGIN
    IF to_regtype('review_decision') IS NULL THEN
        CREATE TYPE review_decision AS ENUM ('approve', 'reject', 'request_changes');
    END IF;
    IF to_regtype('review_stage') IS NULL THEN
        CREATE DOMAIN review_stage AS text CHECK (VALUE ~ '^[a-z][a-z0-9_]*$');
    END IF;

    IF to_regclass('agent_performance') IS NULL THEN
        CREATE TABLE agent_performance (
            id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            agent_name    varchar(100) NOT NULL CHECK (agent_name <> '*'),
            agent_type    varchar(100),
            execution_id  varchar(255) NOT NULL,
            start_time    timestamptz NOT NULL DEFAULT now(),
            end_time      timestamptz,
            duration      double precision,
            status        varchar(50) NOT NULL DEFAULT 'success',
            input_tokens  bigint,
            output_tokens bigint,
            cost          double precision,
            metadata      jsonb NOT NULL DEFAULT '{}'::jsonb
        );
        COMMENT ON COLUMN agent_performance.duration IS 'milliseconds';
        COMMENT ON COLUMN agent_performance.metadata IS 'any number under "features" becomes a feature named by its key';
    END IF;

    IF to_regclass('agent_decisions') IS NULL THEN
        CREATE TABLE agent_decisions (
            id                      uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            performance_id          uuid NOT NULL,
            decision_point          varchar(255),
            input_data              jsonb,
            output_data             jsonb,
            reasoning               text,
            confidence_score        double precision,
            alternatives_considered jsonb,
            created_at              timestamptz DEFAULT now()
        );
    END IF;

    IF to_regclass('content_review_workflows') IS NULL THEN
        CREATE TABLE content_review_workflows (
            id                    uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            content_id            uuid,
            workflow_execution_id varchar(255) NOT NULL,
            created_at            timestamptz NOT NULL DEFAULT now()
        );
    END IF;

    IF to_regclass('review_feedback') IS NULL THEN
        CREATE TABLE review_feedback (
            id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            workflow_id uuid,
            content_id  uuid,
            reviewer_id varchar(255),
            stage       review_stage,
            decision    review_decision,
            comments    text,
            reviewed_at timestamptz
        );
        COMMENT ON COLUMN review_feedback.decision IS 'NULL = comment only';
        COMMENT ON COLUMN review_feedback.reviewed_at IS 'NULL = the review is not finished';
    END IF;
END $$;
