-- One row for a batch and an attempt, whoever decides how often: two daemons that look at once make one run. And what the webhook
-- has not taken yet, so that a failure is told however often the teller dies.

ALTER TABLE trigger_decisions
    ADD COLUMN attempt     integer,
    ADD COLUMN alert       jsonb,
    ADD COLUMN alert_after timestamptz;
COMMENT ON COLUMN trigger_decisions.reason IS
    'why, in numbers; {since <moment>} and {until <moment>} stand for the time that has gone by, or is left, when it is read';
COMMENT ON COLUMN trigger_decisions.batch_id IS
    'what the run is for: of the pending changes of reviews their first id, last id and number, else the alarm';
COMMENT ON COLUMN trigger_decisions.agents IS '{agent: pending reviews}, of those that were looked up: the oldest ones';
COMMENT ON COLUMN trigger_decisions.attempt IS 'of a run that was asked for: 1 for the first run of its batch';
COMMENT ON COLUMN trigger_decisions.alert IS 'of a failed run: what the webhook has not taken yet; NULL = nothing is to be told';
COMMENT ON COLUMN trigger_decisions.alert_after IS 'when the webhook is tried again; NULL = at once';
-- Rows of before have no attempt, and each is distinct.
CREATE UNIQUE INDEX idx_trigger_decisions_attempt ON trigger_decisions (batch_id, attempt);
CREATE INDEX idx_trigger_decisions_unnamed ON trigger_decisions (id) WHERE attempt IS NOT NULL AND run_id IS NULL;
CREATE INDEX idx_trigger_decisions_alert ON trigger_decisions (id) WHERE alert IS NOT NULL;
