-- The indexes the extraction of a day reads by. Concurrently: the owner of these tables keeps writing.
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_agent_performance_execution ON agent_performance (execution_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_agent_decisions_performance ON agent_decisions (performance_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_content_review_workflows_execution ON content_review_workflows (workflow_execution_id);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_review_feedback_reviewed_at ON review_feedback (reviewed_at);
CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_review_feedback_workflow ON review_feedback (workflow_id);
