-- The three roles of the worker. Run it once in the database, as one who may
-- create roles; running it again changes nothing. What the roles may do with the
-- tables is granted by: worker migrate --grant-run worker_run --grant-read worker_read

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['worker_migrate', 'worker_run', 'worker_read'] LOOP
        IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) THEN
            -- Without a password nobody can log in: set one with \password.
            EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION', name);
        END IF;
        EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), name);
    END LOOP;
END $$;

-- worker migrate: makes and changes the tables, and owns them. Where alpha-oracle
-- has made them before, their owner is another role: GRANT that role TO worker_migrate.
GRANT USAGE, CREATE ON SCHEMA public TO worker_migrate;

-- worker serve, run and backfill: no DDL, no TRUNCATE, and no DELETE of bars.
GRANT USAGE ON SCHEMA public TO worker_run;

-- Dashboards and notebooks.
GRANT USAGE ON SCHEMA public TO worker_read;
ALTER ROLE worker_read SET default_transaction_read_only = on;
ALTER ROLE worker_read SET statement_timeout = '5min';
