-- The pipeline's own books.

CREATE TABLE installation (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    lookback_days integer DEFAULT 30 CHECK (lookback_days > 0),
    created_at    timestamptz NOT NULL DEFAULT now(),
    only_row      boolean NOT NULL DEFAULT true UNIQUE CHECK (only_row)
);
COMMENT ON TABLE installation IS 'one row; the feature store of this database lies under its id';
COMMENT ON COLUMN installation.lookback_days IS 'the learning window in days; NULL = everything';
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE learning_runs (
    learning_run_id uuid PRIMARY KEY,
    dagster_run_id  text,
    started_at      timestamptz NOT NULL,
    published_at    timestamptz NOT NULL DEFAULT now(),
    window_start    date,
    window_end      date,
    lookback_days   integer,
    n_reviews       integer NOT NULL,
    n_contents      integer NOT NULL,
    n_agents        integer NOT NULL,
    n_reviewers     integer NOT NULL,
    code_version    text NOT NULL,
    summary         jsonb NOT NULL DEFAULT '{}'::jsonb
);
CREATE INDEX idx_learning_runs_published ON learning_runs (published_at DESC);

CREATE TABLE agent_learning_state (
    agent_name      varchar(100) PRIMARY KEY,
    agent_type      varchar(100),
    status          text NOT NULL CHECK (status IN ('success', 'insufficient_data', 'error')),
    reason          text,
    parts           jsonb NOT NULL DEFAULT '{}'::jsonb,
    n_reviews       integer NOT NULL,
    n_contents      integer NOT NULL,
    n_reviewers     integer NOT NULL,
    learning_run_id uuid NOT NULL REFERENCES learning_runs,
    computed_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE rejected_feedback (
    source     text NOT NULL,
    row_id     text NOT NULL,
    reason     text NOT NULL,
    detail     text,
    first_seen timestamptz NOT NULL DEFAULT now(),
    last_seen  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, row_id, reason)
);
COMMENT ON COLUMN rejected_feedback.detail IS 'which field or aspect; never the free text itself';

CREATE TABLE feedback_changes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    source     text NOT NULL,
    operation  text NOT NULL,
    row_id     text,
    old_day    date,
    new_day    date,
    trainable  boolean,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE feedback_changes IS 'changes of the source tables not yet learned from; appended by triggers, deleted by the publish that learned them';
COMMENT ON COLUMN feedback_changes.row_id IS
    'review_feedback: the review; agent_performance: its execution_id; agent_decisions: its performance_id; '
    'content_review_workflows: the workflow; NULL = the whole table (TRUNCATE)';
COMMENT ON COLUMN feedback_changes.trainable IS 'review_feedback only: the review was or is training data';
