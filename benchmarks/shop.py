"""A shop of any size, filled by the database itself: what the benchmarks read."""

from feedback_pipeline.storage.database import Database

_FILL = """
SELECT setseed(0.42);
INSERT INTO agent_performance (id, agent_name, agent_type, execution_id, start_time, duration, status, input_tokens,
                               output_tokens, cost)
SELECT md5('p' || i)::uuid, 'agent-' || lpad((i % %(agents)s)::text, 4, '0'), 'writer', md5('e' || i)::uuid::text,
       timestamptz '2026-01-01 UTC' + (i * interval '%(days)s days') / %(outputs)s, exp(8 + random()), 'success',
       (exp(6 + random()))::bigint, (exp(6 + random()))::bigint, exp(random() - 4)
FROM generate_series(0, %(outputs)s - 1) AS i;
INSERT INTO agent_decisions (id, performance_id, decision_point, input_data, output_data, reasoning, confidence_score,
                             alternatives_considered)
SELECT md5('d' || i || '-' || j)::uuid, md5('p' || i)::uuid, CASE j WHEN 0 THEN 'plan' ELSE 'draft' END,
       '{"topic": "spring", "keywords": ["garden", "tools"], "tone": "friendly", "content_type": "blog_post",'
       ' "channel": "website", "structure": "list"}'::jsonb,
       CASE WHEN j = 1 THEN jsonb_build_object('content', repeat('Garden tools for the spring. ', 20 + (random() * 90)::int))
            ELSE '{}' END,
       repeat('because ', 20 + (random() * 80)::int), random(), '["a", "b"]'::jsonb
FROM generate_series(0, %(outputs)s - 1) AS i, generate_series(0, 1) AS j;
INSERT INTO content_review_workflows (id, content_id, workflow_execution_id, created_at)
SELECT md5('w' || i)::uuid, md5('c' || i)::uuid, md5('e' || i)::uuid::text, now() FROM generate_series(0, %(outputs)s - 1) AS i;
INSERT INTO review_feedback (id, workflow_id, content_id, reviewer_id, stage, decision, comments, reviewed_at, quality_scores)
SELECT md5('r' || i || '-' || j)::uuid, md5('w' || i)::uuid, md5('c' || i)::uuid,
       'reviewer-' || lpad((random() * (%(reviewers)s - 1))::int::text, 5, '0'), 'quality_check',
       (ARRAY['approve', 'reject', 'request_changes'])[1 + (random() * 2)::int]::review_decision, 'reads well',
       timestamptz '2026-01-01 06:00 UTC' + (i * interval '%(days)s days') / %(outputs)s,
       format('{"content_quality": {"score": %%s}, "brand_alignment": {"score": %%s}, "seo_effectiveness": {"score": %%s},'
              ' "audience_targeting": {"score": %%s}}', 1 + (random() * 9)::int, 1 + (random() * 9)::int, 1 + (random() * 9)::int,
              1 + (random() * 9)::int)::jsonb
FROM generate_series(0, %(outputs)s - 1) AS i, generate_series(0, 1) AS j;
"""


def fill_shop(database: Database, *, reviews: int, agents: int = 50, reviewers: int = 200, days: int = 60) -> None:
    """Two reviews and two decisions an output, four aspects a review, spread evenly over the days.

    Texts have about 320 words, reasonings 60, as in the simulated world. The triggers that track changes do not fire: these are
    rows an installation already had.

    Args:
        database: Migrated and empty.
        reviews: Rows of review_feedback, even.
        agents: Agents the outputs belong to in turn.
        reviewers: Reviewers drawn at random.
        days: Length of the period from 2026-01-01.
    """
    numbers = {"outputs": reviews // 2, "agents": agents, "reviewers": reviewers, "days": days}
    text = _FILL
    for name, value in numbers.items():
        text = text.replace(f"%({name})s", str(value))
    with database.connect() as connection:
        connection.execute("SET session_replication_role = replica")
        for statement in text.replace("%%", "%").split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())
    with database.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
