-- What the cashier expects of a payment provider: the amounts of its payments are compared with it.
CREATE TABLE opened_deposit (
    event_id     uuid   PRIMARY KEY,
    player_id    text   NOT NULL,
    psp          text   NOT NULL,
    currency     text   NOT NULL,
    amount_minor bigint NOT NULL
);
