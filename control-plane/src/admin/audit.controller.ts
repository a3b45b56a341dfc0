// /api/v1/audit: who changed what, latest first.
import { Controller, Get, Inject, Query } from '@nestjs/common';
import { z } from 'zod';
import type { AuditRow } from '../audit/audit-log.js';
import { AuditLog } from '../audit/audit-log.js';
import { Requires } from '../auth/auth.guard.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { AUDIT_ENTRY, LIMIT } from './shapes.js';

const word = z.string().min(1).max(200).optional();
const LIST = z.strictObject({
  kind: word,
  object: word,
  actor: word,
  before: z.coerce.number().int().min(1).optional(),
  limit: LIMIT,
});

@Controller('api/v1/audit')
@Requires('admin')
export class AuditController {
  constructor(@Inject(AuditLog) private readonly log: AuditLog) {}

  @Get()
  @Describe({
    summary: 'Lists changes, latest first; `next` is `before` of the page that follows, null on the last one',
    query: LIST,
    answer: z.object({ entries: z.array(AUDIT_ENTRY), next: z.number().nullable() }),
  })
  async list(@Query() query: unknown): Promise<{ entries: AuditRow[]; next: number | null }> {
    const wanted = parseBody(LIST, query);
    const entries = await this.log.list(wanted);
    return { entries, next: entries.length < wanted.limit ? null : (entries.at(-1)?.id ?? null) };
  }
}
