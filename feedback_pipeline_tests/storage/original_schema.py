"""A platform's own tables before `migrate`: enums, uuid or text keys, jsonb or text arrays, rows in all of them."""

REVIEWS = """
CREATE TYPE review_stage AS ENUM ('quality_check', 'brand_check', 'seo_review', 'final_approval');
CREATE TYPE review_decision AS ENUM ('approve', 'reject', 'request_changes');
CREATE TABLE review_feedback (
    id UUID PRIMARY KEY,
    workflow_id UUID,
    content_id UUID,
    reviewer_id VARCHAR(255),
    stage review_stage,
    decision review_decision,
    comments TEXT,
    reviewed_at TIMESTAMPTZ
);
"""
ENHANCEMENT = """
ALTER TABLE review_feedback
ADD COLUMN feedback_categories JSONB DEFAULT '{}'::JSONB,
ADD COLUMN quality_scores JSONB DEFAULT '{}'::JSONB,
ADD COLUMN improvement_suggestions TEXT[],
ADD COLUMN feedback_confidence FLOAT CHECK (feedback_confidence >= 0 AND feedback_confidence <= 1),
ADD COLUMN is_training_data BOOLEAN DEFAULT TRUE;
"""
LEARNED = """
CREATE TABLE agent_learning_patterns (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_name VARCHAR(100) NOT NULL,
    agent_type VARCHAR(100) NOT NULL,
    pattern_type VARCHAR(50) NOT NULL,
    pattern_description TEXT,
    input_features JSONB NOT NULL,
    output_characteristics JSONB NOT NULL,
    human_feedback_signals JSONB NOT NULL,
    confidence_score FLOAT NOT NULL CHECK (confidence_score >= 0 AND confidence_score <= 1),
    sample_size INTEGER NOT NULL CHECK (sample_size > 0),
    accuracy_rate FLOAT CHECK (accuracy_rate >= 0 AND accuracy_rate <= 1),
    times_applied INTEGER DEFAULT 0,
    success_rate FLOAT DEFAULT 0,
    last_applied TIMESTAMPTZ,
    learned_from_feedback_ids UUID[],
    learning_algorithm VARCHAR(50) DEFAULT 'pattern_analysis',
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE(agent_name, pattern_type, pattern_description)
);
CREATE TABLE human_preference_models (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    reviewer_id VARCHAR(255) NOT NULL,
    content_preferences JSONB DEFAULT '{}'::JSONB,
    style_preferences JSONB DEFAULT '{}'::JSONB,
    quality_standards JSONB DEFAULT '{}'::JSONB,
    model_version INTEGER DEFAULT 1,
    training_samples INTEGER DEFAULT 0,
    last_updated TIMESTAMPTZ DEFAULT NOW(),
    model_accuracy FLOAT,
    created_at TIMESTAMPTZ DEFAULT NOW(),
    updated_at TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE(reviewer_id, model_version)
);
CREATE TABLE feedback_quality_correlations (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    agent_name VARCHAR(100) NOT NULL,
    agent_output_feature VARCHAR(255) NOT NULL,
    human_feedback_aspect VARCHAR(255) NOT NULL,
    correlation_strength FLOAT NOT NULL CHECK (correlation_strength >= -1 AND correlation_strength <= 1),
    sample_size INTEGER NOT NULL CHECK (sample_size > 0),
    statistical_significance FLOAT,
    feature_range JSONB,
    feedback_impact JSONB,
    last_calculated TIMESTAMPTZ DEFAULT NOW(),
    UNIQUE(agent_name, agent_output_feature, human_feedback_aspect)
);
CREATE INDEX idx_agent_learning_patterns_agent ON agent_learning_patterns(agent_name, agent_type);
CREATE INDEX idx_human_preference_models_reviewer ON human_preference_models(reviewer_id, model_version);
CREATE INDEX idx_feedback_correlations_agent ON feedback_quality_correlations(agent_name, correlation_strength DESC);
INSERT INTO agent_learning_patterns
    (agent_name, agent_type, pattern_type, pattern_description, input_features, output_characteristics,
     human_feedback_signals, confidence_score, sample_size)
VALUES ('writer', 'writer', 'correlation_pattern', 'cost correlates with seo', '{}', '{}', '{}', .5, 9);
INSERT INTO human_preference_models (reviewer_id) VALUES ('rev-1');
INSERT INTO feedback_quality_correlations
    (agent_name, agent_output_feature, human_feedback_aspect, correlation_strength, sample_size)
VALUES ('writer', 'cost', 'seo', .4, 9);
"""
EXECUTIONS = """
CREATE TABLE agent_performance (
    id {key} PRIMARY KEY,
    agent_name VARCHAR(100) NOT NULL,
    agent_type VARCHAR(100),
    execution_id {execution} NOT NULL,
    start_time TIMESTAMPTZ,
    end_time TIMESTAMPTZ,
    duration INTEGER,
    status VARCHAR(20),
    input_tokens INTEGER,
    output_tokens INTEGER,
    cost NUMERIC(12, 6),
    metadata JSONB
);
CREATE TABLE agent_decisions (
    id {key} PRIMARY KEY,
    performance_id {key} REFERENCES agent_performance,
    decision_point VARCHAR(100),
    input_data JSONB,
    output_data {document},
    reasoning TEXT,
    confidence_score FLOAT,
    alternatives_considered {alternatives}
);
CREATE TABLE content_review_workflows (
    id UUID PRIMARY KEY,
    content_id UUID,
    workflow_execution_id {execution}
);
"""
ROWS = """
INSERT INTO agent_performance (id, agent_name, execution_id, start_time, status)
SELECT 'aaaaaaaa-0000-0000-0000-000000000001', 'writer', 'bbbbbbbb-0000-0000-0000-000000000001', '2024-03-01', 'success';
INSERT INTO agent_decisions (id, performance_id, decision_point)
SELECT 'cccccccc-0000-0000-0000-000000000001', 'aaaaaaaa-0000-0000-0000-000000000001', 'draft';
INSERT INTO content_review_workflows (id, workflow_execution_id)
SELECT 'dddddddd-0000-0000-0000-000000000001', 'bbbbbbbb-0000-0000-0000-000000000001';
INSERT INTO review_feedback (id, workflow_id, reviewer_id, stage, decision, comments, reviewed_at)
SELECT gen_random_uuid(), 'dddddddd-0000-0000-0000-000000000001', 'rev-' || i % 3, 'seo_review', 'approve', 'fine ' || i,
       '2024-03-01'
FROM generate_series(1, 500) i;
"""
TABLES = (
    "review_feedback",
    "agent_performance",
    "agent_decisions",
    "content_review_workflows",
    "agent_learning_patterns",
    "human_preference_models",
    "feedback_quality_correlations",
)
VARIANTS = {
    "uuid keys, text[] alternatives": {"key": "UUID", "execution": "UUID", "document": "JSONB", "alternatives": "TEXT[]"},
    "text keys, jsonb alternatives": {"key": "VARCHAR(64)", "execution": "TEXT", "document": "JSON", "alternatives": "JSONB"},
}


def original_schema(variant: str, *, enhanced: bool = False) -> bytes:
    """SQL that creates the tables with rows in all of them."""
    executions = EXECUTIONS.format(**VARIANTS[variant])
    return "\n".join([REVIEWS, ENHANCEMENT if enhanced else "", LEARNED, executions, ROWS]).encode()
