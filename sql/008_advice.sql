-- What follows from what was learned: recommendations, how each agent does per segment, where its next outputs should go.

CREATE TABLE agent_recommendations (
    recommendation_id uuid NOT NULL,
    agent_name        varchar(100) NOT NULL,
    rank              integer NOT NULL CHECK (rank BETWEEN 1 AND 10),
    kind              text NOT NULL,
    feature           text,
    direction         text NOT NULL,
    target            jsonb NOT NULL,
    expected_effect   jsonb NOT NULL,
    confidence_score  double precision CHECK (confidence_score >= 0 AND confidence_score <= 1),
    q_value           double precision,
    evidence          jsonb NOT NULL,
    text              text NOT NULL,
    action            jsonb NOT NULL,
    conflicts         jsonb NOT NULL DEFAULT '[]'::jsonb,
    learning_run_id   uuid NOT NULL REFERENCES learning_runs,
    computed_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (agent_name, recommendation_id),
    UNIQUE (agent_name, rank)
);
COMMENT ON TABLE agent_recommendations IS 'what to do about it, best first; replaced by every learning run';
COMMENT ON COLUMN agent_recommendations.recommendation_id IS 'the same in every run and database for as long as its meaning stays';
COMMENT ON COLUMN agent_recommendations.action IS 'the recommendation for machines; its key kind says which other keys it has';
COMMENT ON COLUMN agent_recommendations.evidence IS '{learning_run_id, pattern_ids, n_contents, n_reviewers, window}';

CREATE TABLE content_segments (
    agent_name      varchar(100) NOT NULL,
    family          text NOT NULL,
    segment         text NOT NULL,
    n               integer NOT NULL CHECK (n >= 0),
    approval_raw    double precision,
    approval        double precision,
    approval_low    double precision,
    approval_high   double precision,
    n_scored        integer NOT NULL CHECK (n_scored >= 0),
    score_raw       double precision,
    score           double precision,
    score_low       double precision,
    score_high      double precision,
    learning_run_id uuid NOT NULL,
    PRIMARY KEY (agent_name, family, segment)
);
COMMENT ON TABLE content_segments IS
    'approval and adjusted score per category, or pair of categories, of an agent''s outputs; replaced by every learning run';
COMMENT ON COLUMN content_segments.approval IS
    'shrunken towards what the agent''s other outputs say, with a 90 % interval; approval_raw is the plain rate: never rank by it';

CREATE TABLE content_allocations (
    learning_run_id uuid NOT NULL,
    agent_name      varchar(100) NOT NULL,
    family          text NOT NULL,
    segment         text NOT NULL,
    n               integer NOT NULL CHECK (n >= 0),
    outputs         integer NOT NULL CHECK (outputs >= 0),
    propensity      double precision NOT NULL CHECK (propensity > 0 AND propensity <= 1),
    computed_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (learning_run_id, agent_name, family, segment)
);
-- A year of it is large and in the order of time.
CREATE INDEX idx_content_allocations_computed ON content_allocations USING brin (computed_at);
COMMENT ON TABLE content_allocations IS
    'log of how the next outputs were to be spread over the segments of a family; current = the rows of the last learning run';
COMMENT ON COLUMN content_allocations.propensity IS
    'probability with which an output went to the segment: whoever evaluates the allocation later weighs by its inverse';
COMMENT ON COLUMN content_allocations.computed_at IS 'rows older than a year are removed by the next learning run';

-- Every run writes every live pattern again. Its ids do not compress, and trying to takes most of the time; room in the page lets a
-- row be updated without touching its indexes.
ALTER TABLE agent_learning_patterns
    ALTER COLUMN learned_from_feedback_ids SET STORAGE EXTERNAL,
    SET (fillfactor = 45);
