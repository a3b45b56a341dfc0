// /api/v1/keys: make, list and revoke API keys. The key itself is in the answer to POST and nowhere else, ever.
import { Body, Controller, Delete, Get, HttpCode, Inject, Param, Post } from '@nestjs/common';
import { z } from 'zod';
import { Requires } from '../auth/auth.guard.js';
import type { KeyInfo } from '../auth/key-store.js';
import { KeyStore } from '../auth/key-store.js';
import { SCOPES } from '../auth/scopes.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { KEY } from './shapes.js';

const NEW_KEY = z.strictObject({
  name: z.string().min(1).max(100),
  scopes: z.array(z.enum(SCOPES)).min(1).default(['generate']),
});

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
  async create(@Body() body: unknown): Promise<KeyInfo & { key: string }> {
    const { name, scopes } = parseBody(NEW_KEY, body);
    const { key, info } = await this.keys.create(name, [...new Set(scopes)]);
    return { ...info, key };
  }

  @Get()
  @Describe({ summary: 'Lists live keys', answer: z.object({ keys: z.array(KEY) }) })
  async list(): Promise<{ keys: KeyInfo[] }> {
    return { keys: await this.keys.list() };
  }

  @Delete(':id')
  @HttpCode(204)
  @Describe({ summary: 'Revokes a key', status: 204, errors: ['not_found'] })
  async revoke(@Param('id') id: string): Promise<void> {
    await this.keys.revoke(id);
  }
}
