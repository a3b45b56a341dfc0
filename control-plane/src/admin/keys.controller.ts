// /api/v1/keys: make, list, limit and revoke API keys; a key of scope worker is a join token. The key itself is in the answer to
// POST and nowhere else, ever.
import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Patch, Post } from '@nestjs/common';
import { z } from 'zod';
import { Requires } from '../auth/auth.guard.js';
import type { KeyInfo, KeyTerms } from '../auth/key-store.js';
import { KeyStore } from '../auth/key-store.js';
import { Actor } from '../auth/actor.js';
import { SCOPES } from '../auth/scopes.js';
import { invalidArgument } from '../errors/service-error.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { KEY, KEY_LIMITS } from './shapes.js';

const LIMITS = KEY_LIMITS.partial();

const TERMS = {
  /** RFC 3339, in UTC or with its offset; null: until revoked. */
  expires: z.iso.datetime({ offset: true }).nullable().optional(),
  limits: LIMITS.optional(),
};

const NEW_KEY = z.strictObject({
  name: z.string().min(1).max(100),
  scopes: z.array(z.enum(SCOPES)).min(1).default(['generate']),
  ...TERMS,
});

const CHANGE = z.strictObject(TERMS);

@Controller('api/v1/keys')
@Requires('admin')
export class KeysController {
  constructor(@Inject(KeyStore) private readonly keys: KeyStore) {}

  @Post()
  @Describe({
    summary: 'Makes a key; this answer is the only place it is ever shown',
    body: NEW_KEY,
    status: 201,
    answer: KEY.extend({ key: z.string() }),
  })
  async create(@Body() body: unknown, @Actor() actor: string): Promise<KeyInfo & { key: string }> {
    const { name, scopes, ...terms } = parseBody(NEW_KEY, body);
    const { key, info } = await this.keys.create(name, [...new Set(scopes)], actor, termsOf(terms));
    return { ...info, key };
  }

  @Get()
  @Describe({ summary: 'Lists live keys', answer: z.object({ keys: z.array(KEY) }) })
  async list(): Promise<{ keys: KeyInfo[] }> {
    return { keys: await this.keys.list() };
  }

  @Patch(':id')
  @Describe({
    summary: 'Changes the limits of a key, or when it ends; what is not named stays',
    body: CHANGE,
    answer: KEY,
    errors: ['not_found'],
  })
  change(@Param('id') id: string, @Body() body: unknown, @Actor() actor: string): Promise<KeyInfo> {
    return this.keys.change(id, termsOf(parseBody(CHANGE, body)), actor);
  }

  @Delete(':id')
  @HttpCode(204)
  @Describe({ summary: 'Revokes a key', status: 204, errors: ['not_found'] })
  async revoke(@Param('id') id: string, @Actor() actor: string): Promise<void> {
    await this.keys.revoke(id, actor);
  }
}

/** @throws ServiceError INVALID_ARGUMENT for an end that has passed */
function termsOf({ expires, limits }: z.infer<typeof CHANGE>): KeyTerms {
  const end = typeof expires === 'string' ? new Date(expires) : expires;
  if (end instanceof Date && end.getTime() <= Date.now()) {
    throw invalidArgument(
      'expires',
      `expires ${end.toISOString()} has passed; give a time to come, or null.`,
    );
  }
  return { ...(end === undefined ? {} : { expires: end }), limits: limits ?? {} };
}
