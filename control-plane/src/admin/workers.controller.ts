// /api/v1/workers: every worker ever seen with what is live of it, and draining.
import { Body, Controller, Get, HttpCode, Inject, Param, Put } from '@nestjs/common';
import { z } from 'zod';
import { Actor } from '../auth/actor.js';
import { Requires } from '../auth/auth.guard.js';
import { Describe } from '../openapi/operation.js';
import { parseBody } from '../openai/parse-body.js';
import { DesiredState } from '../workers/desired-state.js';
import { Fleet } from '../workers/fleet.js';
import { Registry } from '../workers/registry.js';
import { WORKER } from './shapes.js';
import type { WorkerView } from './worker-view.js';
import { workerView } from './worker-view.js';

const DRAIN = z.strictObject({ drain: z.boolean() });

@Controller('api/v1/workers')
@Requires('admin')
export class WorkersController {
  constructor(
    @Inject(Registry) private readonly registry: Registry,
    @Inject(Fleet) private readonly fleet: Fleet,
    @Inject(DesiredState) private readonly desired: DesiredState,
  ) {}

  @Get()
  @Describe({
    summary: 'Lists every worker ever seen, with what is live of it',
    answer: z.object({ workers: z.array(WORKER) }),
  })
  async list(): Promise<{ workers: WorkerView[] }> {
    const rows = await this.registry.workers();
    const live = new Map(this.fleet.snapshots().map((snapshot) => [snapshot.workerId, snapshot]));
    return { workers: rows.map((row) => workerView(row, live.get(row.id), this.fleet.detail(row.id))) };
  }

  @Put(':id/drain')
  @HttpCode(204)
  @Describe({
    summary: 'Lets a worker finish what it has and take nothing new, or takes that back',
    body: DRAIN,
    status: 204,
    errors: ['not_found'],
  })
  async drain(@Param('id') id: string, @Body() body: unknown, @Actor() actor: string): Promise<void> {
    await this.desired.setDrain(id, parseBody(DRAIN, body).drain, actor);
  }
}
