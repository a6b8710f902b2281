-- What is learned. The three tables keep the names and columns agents already read, made honest: a value that can be
-- undefined may be NULL, counts may be 0, no default pretends that something was measured.

CREATE TABLE IF NOT EXISTS agent_learning_patterns (
    id                        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_name                varchar(100) NOT NULL,
    agent_type                varchar(100),
    pattern_type              varchar(50) NOT NULL,
    pattern_description       text,
    input_features            jsonb NOT NULL,
    output_characteristics    jsonb NOT NULL,
    human_feedback_signals    jsonb NOT NULL,
    confidence_score          double precision CHECK (confidence_score >= 0 AND confidence_score <= 1),
    sample_size               integer NOT NULL CHECK (sample_size >= 0),
    accuracy_rate             double precision CHECK (accuracy_rate >= 0 AND accuracy_rate <= 1),
    times_applied             integer NOT NULL DEFAULT 0,
    success_rate              double precision,
    last_applied              timestamptz,
    learned_from_feedback_ids uuid[],
    learning_algorithm        varchar(50),
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agent_name, pattern_type, pattern_description)
);

CREATE TABLE IF NOT EXISTS human_preference_models (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    reviewer_id         varchar(255) NOT NULL,
    content_preferences jsonb DEFAULT '{}'::jsonb,
    style_preferences   jsonb DEFAULT '{}'::jsonb,
    quality_standards   jsonb DEFAULT '{}'::jsonb,
    model_version       integer NOT NULL DEFAULT 1,
    training_samples    integer NOT NULL DEFAULT 0,
    last_updated        timestamptz NOT NULL DEFAULT now(),
    model_accuracy      double precision,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (reviewer_id, model_version)
);

CREATE TABLE IF NOT EXISTS feedback_quality_correlations (
    id                       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_name               varchar(100) NOT NULL,
    agent_output_feature     varchar(255) NOT NULL,
    human_feedback_aspect    varchar(255) NOT NULL,
    correlation_strength     double precision CHECK (correlation_strength >= -1 AND correlation_strength <= 1),
    sample_size              integer NOT NULL CHECK (sample_size >= 0),
    statistical_significance double precision,
    feature_range            jsonb,
    feedback_impact          jsonb,
    last_calculated          timestamptz NOT NULL DEFAULT now(),
    UNIQUE (agent_name, agent_output_feature, human_feedback_aspect)
);

-- An installation that already has these tables keeps its rows; the stricter original constraints are relaxed.
ALTER TABLE agent_learning_patterns
    ALTER COLUMN agent_type DROP NOT NULL,
    ALTER COLUMN confidence_score DROP NOT NULL,
    ALTER COLUMN success_rate DROP DEFAULT,
    ALTER COLUMN learning_algorithm DROP DEFAULT,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ADD COLUMN IF NOT EXISTS sentence text,
    ADD COLUMN IF NOT EXISTS published boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS reason text,
    ADD COLUMN IF NOT EXISTS learning_run_id uuid,
    ADD COLUMN IF NOT EXISTS superseded_by_run uuid,
    ADD COLUMN IF NOT EXISTS superseded_reason text;

ALTER TABLE human_preference_models
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ADD COLUMN IF NOT EXISTS learning_run_id uuid,
    ADD COLUMN IF NOT EXISTS published boolean NOT NULL DEFAULT true,
    ADD COLUMN IF NOT EXISTS reason text;

ALTER TABLE feedback_quality_correlations
    ALTER COLUMN correlation_strength DROP NOT NULL,
    ALTER COLUMN id SET DEFAULT gen_random_uuid(),
    ADD COLUMN IF NOT EXISTS r_pearson double precision,
    ADD COLUMN IF NOT EXISTS r_shrunk double precision,
    ADD COLUMN IF NOT EXISTS r_within double precision,
    ADD COLUMN IF NOT EXISTS confounded_with_agent boolean,
    ADD COLUMN IF NOT EXISTS ci_low double precision,
    ADD COLUMN IF NOT EXISTS ci_high double precision,
    ADD COLUMN IF NOT EXISTS q_value double precision,
    ADD COLUMN IF NOT EXISTS confidence double precision,
    ADD COLUMN IF NOT EXISTS n_contents integer,
    ADD COLUMN IF NOT EXISTS n_reviewers integer,
    ADD COLUMN IF NOT EXISTS scope text,
    ADD COLUMN IF NOT EXISTS method text,
    ADD COLUMN IF NOT EXISTS published boolean NOT NULL DEFAULT false,
    ADD COLUMN IF NOT EXISTS reason text,
    ADD COLUMN IF NOT EXISTS sentence text,
    ADD COLUMN IF NOT EXISTS learning_run_id uuid;

-- The original tables count from 1; a NULL finding may rest on 0 outputs.
DO $$
DECLARE stale record;
BEGIN
    FOR stale IN
        SELECT conrelid::regclass AS owner, conname FROM pg_constraint
        WHERE contype = 'c' AND pg_get_constraintdef(oid) LIKE '%sample_size > 0%'
          AND conrelid IN ('agent_learning_patterns'::regclass, 'feedback_quality_correlations'::regclass)
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', stale.owner, stale.conname);
        EXECUTE format('ALTER TABLE %s ADD CONSTRAINT %I CHECK (sample_size >= 0) NOT VALID', stale.owner, stale.conname);
    END LOOP;
END $$;

CREATE INDEX IF NOT EXISTS idx_agent_learning_patterns_agent ON agent_learning_patterns (agent_name, agent_type);
CREATE INDEX IF NOT EXISTS idx_human_preference_models_reviewer ON human_preference_models (reviewer_id, model_version);
CREATE INDEX IF NOT EXISTS idx_feedback_correlations_agent ON feedback_quality_correlations (agent_name, correlation_strength DESC);
