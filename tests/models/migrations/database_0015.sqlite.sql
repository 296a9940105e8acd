-- A database at migration 0015_claiming, as sqlite3's iterdump writes it, made by commit 2dfb28b.
BEGIN TRANSACTION;
CREATE TABLE "customer_order" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY /* The order's id, ord_…. */,
    "number" VARCHAR(64) NOT NULL  /* The order's number as the shop writes it. */,
    "status" VARCHAR(16) NOT NULL  /* NEW, IN_PROGRESS, DONE or CANCELLED. */,
    "comment" TEXT   /* A remark on the order, null while there is none. */,
    "created_at" TIMESTAMP NOT NULL  /* When the order was placed. */,
    "updated_at" TIMESTAMP NOT NULL  /* When the order itself was last saved. */
);
CREATE TABLE "customer_order_customer" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "name" VARCHAR(200) NOT NULL  /* The customer's name. */,
    "phone" VARCHAR(64)   /* The customer's phone number, if known. */,
    "email" VARCHAR(254)   /* The customer's e-mail address, if known. */,
    "order_id" CHAR(36) NOT NULL UNIQUE REFERENCES "customer_order" ("id") ON DELETE CASCADE
);
CREATE TABLE "customer_order_item" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "position" INT NOT NULL  /* The line's place in the order, from 0. */,
    "brand" VARCHAR(200) NOT NULL  /* The part's brand. */,
    "article" VARCHAR(200) NOT NULL  /* The part's article number. */,
    "name" VARCHAR(500) NOT NULL  /* The part's name. */,
    "quantity" INT NOT NULL  /* How many pieces. */,
    "price" VARCHAR(40) NOT NULL  /* The price of one piece. */,
    "order_id" CHAR(36) NOT NULL REFERENCES "customer_order" ("id") ON DELETE CASCADE
);
CREATE TABLE "lead" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY /* The lead's id, lead_…. */,
    "name" VARCHAR(200) NOT NULL  /* Name as entered in the form. */,
    "phone" VARCHAR(64) NOT NULL  /* Phone number as entered in the form. */,
    "status" VARCHAR(16) NOT NULL  /* NEW, IN_PROGRESS or DONE. */,
    "comment" TEXT   /* What the manager noted, null while there is nothing. */,
    "created_at" TIMESTAMP NOT NULL  /* When the callback was requested. */,
    "updated_at" TIMESTAMP NOT NULL  /* When the lead was last saved. */
);
CREATE TABLE "ringback_api_token" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "name" VARCHAR(200) NOT NULL,
    "role" VARCHAR(16) NOT NULL  /* ADMIN: ADMIN */,
    "token_hash" VARCHAR(64) NOT NULL UNIQUE,
    "created_at" TIMESTAMP NOT NULL,
    "expires_at" TIMESTAMP,
    "last_used_at" TIMESTAMP,
    "revoked_at" TIMESTAMP
);
CREATE TABLE "ringback_attempt" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "webhook_id" CHAR(36) NOT NULL  /* The event's webhook, so that a webhook's attempts are listed without a join. */,
    "number" INT NOT NULL,
    "started_at" TIMESTAMP NOT NULL,
    "duration_ms" INT,
    "outcome" VARCHAR(16) NOT NULL  /* DELIVERED: DELIVERED\nREJECTED: REJECTED\nTIMED_OUT: TIMED_OUT\nUNREACHABLE: UNREACHABLE\nTLS_FAILED: TLS_FAILED\nBLOCKED: BLOCKED\nBAD_RESPONSE: BAD_RESPONSE\nRENDER_FAILED: RENDER_FAILED\nABANDONED: ABANDONED */,
    "error" TEXT,
    "status_code" INT,
    "request" JSON   /* {method, url, headers: [[name, value]], body}, secrets masked, null when nothing was sent. */,
    "response" JSON   /* {headers: [[name, value]], body, body_truncated}, null when there was no answer. */,
    "event_id" CHAR(36) NOT NULL REFERENCES "ringback_event" ("id") ON DELETE RESTRICT,
    CONSTRAINT "uid_ringback_at_event_i_9c8d7d" UNIQUE ("event_id", "number")
);
CREATE TABLE "ringback_change" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "model" VARCHAR(100) NOT NULL,
    "action" VARCHAR(8) NOT NULL  /* CREATED: CREATED\nUPDATED: UPDATED\nDELETED: DELETED */,
    "object_id" VARCHAR(255) NOT NULL,
    "item" JSON NOT NULL,
    "changed_fields" JSON NOT NULL,
    "created_at" TIMESTAMP NOT NULL
);
CREATE TABLE "ringback_declared_model" (
    "name" VARCHAR(100) NOT NULL  PRIMARY KEY,
    "label" VARCHAR(200) NOT NULL  /* Its name for people. */,
    "description" TEXT NOT NULL,
    "json_schema" TEXT NOT NULL  /* JSON text, so that the compiled schema is found by it. */,
    "sample" JSON NOT NULL,
    "created_at" TIMESTAMP NOT NULL,
    "updated_at" TIMESTAMP NOT NULL
);
CREATE TABLE "ringback_event" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "model" VARCHAR(100) NOT NULL,
    "action" VARCHAR(8) NOT NULL  /* CREATED: CREATED\nUPDATED: UPDATED\nDELETED: DELETED */,
    "object_id" VARCHAR(255),
    "is_test" INT NOT NULL,
    "test_item" JSON   /* What a test-fire sends, a real event has its change's snapshot. */,
    "status" VARCHAR(12) NOT NULL  /* PENDING: PENDING\nRETRYING: RETRYING\nSUCCEEDED: SUCCEEDED\nFAILED: FAILED\nCANCELLED: CANCELLED */,
    "attempt_count" INT NOT NULL  /* The number of the last attempt on record. */,
    "attempts_before_round" INT NOT NULL  /* Attempts that the present round of the schedule does not count: earlier rounds, and abandoned ones. */,
    "abandoned_in_a_row" INT NOT NULL  /* Attempts in a row that died between sending and recording, five end the event (rule 6). */,
    "max_attempts" INT NOT NULL,
    "next_attempt_at" TIMESTAMP,
    "due_at" TIMESTAMP,
    "lease" CHAR(36)   /* Who delivers it now, null while nobody does. */,
    "lease_begun_at" TIMESTAMP   /* When the worker that holds the lease began, from when on its death may lie between sending and recording. */,
    "created_at" TIMESTAMP NOT NULL,
    "finished_at" TIMESTAMP,
    "change_id" CHAR(36) REFERENCES "ringback_change" ("id") ON DELETE RESTRICT,
    "webhook_id" CHAR(36) NOT NULL REFERENCES "ringback_webhook" ("id") ON DELETE RESTRICT
);
CREATE TABLE "ringback_idempotency_key" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "model" VARCHAR(100) NOT NULL,
    "key" VARCHAR(255) NOT NULL,
    "digest" VARCHAR(64) NOT NULL  /* SHA-256 of the change, in hexadecimal. */,
    "event_ids" JSON NOT NULL  /* The keys of its events, in order. */,
    "created_at" TIMESTAMP NOT NULL,
    CONSTRAINT "uid_ringback_id_model_b37671" UNIQUE ("model", "key")
);
CREATE TABLE "ringback_inbox" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "token" VARCHAR(64) NOT NULL UNIQUE,
    "name" VARCHAR(200),
    "responses" JSON NOT NULL  /* {status_code, body, content_type, delay_ms}, the n-th for the n-th request, the last one repeats. */,
    "signing_secret" TEXT   /* Encrypted (models.secrets), null when the inbox has none of its own. */,
    "request_count" INT NOT NULL  /* Requests received since the inbox was made or cleared. */,
    "created_at" TIMESTAMP NOT NULL
, "received" BIGINT NOT NULL  /* Requests received since the inbox was made, whether it was cleared or not, by which they are numbered. */ DEFAULT 0);
CREATE TABLE "ringback_inbox_request" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "received_at" TIMESTAMP NOT NULL,
    "method" VARCHAR(32) NOT NULL,
    "url" TEXT NOT NULL  /* Path and query as received. */,
    "headers" JSON NOT NULL,
    "body" BLOB NOT NULL,
    "remote_address" VARCHAR(64),
    "response_status_code" INT NOT NULL,
    "signature" VARCHAR(16) NOT NULL  /* VALID: VALID\nINVALID: INVALID\nABSENT: ABSENT\nNOT_CHECKED: NOT_CHECKED */,
    "event_id" CHAR(36)   /* The event that PS-WEBHOOK_EVENT-ID names, when it is one of ours. */,
    "inbox_id" CHAR(36) NOT NULL REFERENCES "ringback_inbox" ("id") ON DELETE CASCADE
, "attempt_number" INT   /* The number of the attempt of that event that sent it, as Ringback-Attempt says. */, "number" BIGINT NOT NULL  /* Which of its inbox's requests it is, in the order of their commits, 0 when it is older than the numbering. */ DEFAULT 0);
CREATE TABLE "ringback_installation" (
    "id" INT NOT NULL  PRIMARY KEY,
    "epoch" CHAR(36) NOT NULL,
    "created_at" TIMESTAMP NOT NULL
, "server" VARCHAR(64)   /* The Postgres server and database that it was last seen in, null on SQLite. */);
INSERT INTO "ringback_installation" VALUES(1,'01a228ad-f7c2-7698-aa77-105982aec4fc','2026-11-29 19:00:19.521988+00:00',NULL);
CREATE TABLE "ringback_log" (
    "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    "at" TIMESTAMP NOT NULL,
    "kind" VARCHAR(24) NOT NULL  /* EVENT_RECORDED: EVENT_RECORDED\nATTEMPT_FINISHED: ATTEMPT_FINISHED\nRETRY_SCHEDULED: RETRY_SCHEDULED\nEVENT_SUCCEEDED: EVENT_SUCCEEDED\nEVENT_FAILED: EVENT_FAILED\nEVENT_CANCELLED: EVENT_CANCELLED */,
    "message" TEXT NOT NULL,
    "webhook_id" CHAR(36) NOT NULL,
    "event_id" CHAR(36) NOT NULL,
    "attempt_id" CHAR(36),
    "model" VARCHAR(100) NOT NULL  /* The tracked model's name, so that the log can be followed by model. */
, "transaction" BIGINT NOT NULL  /* Postgres's number of the transaction that wrote it, 0 on SQLite. */ DEFAULT 0);
CREATE TABLE "ringback_webhook" (
    "id" CHAR(36) NOT NULL  PRIMARY KEY,
    "name" VARCHAR(200),
    "model" VARCHAR(100) NOT NULL,
    "actions" JSON NOT NULL,
    "is_active" INT NOT NULL,
    "method" VARCHAR(8) NOT NULL  /* GET: GET\nPOST: POST\nPUT: PUT\nPATCH: PATCH\nDELETE: DELETE */,
    "url" TEXT NOT NULL,
    "send_json" INT NOT NULL,
    "body_template" TEXT NOT NULL,
    "content_type" VARCHAR(200),
    "headers" JSON NOT NULL  /* Pairs of name and value, in the order given. */,
    "condition" TEXT,
    "retry_delays" JSON NOT NULL  /* Seconds, one entry an attempt. */,
    "timeout_seconds" REAL NOT NULL,
    "success_policy" VARCHAR(16) NOT NULL  /* STATUS_200: STATUS_200\nANY_2XX: ANY_2XX */,
    "signing_secret" TEXT NOT NULL  /* Encrypted (models.secrets). */,
    "created_at" TIMESTAMP NOT NULL,
    "updated_at" TIMESTAMP NOT NULL,
    "deleted_at" TIMESTAMP
, "max_concurrency" INT   /* Attempts under way at the same time, in all workers together, null for the setting's bound. */, "rate_limit_per_second" REAL   /* Attempts per second, in all workers together, null for no limit. */, "last_slot_at" TIMESTAMP   /* The moment given to the last attempt that the rate let go. */);
CREATE TABLE "site_settings" (
    "id" INT NOT NULL  PRIMARY KEY,
    "track_leads" INT NOT NULL  /* Whether callback requests become leads (rule 10 of the design). */,
    "updated_at" TIMESTAMP NOT NULL
);
INSERT INTO "site_settings" VALUES(1,0,'2026-11-29 19:00:19.521988+00:00');
CREATE TABLE "tortoise_migrations" (
    "id" INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
    "app" VARCHAR(255) NOT NULL,
    "name" VARCHAR(255) NOT NULL,
    "applied_at" TIMESTAMP NOT NULL,
    CONSTRAINT "uid_tortoise_mi_app_3803a5" UNIQUE ("app", "name")
);
INSERT INTO "tortoise_migrations" VALUES(1,'ringback','0001_initial','2026-11-29 19:00:19.515657+00:00');
INSERT INTO "tortoise_migrations" VALUES(2,'ringback','0002_first_rows','2026-11-29 19:00:19.530517+00:00');
INSERT INTO "tortoise_migrations" VALUES(3,'ringback','0003_inbox_attempts','2026-11-29 19:00:19.542424+00:00');
INSERT INTO "tortoise_migrations" VALUES(4,'ringback','0004_following','2026-11-29 19:00:19.578470+00:00');
INSERT INTO "tortoise_migrations" VALUES(5,'ringback','0005_declared_models','2026-11-29 19:00:19.607321+00:00');
INSERT INTO "tortoise_migrations" VALUES(6,'ringback','0006_postgres','2026-11-29 19:00:19.758435+00:00');
INSERT INTO "tortoise_migrations" VALUES(7,'ringback','0007_of_a_webhook','2026-11-29 19:00:19.782716+00:00');
INSERT INTO "tortoise_migrations" VALUES(8,'ringback','0008_limits','2026-11-29 19:00:19.858482+00:00');
INSERT INTO "tortoise_migrations" VALUES(9,'ringback','0009_leases','2026-11-29 19:00:19.985176+00:00');
INSERT INTO "tortoise_migrations" VALUES(10,'ringback','0010_rare','2026-11-29 19:00:20.019389+00:00');
INSERT INTO "tortoise_migrations" VALUES(11,'ringback','0011_waiting_of_a_webhook','2026-11-29 19:00:20.031213+00:00');
INSERT INTO "tortoise_migrations" VALUES(12,'ringback','0012_codes','2026-11-29 19:00:20.058580+00:00');
INSERT INTO "tortoise_migrations" VALUES(13,'ringback','0013_by_webhook','2026-11-29 19:00:20.092731+00:00');
INSERT INTO "tortoise_migrations" VALUES(14,'ringback','0014_one_log_index','2026-11-29 19:00:20.100749+00:00');
INSERT INTO "tortoise_migrations" VALUES(15,'ringback','0015_claiming','2026-11-29 19:00:20.116433+00:00');
CREATE INDEX "idx_ringback_in_inbox_i_8bc753" ON "ringback_inbox_request" ("inbox_id", "id");
CREATE INDEX "idx_ringback_in_event_i_1149b4" ON "ringback_inbox_request" ("event_id");
CREATE INDEX "idx_ringback_we_model_4536e1" ON "ringback_webhook" ("model", "is_active");
CREATE INDEX "idx_ringback_ev_change__6495ac" ON "ringback_event" ("change_id");
CREATE INDEX "idx_ringback_ev_status_7b5780" ON "ringback_event" ("status", "id");
CREATE INDEX "idx_ringback_ev_model_19a2c3" ON "ringback_event" ("model", "id");
CREATE INDEX "idx_ringback_ev_object__f7efec" ON "ringback_event" ("object_id", "id");
CREATE INDEX "idx_ringback_at_outcome_e02d0d" ON "ringback_attempt" ("outcome", "id");
CREATE INDEX "idx_ringback_in_inbox_i_6845a8" ON "ringback_inbox_request" ("inbox_id", "number");
CREATE INDEX "idx_ringback_lo_webhook_d10e71" ON "ringback_log" ("webhook_id", "id");
CREATE INDEX "idx_ringback_id_created_491a36" ON "ringback_idempotency_key" ("created_at");
CREATE INDEX "idx_ringback_at_webhook_69fcdf" ON "ringback_attempt" ("webhook_id", "outcome", "id");
CREATE INDEX "idx_ringback_ev_webhook_b6dea8" ON "ringback_event" ("webhook_id", "status", "id");
CREATE INDEX ringback_event_under_way ON ringback_event (webhook_id) WHERE lease IS NOT NULL;
CREATE INDEX ringback_event_waiting ON ringback_event (status, due_at) WHERE lease IS NULL AND due_at IS NOT NULL;
CREATE INDEX ringback_event_leased ON ringback_event (due_at) WHERE lease IS NOT NULL;
CREATE INDEX ringback_event_tests ON ringback_event (id) WHERE is_test;
CREATE INDEX ringback_attempt_codes ON ringback_attempt (webhook_id, status_code, id) WHERE status_code <> 200;
CREATE INDEX ringback_attempt_odd ON ringback_attempt (status_code, id) WHERE status_code = 200 AND outcome <> 'DELIVERED';
CREATE INDEX ringback_event_waiting_of ON ringback_event (webhook_id, status, due_at) WHERE lease IS NULL AND due_at IS NOT NULL;
CREATE INDEX ringback_attempt_status ON ringback_attempt (status_code, id) WHERE status_code <> 200;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tortoise_migrations',15);
COMMIT;
