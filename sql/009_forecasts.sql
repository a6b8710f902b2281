-- What the quality predictor publishes: its models, and what they expect of outputs before anyone reads them.

CREATE TABLE quality_models (
    model_version   integer PRIMARY KEY CHECK (model_version > 0),
    candidate       text NOT NULL,
    mlflow_run_id   text,
    learning_run_id uuid,
    trained_at      timestamptz NOT NULL,
    window_first    date,
    window_last     date,
    n_reviews       integer NOT NULL CHECK (n_reviews >= 0),
    n_contents      integer NOT NULL CHECK (n_contents >= 0),
    champion_since  timestamptz,
    champion_until  timestamptz,
    metrics         jsonb NOT NULL DEFAULT '{}'::jsonb,
    tags            jsonb NOT NULL DEFAULT '{}'::jsonb,
    reason          text,
    CHECK (champion_until IS NULL OR champion_since IS NOT NULL),
    CHECK (champion_since <= champion_until),
    CHECK (window_first <= window_last)
);
CREATE UNIQUE INDEX idx_quality_models_champion ON quality_models ((true)) WHERE champion_since IS NOT NULL AND champion_until IS NULL;
COMMENT ON TABLE quality_models IS 'every registered version of the quality predictor; the champion is the one since when and not until';
COMMENT ON COLUMN quality_models.learning_run_id IS 'the learning run whose reviews it was trained on; published before or after it, or never';
COMMENT ON COLUMN quality_models.metrics IS 'forward in time, never on the rows it was trained on';
COMMENT ON COLUMN quality_models.reason IS 'why it became champion, or did not';

CREATE TABLE quality_forecasts (
    agent_name      varchar(100) NOT NULL,
    execution_id    text NOT NULL,
    reviewer_id     varchar(255) NOT NULL DEFAULT '',
    model_version   integer NOT NULL REFERENCES quality_models,
    score           double precision CHECK (score <> 'NaN'),
    low             double precision,
    high            double precision,
    p_approve       double precision CHECK (p_approve >= 0 AND p_approve <= 1),
    abstain         boolean NOT NULL DEFAULT false,
    reason          text,
    learning_run_id uuid,
    made_at         timestamptz NOT NULL,
    PRIMARY KEY (agent_name, execution_id, reviewer_id, model_version),
    CHECK ((low IS NULL) = (high IS NULL)),
    CHECK (low <= high AND high <> 'NaN'),
    CHECK (reason IS NOT NULL OR (score IS NOT NULL AND NOT abstain))
);
-- The forecasts of a model; those of the executions that have been reviewed since.
CREATE INDEX idx_quality_forecasts_model ON quality_forecasts (model_version, agent_name);
CREATE INDEX idx_quality_forecasts_execution ON quality_forecasts (execution_id, agent_name, reviewer_id, made_at);
COMMENT ON TABLE quality_forecasts IS 'append-only: what was expected stays as it was, so that it can be held against the review';
COMMENT ON COLUMN quality_forecasts.reviewer_id IS 'who would review it; empty = the average reviewer';
COMMENT ON COLUMN quality_forecasts.abstain IS 'the numbers are not to be relied on, for the reason given';
