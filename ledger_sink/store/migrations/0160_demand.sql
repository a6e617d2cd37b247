-- Fails the statement, and with it the transaction, unless something holds. A worker can so send COMMIT along with its
-- writes: what it would have compared afterwards, the statements compare themselves.
CREATE FUNCTION demand(holds boolean, otherwise text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF holds IS NOT TRUE THEN
        RAISE EXCEPTION USING ERRCODE = 'PB001', MESSAGE = otherwise;
    END IF;
END
$$;
