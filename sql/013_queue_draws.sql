-- What was put first for review, with the probability that it would be: reviews weighted by its inverse are unbiased.

CREATE TABLE queue_draws (
    draw_id       uuid NOT NULL,
    place         integer NOT NULL CHECK (place > 0),
    agent_name    varchar(100) NOT NULL,
    execution_id  text NOT NULL,
    why           text NOT NULL,
    propensity    double precision NOT NULL CHECK (propensity > 0 AND propensity <= 1),
    p_approve     double precision,
    model_version integer NOT NULL REFERENCES quality_models,
    n_outputs     integer NOT NULL CHECK (n_outputs > 0),
    seed          bigint NOT NULL,
    drawn_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (draw_id, place)
);
CREATE INDEX idx_queue_draws_output ON queue_draws (execution_id, agent_name);
COMMENT ON TABLE queue_draws IS 'append-only: every different queue that was shown; asking again for the same one adds nothing';
COMMENT ON COLUMN queue_draws.draw_id IS 'of the model, the seed and the outputs in their places';
COMMENT ON COLUMN queue_draws.propensity IS 'probability to be among the places of this draw, over random lists';
COMMENT ON COLUMN queue_draws.n_outputs IS 'outputs that waited; the draw holds the first of them';
