CREATE TABLE "key_slots" (
	"key_id" text NOT NULL,
	"holder" text NOT NULL,
	"slots" integer NOT NULL,
	"expires" timestamp with time zone NOT NULL,
	CONSTRAINT "key_slots_key_id_holder_pk" PRIMARY KEY("key_id","holder")
);
--> statement-breakpoint
CREATE TABLE "key_usage" (
	"key_id" text NOT NULL,
	"kind" text NOT NULL,
	"minute" integer NOT NULL,
	"used" bigint NOT NULL,
	CONSTRAINT "key_usage_key_id_kind_minute_pk" PRIMARY KEY("key_id","kind","minute")
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "expires" timestamp with time zone;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "requests_per_minute" integer;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "tokens_per_minute" bigint;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "concurrent_requests" integer;--> statement-breakpoint
ALTER TABLE "api_keys" ADD COLUMN "token_budget" bigint;