CREATE TABLE "artifact_uploads" (
	"id" text PRIMARY KEY NOT NULL,
	"size" bigint NOT NULL,
	"digest" text,
	"parent" text,
	"source" text NOT NULL,
	"created" timestamp with time zone DEFAULT now() NOT NULL,
	"touched" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "artifacts" (
	"digest" text PRIMARY KEY NOT NULL,
	"state" text NOT NULL,
	"reason" text DEFAULT '' NOT NULL,
	"fingerprint" text NOT NULL,
	"encoder" text NOT NULL,
	"bits" integer NOT NULL,
	"head_dim" integer NOT NULL,
	"query_heads" integer NOT NULL,
	"kv_heads" integer NOT NULL,
	"layers" integer[],
	"metadata" jsonb,
	"size" bigint,
	"blob" text,
	"parent" text,
	"source" text NOT NULL,
	"quality" jsonb,
	"created" timestamp with time zone DEFAULT now() NOT NULL,
	"changed" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "audit_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone DEFAULT now() NOT NULL,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"kind" text NOT NULL,
	"object" text NOT NULL,
	"before" jsonb,
	"after" jsonb,
	"reason" text DEFAULT '' NOT NULL
);
--> statement-breakpoint
CREATE TABLE "deployments" (
	"id" text PRIMARY KEY NOT NULL,
	"description" text DEFAULT '' NOT NULL,
	"model_id" text NOT NULL,
	"model_fingerprint" text NOT NULL,
	"settings_digest" text NOT NULL,
	"settings" jsonb,
	"active_artifact" text,
	"activated_by" text NOT NULL,
	"generation" bigint NOT NULL,
	"least_quality" real DEFAULT 0.8 NOT NULL,
	"created" timestamp with time zone DEFAULT now() NOT NULL,
	"changed" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "deployments_of" UNIQUE("model_id","model_fingerprint","settings_digest")
);
--> statement-breakpoint
ALTER TABLE "deployments" ADD CONSTRAINT "deployments_active_artifact_artifacts_digest_fk" FOREIGN KEY ("active_artifact") REFERENCES "public"."artifacts"("digest") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "artifacts_fingerprint" ON "artifacts" USING btree ("fingerprint");--> statement-breakpoint
CREATE INDEX "audit_log_object" ON "audit_log" USING btree ("kind","object");--> statement-breakpoint
CREATE FUNCTION "audit_log_append_only"() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	RAISE EXCEPTION 'audit_log is append-only: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;--> statement-breakpoint
CREATE TRIGGER "audit_log_append_only" BEFORE UPDATE OR DELETE OR TRUNCATE ON "audit_log" FOR EACH STATEMENT EXECUTE FUNCTION "audit_log_append_only"();
