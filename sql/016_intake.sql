-- What clients of the API have sent: each item is stored once, however often it is sent.

CREATE TABLE intake_receipts (
    receipt     uuid PRIMARY KEY,
    received_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE intake_receipts IS
    'one row for every execution and review that was sent; it outlives the row it stands for, so what was forgotten does not come back';
COMMENT ON COLUMN intake_receipts.receipt IS 'a hash of the id its client gave it';

-- Still one function grants everything to the two roles.
ALTER FUNCTION feedback_grant_roles() RENAME TO feedback_grant_tables;
CREATE FUNCTION feedback_grant_roles() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM feedback_grant_tables();
    IF (SELECT count(*) FROM pg_roles WHERE rolname IN ('feedback_reader', 'feedback_writer')) = 2 THEN
        -- It salts who is held out: an agent reads it with its recommendations.
        GRANT SELECT (id) ON installation TO feedback_reader, feedback_writer;
        GRANT SELECT, INSERT, DELETE ON intake_receipts TO feedback_writer;
    END IF;
END $$;

SELECT feedback_grant_roles();
