-- Does applying a recommendation help: who applied it and who was held out, and what became of its trials.

CREATE TABLE learning_applications (
    application_id    uuid PRIMARY KEY,
    pattern_id        text NOT NULL CHECK (pattern_id <> ''),
    trial             integer NOT NULL CHECK (trial > 0),
    agent_name        varchar(100) NOT NULL,
    execution_id      text NOT NULL CHECK (execution_id <> ''),
    applied           boolean NOT NULL,
    propensity        double precision NOT NULL CHECK (propensity > 0 AND propensity < 1),
    predicted_quality double precision CHECK (predicted_quality >= 0 AND predicted_quality <= 1),
    assigned_at       timestamptz NOT NULL,
    UNIQUE (pattern_id, trial, execution_id)
);
CREATE INDEX idx_learning_applications_execution ON learning_applications (execution_id);
COMMENT ON TABLE learning_applications IS
    'every decision to apply a recommendation in an execution, or to hold it out; written before the outcome, never changed';
COMMENT ON COLUMN learning_applications.application_id IS 'made by the client: sent again it changes nothing';
COMMENT ON COLUMN learning_applications.pattern_id IS 'agent_recommendations.recommendation_id';
COMMENT ON COLUMN learning_applications.propensity IS 'probability with which it was applied; never 0 or 1, or nothing could be measured';
COMMENT ON COLUMN learning_applications.predicted_quality IS 'expected probability of approval as it was known then; NULL = no forecast';
COMMENT ON COLUMN learning_applications.assigned_at IS 'when it was decided; only decisions of reviewers after it are its outcome';

CREATE TABLE pattern_effects (
    pattern_id            text NOT NULL,
    trial                 integer NOT NULL CHECK (trial > 0),
    agent_name            varchar(100) NOT NULL,
    state                 text NOT NULL CHECK (state IN ('candidate', 'probation', 'active', 'retired')),
    p_on                  double precision NOT NULL CHECK (p_on >= 0 AND p_on < 1),
    target                jsonb NOT NULL,
    recommendation        jsonb NOT NULL DEFAULT '{}'::jsonb,
    pattern_ids           uuid[] NOT NULL DEFAULT '{}',
    n                     integer NOT NULL DEFAULT 0 CHECK (n >= 0),
    n_applied             integer NOT NULL DEFAULT 0 CHECK (n_applied >= 0),
    n_held_out            integer NOT NULL DEFAULT 0 CHECK (n_held_out >= 0),
    n_waiting             integer NOT NULL DEFAULT 0 CHECK (n_waiting >= 0),
    success_rate          double precision CHECK (success_rate >= 0 AND success_rate <= 1),
    success_rate_held_out double precision CHECK (success_rate_held_out >= 0 AND success_rate_held_out <= 1),
    uplift                double precision CHECK (uplift <> 'NaN'),
    low                   double precision CHECK (low <> 'NaN'),
    high                  double precision CHECK (high <> 'NaN'),
    reason                text NOT NULL,
    since                 timestamptz NOT NULL,
    started_at            timestamptz NOT NULL,
    computed_at           timestamptz,
    looks                 jsonb NOT NULL DEFAULT '[]'::jsonb,
    PRIMARY KEY (pattern_id, trial),
    CHECK (n = n_applied + n_held_out),
    CHECK ((low IS NULL) = (high IS NULL)),
    CHECK (low <= high),
    CHECK ((state IN ('candidate', 'retired')) = (p_on = 0))
);
-- One trial of a pattern at a time; the pictures and the readers of one agent.
CREATE UNIQUE INDEX idx_pattern_effects_open ON pattern_effects (pattern_id) WHERE state <> 'retired';
CREATE INDEX idx_pattern_effects_agent ON pattern_effects (agent_name);
COMMENT ON TABLE pattern_effects IS
    'every trial of every recommendation: candidate -> probation -> active -> retired, with the measured uplift in approval';
COMMENT ON COLUMN pattern_effects.trial IS 'counts from 1; a target beyond the old one''s interval, or a new finding after a retirement, starts the next';
COMMENT ON COLUMN pattern_effects.target IS 'what is on trial; it stays from the first application to the end of the trial';
COMMENT ON COLUMN pattern_effects.recommendation IS 'the recommendation as it is on trial, without the evidence of the day';
COMMENT ON COLUMN pattern_effects.pattern_ids IS 'the patterns behind it, as last published: their counters are those of its applications';
COMMENT ON COLUMN pattern_effects.n IS 'executions with a human decision after the assignment; n_waiting: those without one yet';
COMMENT ON COLUMN pattern_effects.success_rate IS 'approved among those that applied it; only the uplift compares like with like';
COMMENT ON COLUMN pattern_effects.low IS 'with high: 95 % confidence sequence of the uplift, which holds however often one looks';
COMMENT ON COLUMN pattern_effects.since IS 'when the state was reached';
COMMENT ON COLUMN pattern_effects.looks IS 'the confidence sequence over time, thinned: [[n, uplift, low, high], ...]';

-- What is recommended today goes on trial as it is.
INSERT INTO pattern_effects (pattern_id, trial, agent_name, state, p_on, target, recommendation, pattern_ids, reason, since, started_at)
SELECT recommendation_id::text, 1, agent_name, 'probation', 0.5,
       CASE WHEN kind = 'ask_reviewer_standard' THEN '{}'::jsonb ELSE target END,
       CASE WHEN kind = 'ask_reviewer_standard' THEN '{}'::jsonb ELSE jsonb_build_object(
           'kind', kind, 'feature', feature, 'direction', direction, 'target', target, 'expected_effect', expected_effect,
           'confidence', confidence_score, 'q_value', q_value, 'text', text, 'action', action) END,
       ARRAY(SELECT jsonb_array_elements_text(evidence -> 'pattern_ids')::uuid), 'on trial: nothing is decided yet', computed_at, computed_at
FROM agent_recommendations;

ALTER TABLE agent_learning_patterns ADD COLUMN IF NOT EXISTS success_rate_held_out double precision;
COMMENT ON COLUMN agent_learning_patterns.times_applied IS 'executions that applied a recommendation made of it; the holdout does not count';
COMMENT ON COLUMN agent_learning_patterns.success_rate IS 'approved among those that are decided; beside it the same of the holdout';
