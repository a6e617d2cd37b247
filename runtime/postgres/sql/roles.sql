-- Creates the roles that sessions work under; none of them can log in. They belong to the server: another namespace may
-- be creating them at this moment. The login that creates a role may also take it, so that one login can do everything
-- if the installation uses only one; the server's administrator grants a role to other logins.
DO $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY {roles}::text[] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
                IF NOT pg_has_role(role_name, 'SET') THEN
                    EXECUTE format('GRANT %I TO CURRENT_USER', role_name);
                END IF;
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
    END LOOP;
END $$
