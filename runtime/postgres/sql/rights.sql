-- Revokes every right on our tables from the roles, except that the auditor may read them. What is granted after this,
-- in the same transaction, is all that the roles have; a session in between sees the earlier rights.
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT nspname AS name FROM pg_namespace
                WHERE nspname = ANY ({schemas}::text[]) AND nspname <> 'public' LOOP
        EXECUTE format('REVOKE ALL ON SCHEMA %I FROM PUBLIC, pitboss_writer, pitboss_reader, pitboss_auditor', one.name);
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO pitboss_writer, pitboss_reader, pitboss_auditor', one.name);
    END LOOP;
    -- A partition that is made for a later month has its parent's rights where it is reached through the parent, and no
    -- others.
    FOR one IN SELECT unnest({schemas}::text[]) AS name LOOP
        EXECUTE format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT ON TABLES TO pitboss_auditor', one.name);
    END LOOP;
    FOR one IN SELECT c.oid::regclass AS name
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = ANY ({schemas}::text[]) AND c.relkind IN ('r', 'p', 'v', 'm')
                  AND c.relowner = 'pitboss_migrator'::regrole LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC, pitboss_writer, pitboss_reader, pitboss_auditor', one.name);
        EXECUTE format('GRANT SELECT ON %s TO pitboss_auditor', one.name);
    END LOOP;
    -- A session that uses the tables may check that they are those of its release.
    EXECUTE format('GRANT SELECT ON %I.schema_migration TO pitboss_writer, pitboss_reader', ({schemas}::text[])[1]);
END $$
