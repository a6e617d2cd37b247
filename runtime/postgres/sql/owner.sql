-- Gives the owner of the tables what it needs, and the tables that another role still owns: they are older than the
-- roles.
DO $$
DECLARE
    owner    oid  := 'pitboss_migrator'::regrole;
    ours     text[] := {schemas};
    transfer text;
BEGIN
    IF NOT has_database_privilege(owner, current_database(), 'CREATE') THEN
        EXECUTE format('GRANT CREATE ON DATABASE %I TO pitboss_migrator', current_database());
    END IF;
    IF NOT has_schema_privilege(owner, 'public', 'CREATE') THEN
        GRANT USAGE ON SCHEMA public TO pitboss_writer, pitboss_reader, pitboss_auditor;
        GRANT USAGE, CREATE ON SCHEMA public TO pitboss_migrator;
    END IF;
    FOR transfer IN
        SELECT format('ALTER SCHEMA %I OWNER TO pitboss_migrator', nspname)
          FROM pg_namespace
         WHERE nspname = ANY (ours) AND nspname <> 'public' AND nspowner <> owner
         UNION ALL
        SELECT format('ALTER TABLE %s OWNER TO pitboss_migrator', c.oid::regclass)  -- sequences of columns go with them
          FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = ANY (ours) AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relowner <> owner
           AND NOT EXISTS (SELECT FROM pg_depend d
                            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
         UNION ALL
        SELECT format('ALTER ROUTINE %s OWNER TO pitboss_migrator', p.oid::regprocedure)
          FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname = ANY (ours) AND p.proowner <> owner
           AND NOT EXISTS (SELECT FROM pg_depend d
                            WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE transfer;
    END LOOP;
END $$
