-- The index outputs without a review are found by. Concurrently: the owner of the table keeps writing.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_agent_performance_start_time ON agent_performance (start_time);
