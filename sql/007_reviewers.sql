-- What is known of the reviewers: their models in versions, how far they agree, who can be compared with whom, severity by month.

ALTER TABLE human_preference_models
    ADD COLUMN IF NOT EXISTS severity jsonb,
    ADD COLUMN IF NOT EXISTS baseline_accuracy double precision,
    ADD COLUMN IF NOT EXISTS n_test integer CHECK (n_test >= 0),
    ADD COLUMN IF NOT EXISTS reviews_digest text,
    ADD COLUMN IF NOT EXISTS superseded_by_run uuid,
    ADD COLUMN IF NOT EXISTS superseded_reason text;
COMMENT ON COLUMN human_preference_models.reviews_digest IS
    'of the reviewer''s own reviews in the window: another digest makes a new version, else the version is updated';
COMMENT ON COLUMN human_preference_models.superseded_by_run IS 'the learning run that replaced this version or lost the reviewer';

CREATE TABLE reviewer_agreement (
    agent_name       varchar(100) NOT NULL,
    aspect           text NOT NULL,
    alpha            double precision,
    ci_low           double precision,
    ci_high          double precision,
    alpha_adjusted   double precision,
    adjusted_ci_low  double precision,
    adjusted_ci_high double precision,
    n_outputs        integer NOT NULL CHECK (n_outputs >= 0),
    n_reviewers      integer NOT NULL CHECK (n_reviewers >= 0),
    reason           text,
    adjusted_reason  text,
    learning_run_id  uuid NOT NULL REFERENCES learning_runs,
    PRIMARY KEY (agent_name, aspect)
);
COMMENT ON TABLE reviewer_agreement IS
    'Krippendorff''s alpha per aspect and for the decision, before and after severity is removed; agent_name * = all agents';
COMMENT ON COLUMN reviewer_agreement.n_outputs IS 'outputs with two or more known reviewers';

CREATE TABLE reviewer_components (
    reviewer_id     varchar(255) PRIMARY KEY,
    component       integer NOT NULL CHECK (component >= 0),
    learning_run_id uuid NOT NULL REFERENCES learning_runs
);
COMMENT ON TABLE reviewer_components IS 'severity cannot be compared between reviewers of different components; 0 is the largest';

CREATE TABLE reviewer_bridges (
    component       integer PRIMARY KEY CHECK (component > 0),
    agent_name      varchar(100) NOT NULL,
    execution_id    text NOT NULL,
    reviewer_id     varchar(255) NOT NULL,
    learning_run_id uuid NOT NULL REFERENCES learning_runs
);
COMMENT ON TABLE reviewer_bridges IS 'a second review of this output by this reviewer connects the component to component 0';

CREATE TABLE reviewer_severity_months (
    reviewer_id     varchar(255) NOT NULL,
    month           text NOT NULL,
    severity        double precision,
    se              double precision,
    ci_low          double precision,
    ci_high         double precision,
    n_reviews       integer NOT NULL CHECK (n_reviews >= 0),
    n_shared        integer NOT NULL CHECK (n_shared >= 0),
    reason          text,
    learning_run_id uuid NOT NULL REFERENCES learning_runs,
    PRIMARY KEY (reviewer_id, month)
);
COMMENT ON TABLE reviewer_severity_months IS 'severity of the overall score by calendar month (UTC), within outputs reviewed by others too';
